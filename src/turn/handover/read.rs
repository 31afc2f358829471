//! Records as live state: each field is checked, whoever wrote it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::bytes::Bytes;
use super::problem::Flaw;
use super::record::{
    AllocationRecord, ChannelRecord, ClientRecord, FamilyRecord, MissingRecord, OriginRecord,
    OwnerRecord, PersonRecord, ProofRecord, RelayRecord,
};
use crate::stun::{Algorithm, ChannelNumber, ChannelRange, TransactionId};
use crate::time::{Instant, UnixTime};
use crate::turn::access_token::AccessToken;
use crate::turn::allocation::{Neighbour, Origin};
use crate::turn::auth::MAX_USERNAME;
use crate::turn::five_tuple::{Family, FiveTuple, Transport};
use crate::turn::keys::StoredKey;
use crate::turn::owner::{Owner, Person, Proof};
use crate::turn::relay::{Relay, Relays, Socket};
use crate::turn::reply::Missing;
use crate::turn::reservation::Token;
use crate::turn::ticket::Ticket;

/// The longest time that LIFETIME can say.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

type Read<T> = Result<T, Flaw>;

/// When what has `nanos` nanoseconds left ends.
pub(super) fn until(nanos: u64, now: Instant, field: &'static str) -> Read<Instant> {
    let left = Duration::from_nanos(nanos);
    (left <= LONGEST)
        .then(|| now + left)
        .ok_or(Flaw::Invalid(field))
}

/// A time that LIFETIME can say.
pub(super) fn lifetime(seconds: u64) -> Read<Duration> {
    let lifetime = Duration::from_secs(seconds);
    (lifetime <= LONGEST)
        .then_some(lifetime)
        .ok_or(Flaw::Invalid("lifetime"))
}

pub(super) fn transaction(bytes: &Bytes) -> Read<TransactionId> {
    let id = bytes.exactly().map(TransactionId);
    id.ok_or(Flaw::Invalid("transaction"))
}

pub(super) fn token(bytes: &Bytes) -> Read<Token> {
    bytes.exactly().map(Token).ok_or(Flaw::Invalid("token"))
}

pub(super) fn ticket(bytes: &Bytes) -> Read<Ticket> {
    Ticket::read(&bytes.0).ok_or(Flaw::Invalid("ticket"))
}

/// An address as a five-tuple or a socket has it.
fn is_address(address: SocketAddr) -> bool {
    address.port() != 0 && is_canonical(address.ip())
}

fn is_canonical(ip: IpAddr) -> bool {
    ip.to_canonical() == ip && !ip.is_unspecified()
}

impl ClientRecord {
    pub(super) fn read(&self, field: &'static str) -> Read<FiveTuple> {
        let Self { client, server } = *self;
        let is_sound = is_address(client) && is_address(server);
        let is_one_family = client.is_ipv4() == server.is_ipv4();
        (is_sound && is_one_family)
            .then_some(FiveTuple {
                transport: Transport::Udp,
                client,
                server,
            })
            .ok_or(Flaw::Invalid(field))
    }
}

impl AllocationRecord {
    /// The relays, whose sockets are still to come.
    pub(super) fn relays(&self, now: Instant) -> Read<Relays> {
        match self.relays.as_slice() {
            [one] => Ok(Relays::one(one.read(now)?)),
            [one, other] => {
                let (one, other) = (one.read(now)?, other.read(now)?);
                if one.family() == other.family() {
                    return Err(Flaw::Invalid("relays"));
                }
                Ok(Relays::two(one, other))
            }
            _ => Err(Flaw::Invalid("relays")),
        }
    }

    /// Whom the allocation of `owner` counts for.
    pub(super) fn person(&self, owner: &Owner) -> Read<Person> {
        let person = self.person.as_ref();
        person.map_or_else(|| Ok(owner.person()), PersonRecord::read)
    }
}

impl RelayRecord {
    pub(super) fn read(&self, now: Instant) -> Read<Relay> {
        let (local, public) = (self.local, self.public);
        let is_one_family = local.is_ipv4() == public.is_ipv4();
        if !is_one_family || !is_canonical(local) || !is_address(public) {
            return Err(Flaw::Invalid("relays"));
        }
        Ok(Relay {
            socket: Socket::LAST_TRY,
            expires: until(self.left, now, "relays")?,
            ..Relay::new(local, public)
        })
    }
}

impl ChannelRecord {
    pub(super) fn number(&self) -> Read<ChannelNumber> {
        // What the policy serves decides when a packet comes.
        let number = ChannelRange::Rfc5766.number(self.number);
        number.ok_or(Flaw::Invalid("channels"))
    }
}

impl OwnerRecord {
    pub(super) fn read(&self) -> Read<Owner> {
        if self.username.len() > MAX_USERNAME {
            return Err(Flaw::Invalid("username"));
        }
        Ok(Owner {
            username: self.username.as_str().into(),
            proof: self.proof.read().ok_or(Flaw::Invalid("proof"))?,
        })
    }
}

impl ProofRecord {
    fn read(&self) -> Option<Proof> {
        Some(match self {
            Self::Password { key, expires } => Proof::Password {
                key: StoredKey::from_bytes(&key.0)?,
                expires: expires.map(UnixTime),
            },
            Self::Token(token) => Proof::Token(AccessToken::decode(&token.0)?),
        })
    }
}

impl PersonRecord {
    pub(super) fn read(&self) -> Read<Person> {
        match self {
            Self::User(name) if name.len() <= MAX_USERNAME => {
                Ok(Person::User(name.as_str().into()))
            }
            Self::User(_) => Err(Flaw::Invalid("person")),
            Self::Session(digest) => {
                let digest = digest.exactly().ok_or(Flaw::Invalid("person"))?;
                Ok(Person::Session(Box::new(digest)))
            }
        }
    }
}

impl OriginRecord {
    pub(super) fn read(&self) -> Read<Origin> {
        let neighbour = match &self.reserved {
            None => Neighbour::None,
            Some(bytes) => Neighbour::Reserved(token(bytes)?),
        };
        Ok(Origin {
            transaction: transaction(&self.transaction)?,
            fingerprint: self.fingerprint,
            integrity: match self.sha256 {
                true => Algorithm::Sha256,
                false => Algorithm::Sha1,
            },
            lifetime: lifetime(self.lifetime)?,
            neighbour,
            missing: self.missing.as_ref().map(MissingRecord::read),
            mobile: self.mobile,
        })
    }
}

impl MissingRecord {
    fn read(&self) -> Missing {
        Missing {
            family: match self.family {
                FamilyRecord::Ipv4 => Family::V4,
                FamilyRecord::Ipv6 => Family::V6,
            },
            unsupported: self.unsupported,
        }
    }
}
