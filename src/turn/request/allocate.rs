//! Allocate (RFC 8656 §7.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Handled, Request};
use crate::stun::{AttributeType, Message};
use crate::time::Instant;
use crate::turn::allocation::{Allocation, AllocationKey, Origin, Relay, State};
use crate::turn::auth::Authenticated;
use crate::turn::channel::Channels;
use crate::turn::five_tuple::{Family, FiveTuple};
use crate::turn::keys::person_of;
use crate::turn::peer_filter::is_tunnelled;
use crate::turn::permission::Permissions;
use crate::turn::policy::{Lifetimes, RelaySource};
use crate::turn::ports::Parity;
use crate::turn::quota::Exceeded;
use crate::turn::reply::Refusal;
use crate::turn::server::{Action, Server};

/// REQUESTED-TRANSPORT of UDP: its IANA protocol number.
const UDP: u8 = 17;

impl Server {
    pub(in crate::turn) fn handle_allocate(
        &mut self,
        request: &Request<'_, '_>,
        user: Authenticated,
    ) -> Result<Handled, Refusal> {
        if let Some(repeated) = self.check_five_tuple(request, &user)? {
            return Ok(repeated);
        }
        check_client(&request.from)?;
        check_transport(request.message)?;
        let parity = requested_parity(request.message)?;
        let family = requested_family(request.message)?;
        let lifetime = lifetime(request.message, &self.policy.lifetimes)?;
        let address = self.relay_address(&request.from, family)?;
        let person = person_of(&user.owner().username).to_owned();
        let source = request.from.client.ip();
        self.shared
            .quota
            .take(&person, source, &self.policy.limits)
            .map_err(refusal)?;
        let Some(relay) = self.take_port(address, parity) else {
            self.shared.quota.give_back(&person, source);
            return Err(Refusal::InsufficientCapacity);
        };
        self.open(request, user, relay, lifetime);
        Ok(Handled::Park)
    }

    /// Step 2: the five-tuple has no allocation yet. A retransmission of the request that made the one
    /// it has is answered alike (S14).
    fn check_five_tuple(
        &self,
        request: &Request<'_, '_>,
        user: &Authenticated,
    ) -> Result<Option<Handled>, Refusal> {
        let Some((key, allocation)) = self.allocation_of(&request.from) else {
            return Ok(None);
        };
        let is_retransmission = allocation.origin.transaction == request.message.transaction();
        if !is_retransmission || allocation.owner.username != user.owner().username {
            return Err(Refusal::AllocationMismatch);
        }
        let is_live = allocation.is_live();
        Ok(Some(if is_live {
            Handled::Repeat(key)
        } else {
            Handled::Pending
        }))
    }

    /// The local address to relay from, for a client that came by `from` (RFC 8656 §7.2 step 7).
    fn relay_address(&mut self, from: &FiveTuple, family: Family) -> Result<IpAddr, Refusal> {
        let reached = from.server.ip();
        match self.policy.relay.source(family) {
            RelaySource::Disabled => None,
            RelaySource::AsReached { .. } if Family::of(reached) == family => Some(reached),
            RelaySource::AsReached { .. } if reached.is_loopback() => Some(loopback(family)),
            RelaySource::AsReached { otherwise } => *otherwise,
            RelaySource::Fixed(addresses) if addresses.is_empty() => None,
            RelaySource::Fixed(addresses) => Some(addresses[self.random.below(addresses.len())]),
        }
        .ok_or(Refusal::AddressFamilyNotSupported)
    }

    /// Takes a free port of the public face of `local`.
    pub(in crate::turn) fn take_port(&mut self, local: IpAddr, parity: Parity) -> Option<Relay> {
        let public = self.policy.relay.public(local);
        let port = self.ports.take(public, parity, &mut self.random)?;
        Some(Relay {
            local,
            public: SocketAddr::new(public, port),
        })
    }

    fn open(
        &mut self,
        request: &Request<'_, '_>,
        user: Authenticated,
        relay: Relay,
        lifetime: Duration,
    ) -> AllocationKey {
        let transaction = request.message.transaction();
        let fingerprint = request.message.has_fingerprint();
        let integrity = user.signature().algorithm;
        let key = self.allocations.insert(Allocation {
            client: request.from,
            owner: user.into_owner(),
            origin: Origin {
                transaction,
                fingerprint,
                integrity,
                lifetime,
            },
            relay,
            state: State::Opening { tries: 0 },
            expires: Instant::FAR_FUTURE,
            scheduled: Instant::FAR_FUTURE,
            permissions: Permissions::default(),
            channels: Channels::default(),
        });
        self.actions.push_back(Action::OpenRelay {
            key,
            local: relay.bind_address(),
        });
        key
    }
}

/// A client at the end of an automatic tunnel could make packets loop through it (RFC 8656 §21.4).
fn check_client(from: &FiveTuple) -> Result<(), Refusal> {
    if is_tunnelled(from.client.ip()) {
        Err(Refusal::Forbidden)
    } else {
        Ok(())
    }
}

/// Step 3.
fn check_transport(message: &Message<'_>) -> Result<(), Refusal> {
    let attribute = message.attribute(AttributeType::REQUESTED_TRANSPORT);
    let value = attribute.and_then(|attribute| attribute.bytes().ok());
    match value {
        None => Err(Refusal::BadRequest),
        Some([UDP, _, _, _]) => Ok(()),
        Some(_) => Err(Refusal::UnsupportedTransport),
    }
}

/// Step 6: EVEN-PORT without its R bit asks for an even port. With it, it asks for a reservation of the
/// next port too, which this server does not know (RFC 8656 §18.7).
fn requested_parity(message: &Message<'_>) -> Result<Parity, Refusal> {
    let Some(attribute) = message.attribute(AttributeType::EVEN_PORT) else {
        return Ok(Parity::Any);
    };
    match attribute.bytes() {
        Ok([flags]) if flags & 0x80 == 0 => Ok(Parity::Even),
        Ok(_) => Err(Refusal::UnknownAttributes(vec![AttributeType::EVEN_PORT])),
        Err(_) => Err(Refusal::BadRequest),
    }
}

/// Step 7: IPv4 unless the request says otherwise.
fn requested_family(message: &Message<'_>) -> Result<Family, Refusal> {
    match super::requested_family(message)? {
        Some(family) => family.ok_or(Refusal::AddressFamilyNotSupported),
        None => Ok(Family::V4),
    }
}

/// The time-to-expiry that a request with or without LIFETIME gets: between default and maximum.
pub(super) fn lifetime(message: &Message<'_>, limits: &Lifetimes) -> Result<Duration, Refusal> {
    let asked = super::requested_lifetime(message)?.unwrap_or(limits.allocation);
    Ok(asked.min(limits.allocation_max).max(limits.allocation))
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

fn refusal(exceeded: Exceeded) -> Refusal {
    match exceeded {
        Exceeded::Share => Refusal::QuotaReached,
        Exceeded::Server => Refusal::InsufficientCapacity,
    }
}
