//! Live state as records.

use super::bytes::Bytes;
use super::record::{
    AllocationRecord, AwaitedRecord, ChannelRecord, ClientRecord, FamilyRecord, MissingRecord,
    MobileRecord, OriginRecord, OwnerRecord, PermissionRecord, PersonRecord, ProofRecord,
    RelayRecord, ReservationRecord,
};
use crate::stun::Algorithm;
use crate::time::Instant;
use crate::turn::allocation::{Allocation, Neighbour, Origin};
use crate::turn::allocation_key::AllocationKey;
use crate::turn::awaited::Awaited;
use crate::turn::five_tuple::{Family, FiveTuple};
use crate::turn::mobile_id::MobileId;
use crate::turn::mobility::Tickets;
use crate::turn::owner::{Owner, Person, Proof};
use crate::turn::relay::Relay;
use crate::turn::reply::Missing;
use crate::turn::reservation::{Reservation, Token};

/// Nanoseconds until `expires`; none when it has come.
fn left(expires: Instant, now: Instant) -> Option<u64> {
    expires
        .as_nanos()
        .checked_sub(now.as_nanos())
        .filter(|left| *left > 0)
}

impl ClientRecord {
    pub(super) fn of(five_tuple: &FiveTuple) -> Self {
        Self {
            client: five_tuple.client,
            server: five_tuple.server,
        }
    }
}

impl AllocationRecord {
    /// What lives of it at `now`, its relays until `until`; none when nothing does.
    pub(super) fn of(
        key: AllocationKey,
        allocation: &Allocation,
        until: impl Fn(&Relay) -> Option<Instant>,
        now: Instant,
    ) -> Option<Self> {
        let relays: Vec<RelayRecord> = allocation
            .relays
            .iter()
            .filter_map(|relay| RelayRecord::of(relay, until(relay)?, now))
            .collect();
        if relays.is_empty() {
            return None;
        }
        let is_served = |family| relays.iter().any(|relay| Family::of(relay.local) == family);
        Some(Self {
            token: key.to_token(),
            from: ClientRecord::of(&allocation.client),
            owner: OwnerRecord::of(&allocation.owner),
            person: person_beside(&allocation.owner, &allocation.account.person),
            origin: OriginRecord::of(&allocation.origin),
            permissions: permissions(allocation, is_served, now),
            channels: channels(allocation, is_served, now),
            relays,
            mobile: None,
        })
    }
}

/// Whom an allocation counts for if its owner does not tell: one of an access token that was renewed.
fn person_beside(owner: &Owner, person: &Person) -> Option<PersonRecord> {
    let is_told = *person == owner.person();
    (!is_told).then(|| PersonRecord::of(person))
}

fn permissions(
    allocation: &Allocation,
    is_served: impl Fn(Family) -> bool,
    now: Instant,
) -> Vec<PermissionRecord> {
    let all = allocation.permissions.iter();
    all.filter(|(peer, _)| is_served(Family::of(*peer)))
        .filter_map(|(peer, expires)| {
            let left = left(expires, now)?;
            Some(PermissionRecord { peer, left })
        })
        .collect()
}

fn channels(
    allocation: &Allocation,
    is_served: impl Fn(Family) -> bool,
    now: Instant,
) -> Vec<ChannelRecord> {
    let all = allocation.channels.iter();
    all.filter(|(_, peer, _)| is_served(Family::of(peer.ip())))
        .filter_map(|(number, peer, expires)| {
            let left = left(expires, now)?;
            let number = number.get();
            Some(ChannelRecord { number, peer, left })
        })
        .collect()
}

impl OwnerRecord {
    fn of(owner: &Owner) -> Self {
        Self {
            username: owner.username.to_string(),
            proof: match &owner.proof {
                Proof::Password { key, expires } => ProofRecord::Password {
                    key: Bytes::of(key.as_bytes()),
                    expires: expires.map(|expires| expires.0),
                },
                Proof::Token(token) => ProofRecord::Token(Bytes(token.encode())),
            },
        }
    }
}

impl PersonRecord {
    pub(super) fn of(person: &Person) -> Self {
        match person {
            Person::User(name) => Self::User(name.to_string()),
            Person::Session(digest) => Self::Session(Bytes::of(&**digest)),
        }
    }
}

impl OriginRecord {
    fn of(origin: &Origin) -> Self {
        let reserved = match origin.neighbour {
            Neighbour::None | Neighbour::Wanted => None,
            Neighbour::Reserved(Token(token)) => Some(Bytes::of(&token)),
        };
        Self {
            transaction: Bytes::of(&origin.transaction.0),
            fingerprint: origin.fingerprint,
            sha256: origin.integrity == Algorithm::Sha256,
            lifetime: origin.lifetime.as_secs(),
            reserved,
            missing: origin.missing.map(MissingRecord::of),
            mobile: origin.mobile,
        }
    }
}

impl MissingRecord {
    fn of(missing: Missing) -> Self {
        Self {
            family: match missing.family {
                Family::V4 => FamilyRecord::Ipv4,
                Family::V6 => FamilyRecord::Ipv6,
            },
            unsupported: missing.unsupported,
        }
    }
}

impl RelayRecord {
    fn of(relay: &Relay, until: Instant, now: Instant) -> Option<Self> {
        Some(Self {
            local: relay.local,
            public: relay.public,
            left: left(until, now)?,
        })
    }
}

impl MobileRecord {
    pub(super) fn of(id: MobileId, tickets: &Tickets) -> Self {
        Self {
            id: id.0,
            ticket: Bytes::of(tickets.ticket.as_bytes()),
            offered: tickets.offered.map(|ticket| Bytes::of(ticket.as_bytes())),
            next: tickets.next.as_ref().map(ClientRecord::of),
        }
    }
}

impl ReservationRecord {
    pub(super) fn of(token: Token, reservation: &Reservation, now: Instant) -> Option<Self> {
        Some(Self {
            token: Bytes::of(&token.0),
            relay: RelayRecord::of(&reservation.relay, reservation.expires, now)?,
            person: PersonRecord::of(&reservation.account.person),
            source: reservation.account.source,
        })
    }
}

impl AwaitedRecord {
    pub(super) fn of(client: &FiveTuple, awaited: &Awaited) -> Self {
        Self {
            from: ClientRecord::of(client),
            mobile: awaited.id.0,
            owner: OwnerRecord::of(&awaited.owner),
            transaction: Bytes::of(&awaited.transaction.0),
            lifetime: awaited.lifetime.as_secs(),
            ticket: Bytes::of(awaited.ticket.as_bytes()),
        }
    }
}
