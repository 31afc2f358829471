//! Allocate (RFC 8656 §7.2, RFC 6062 §5.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::asked::RelayTransport;
use super::{Handled, Request, asked};
use crate::stun::AttributeType;
use crate::time::Instant;
use crate::turn::allocation::{Allocation, Neighbour, Origin, State};
use crate::turn::auth::Authenticated;
use crate::turn::bandwidth::AllocationMeter;
use crate::turn::channel::Channels;
use crate::turn::embedded::is_tunnelled;
use crate::turn::exchange::Action;
use crate::turn::five_tuple::{Family, FiveTuple};
use crate::turn::permission::Permissions;
use crate::turn::policy::{Lifetimes, RelaySource};
use crate::turn::ports::Parity;
use crate::turn::quota::Exceeded;
use crate::turn::redirect::Admission;
use crate::turn::relay::{Relay, Relays, Socket};
use crate::turn::reply::{Missing, Refusal};
use crate::turn::reservation::{Account, Token};
use crate::turn::server::Server;

/// So many drawn ports may be taken by the process beside this one before one is tried all the same.
const MOST_ELSEWHERE: usize = 64;

/// What an allocation gets: its relays, still to be bound, and what belongs to them.
struct Grant {
    relays: Relays,
    kind: Kind,
    missing: Option<Missing>,
}

impl Grant {
    fn over(mut self, transport: RelayTransport) -> Self {
        if transport == RelayTransport::Tcp {
            self.kind = Kind::Tcp;
        }
        self
    }
}

/// How the sockets of a grant come to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fresh,
    /// Together with the one on the port above.
    Pair,
    /// The one that a reservation holds.
    Reserved,
    /// Listeners for peers (RFC 6062).
    Tcp,
}

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
        let transport = asked::transport(request.message, self.policy.relay.tcp)?;
        if transport == RelayTransport::Tcp {
            asked::check_tcp(request.message, &request.from)?;
        }
        // The connections of a TCP allocation cannot follow its client.
        let may_move = self.policy.mobility && transport == RelayTransport::Udp;
        asked::mobility(request.message, may_move)?;
        let account = Account::new(user.owner(), request.from.client);
        if let Some(token) = asked::reservation_token(request.message)? {
            return self.allocate_reserved(request, user, account, token);
        }
        // A reserved port is here and nowhere else.
        self.check_admission(request)?;
        let family = asked::family(request.message)?;
        let address = self.relay_address(&request.from, family)?;
        let parity = asked::parity(request.message)?;
        let both = asked::wants_both(request.message)?;
        let lifetime = lifetime(request, &user, &self.policy.lifetimes)?;
        let shares = if parity == Parity::Pair { 2 } else { 1 };
        self.take_quota(&account, shares)?;
        let grant = if both {
            self.grant_both(&request.from, address, parity)
        } else {
            self.grant(address, parity)
        };
        let grant = grant.map(|grant| grant.over(transport));
        let Some(grant) = grant else {
            self.give_back_quota(&account, shares);
            return Err(Refusal::InsufficientCapacity);
        };
        self.open(request, user, account, grant, lifetime);
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
        if !is_retransmission || !allocation.owner.is(user.owner()) {
            return Err(Refusal::AllocationMismatch);
        }
        let is_live = allocation.is_live();
        Ok(Some(if is_live {
            Handled::Repeat(key)
        } else {
            Handled::Pending
        }))
    }

    /// Step 11: 300, or 508 where nothing new is served and no alternate is.
    fn check_admission(&self, request: &Request<'_, '_>) -> Result<(), Refusal> {
        let (admission, alternates) = (self.policy.admission, &self.policy.alternates);
        let pick = || alternates.pick(&request.from, request.message.transaction());
        match (
            admission,
            (admission != Admission::Open).then(pick).flatten(),
        ) {
            (_, Some(alternate)) => Err(Refusal::TryAlternate(alternate)),
            (Admission::Closed, None) => Err(Refusal::InsufficientCapacity),
            (Admission::Open | Admission::Elsewhere, None) => Ok(()),
        }
    }

    /// Step 5: the relayed transport address that `token` stands for, whichever shard reserved it and
    /// for whomever.
    fn allocate_reserved(
        &mut self,
        request: &Request<'_, '_>,
        user: Authenticated,
        account: Account,
        token: Token,
    ) -> Result<Handled, Refusal> {
        let now = request.now.instant;
        let lifetime = lifetime(request, &user, &self.policy.lifetimes)?;
        let reservation = self.shared.reservations.get(token, now);
        let reservation = reservation.ok_or(Refusal::InsufficientCapacity)?;
        // Who reserved it has taken the quota for it already.
        let is_paid = reservation.account == account;
        if !is_paid {
            self.take_quota(&account, 1)?;
        }
        if self.shared.reservations.take(token).is_none() {
            // Another shard was faster.
            self.give_back_quota(&account, u32::from(!is_paid));
            return Err(Refusal::InsufficientCapacity);
        }
        if !is_paid {
            self.give_back_quota(&reservation.account, 1);
        }
        let grant = Grant {
            relays: Relays::one(Relay {
                socket: Socket::LAST_TRY,
                ..reservation.relay
            }),
            kind: Kind::Reserved,
            missing: None,
        };
        self.open(request, user, account, grant, lifetime);
        Ok(Handled::Park)
    }

    fn take_quota(&self, account: &Account, shares: u32) -> Result<(), Refusal> {
        for taken in 0..shares {
            let Account { person, source } = account;
            let result = self.shared.quota.take(person, *source, &self.policy.limits);
            if let Err(exceeded) = result {
                self.give_back_quota(account, taken);
                return Err(refusal(exceeded));
            }
        }
        Ok(())
    }

    pub(in crate::turn) fn give_back_quota(&self, account: &Account, shares: u32) {
        for _ in 0..shares {
            self.shared.quota.give_back(&account.person, account.source);
        }
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

    /// Takes the ports of an allocation.
    fn grant(&mut self, local: IpAddr, parity: Parity) -> Option<Grant> {
        let relay = self.take_port(local, parity)?;
        let kind = match parity {
            Parity::Pair => Kind::Pair,
            Parity::Any | Parity::Even => Kind::Fresh,
        };
        Some(Grant {
            relays: Relays::one(relay),
            kind,
            missing: None,
        })
    }

    /// Takes the ports of a dual allocation, or of the half that can be had (RFC 8656 §7.2 step 9).
    fn grant_both(&mut self, from: &FiveTuple, v4: IpAddr, parity: Parity) -> Option<Grant> {
        let v6 = self.relay_address(from, Family::V6);
        let unsupported = v6.is_err();
        let v4 = self.take_port(v4, parity);
        let v6 = v6.ok().and_then(|local| self.take_port(local, parity));
        let (relays, missing) = match (v4, v6) {
            (Some(v4), Some(v6)) => (Relays::two(v4, v6), None),
            (Some(v4), None) => (Relays::one(v4), Some((Family::V6, unsupported))),
            (None, Some(v6)) => (Relays::one(v6), Some((Family::V4, false))),
            (None, None) => return None,
        };
        let missing = missing.map(|(family, unsupported)| Missing {
            family,
            unsupported,
        });
        Some(Grant {
            relays,
            kind: Kind::Fresh,
            missing,
        })
    }

    /// Takes a free port of the public face of `local`, a pair of them when one is asked for.
    pub(in crate::turn) fn take_port(&mut self, local: IpAddr, parity: Parity) -> Option<Relay> {
        self.settle_ports();
        let public = self.policy.relay.public(local);
        let mut elsewhere = Vec::new();
        let port = loop {
            let port = self.ports.take(public, parity, &mut self.random);
            let is_taken = |port: &u16| self.shared.is_elsewhere(public, *port, parity);
            match port.filter(is_taken) {
                Some(port) if elsewhere.len() < MOST_ELSEWHERE => elsewhere.push(port),
                _ => break port,
            }
        };
        for port in elsewhere {
            self.ports.give_back(public, port);
            if parity == Parity::Pair {
                self.ports.give_back(public, port | 1);
            }
        }
        Some(Relay::new(local, SocketAddr::new(public, port?)))
    }

    /// Learns what became of this shard's ports at other shards.
    fn settle_ports(&mut self) {
        let (ports, shared) = (&mut self.ports, &self.shared);
        ports.claim(&shared.claims.take(|port| ports.owns(port)));
        for stray in shared.strays.take(|port| ports.owns(port)) {
            ports.give_back(stray.ip(), stray.port());
        }
    }

    /// Gives a port back to the shard that it belongs to.
    pub(in crate::turn) fn give_back_port(&mut self, public: SocketAddr) {
        if self.ports.owns(public.port()) {
            self.ports.give_back(public.ip(), public.port());
        } else {
            self.shared.strays.push(public);
        }
    }

    fn open(
        &mut self,
        request: &Request<'_, '_>,
        user: Authenticated,
        account: Account,
        grant: Grant,
        lifetime: Duration,
    ) {
        let message = request.message;
        let neighbour = match grant.kind {
            Kind::Pair => Neighbour::Wanted,
            Kind::Fresh | Kind::Reserved | Kind::Tcp => Neighbour::None,
        };
        let origin = Origin {
            transaction: message.transaction(),
            fingerprint: message.has_fingerprint(),
            integrity: user.signature().algorithm,
            lifetime,
            neighbour,
            missing: grant.missing,
            mobile: message.has(AttributeType::MOBILITY_TICKET),
        };
        let locals = grant.relays.each(Relay::bind_address);
        let key = self.allocations.insert(Allocation {
            client: request.from,
            owner: user.into_owner(),
            account,
            origin,
            relays: grant.relays,
            state: State::Opening,
            expires: Instant::FAR_FUTURE,
            scheduled: Instant::FAR_FUTURE,
            icmp_recovered: Instant::ZERO,
            permissions: Permissions::default(),
            channels: Channels::default(),
            peers: (grant.kind == Kind::Tcp).then(Box::default),
            mobile: None,
            meter: AllocationMeter::default(),
        });
        for local in locals.into_iter().flatten() {
            self.actions.push_back(match grant.kind {
                Kind::Fresh => Action::OpenRelay { key, local },
                Kind::Pair => Action::OpenPair { key, local },
                Kind::Reserved => Action::OpenReserved { key, local },
                Kind::Tcp => Action::OpenTcpRelay { key, local },
            });
        }
    }
}

/// A client at the end of an automatic tunnel could make packets loop through it (RFC 8656 §21.4).
pub(super) fn check_client(from: &FiveTuple) -> Result<(), Refusal> {
    if is_tunnelled(from.client.ip()) {
        Err(Refusal::Forbidden)
    } else {
        Ok(())
    }
}

/// The time-to-expiry that a request with or without LIFETIME gets: between default and maximum, and no
/// longer than an access token lasts.
pub(super) fn lifetime(
    request: &Request<'_, '_>,
    user: &Authenticated,
    limits: &Lifetimes,
) -> Result<Duration, Refusal> {
    let asked = super::requested_lifetime(request.message)?.unwrap_or(limits.allocation);
    let granted = asked.min(limits.allocation_max).max(limits.allocation);
    Ok(user.owner().bounded(granted, request.now))
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
