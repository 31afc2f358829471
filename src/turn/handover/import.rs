//! Into a server: records as live state, and the sockets that come for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::problem::Flaw;
use super::read;
use super::record::{
    AllocationRecord, AwaitedRecord, ChannelRecord, MobileRecord, PermissionRecord, Record,
    ReservationRecord,
};
use super::{Handover, HandoverError, Imported, Problem};
use crate::time::{Instant, Now};
use crate::turn::allocation::{Allocation, State};
use crate::turn::allocation_key::AllocationKey;
use crate::turn::awaited::{Awaited, Waiting};
use crate::turn::bandwidth::AllocationMeter;
use crate::turn::channel::Channels;
use crate::turn::exchange::Action;
use crate::turn::five_tuple::{Family, FiveTuple};
use crate::turn::mobile_id::MobileId;
use crate::turn::mobility::{Mobile, Tickets};
use crate::turn::peer_connection::Generation;
use crate::turn::permission::Permissions;
use crate::turn::place::Place;
use crate::turn::relay::{Relay, Relays};
use crate::turn::reservation::{Account, Reservation};
use crate::turn::server::Server;

/// What is known while records are read.
struct Intake {
    now: Instant,
    /// The line of the record.
    line: usize,
    imported: Imported,
    /// The sockets that were asked for, or wait for their token.
    locals: BTreeSet<SocketAddr>,
    /// The relayed transport addresses that are taken.
    ports: BTreeSet<SocketAddr>,
}

impl Intake {
    /// What is left out, and why.
    fn leave_out(&mut self, flaw: Flaw) {
        let line = self.line;
        self.imported.problems.push(Problem { line, flaw });
    }
}

impl Server {
    /// Takes in what the server of the same shard of another process exported. Each allocation asks for its
    /// sockets ([`Action::OpenReserved`]), which are to be held already at the addresses of
    /// [`Handover::sockets`], and is live when they are there. Nonces and tickets of the other process are
    /// good here from now on. Nothing is refused for a quota; permissions that the policy of this server
    /// denies are left out. Import at all shards before any of them serves.
    ///
    /// # Errors
    /// It is of another shard, or of a process with another number of shards, or its nonces have no key.
    /// Nothing has changed.
    pub fn import(&mut self, now: Now, handover: &Handover) -> Result<Imported, HandoverError> {
        let found = (handover.shard(), handover.shards());
        let here = (self.shard, self.shards);
        if found != here {
            return Err(HandoverError::Shard { found, here });
        }
        self.adopt_head(now.instant, handover)?;
        let mut intake = Intake {
            now: now.instant,
            line: 0,
            imported: Imported {
                problems: handover.unread.clone(),
                ..Imported::default()
            },
            locals: BTreeSet::new(),
            ports: BTreeSet::new(),
        };
        for (line, record) in &handover.records {
            intake.line = *line;
            if let Err(flaw) = self.import_record(record, &mut intake) {
                intake.leave_out(flaw);
            }
        }
        self.claim_ports(intake.ports);
        Ok(intake.imported)
    }

    /// What concerns all records: nonces, ids, whom this process comes after, and which addresses are
    /// relays', by which permissions are judged.
    fn adopt_head(&mut self, now: Instant, handover: &Handover) -> Result<(), HandoverError> {
        let head = &handover.head;
        let key = head.nonces.key.exactly().ok_or(HandoverError::Head)?;
        self.nonces.go_on(&key, head.nonces.clock_ms, now);
        self.shared.mobility.go_on_from(head.mobile_ids);
        self.shared.peers.come_after(Generation {
            number: head.generation,
            older: head.older,
        });
        for face in &head.faces {
            self.shared.live.know(face.public, face.local);
        }
        Ok(())
    }

    fn import_record(&mut self, record: &Record, intake: &mut Intake) -> Result<(), Flaw> {
        match record {
            Record::Allocation(record) => self.import_allocation(record, intake),
            Record::Reservation(record) => self.import_reservation(record, intake),
            Record::Awaited(record) => self.import_awaited(record, intake),
        }
    }

    fn import_allocation(
        &mut self,
        record: &AllocationRecord,
        intake: &mut Intake,
    ) -> Result<(), Flaw> {
        let allocation = self.read_allocation(record, intake)?;
        self.shared.quota.charge(&allocation.account);
        let key = self.allocations.insert(allocation);
        self.ask_for_sockets(key, intake);
        let mobile = record.mobile.as_ref();
        if let Some(Err(flaw)) = mobile.map(|mobile| self.read_mobile(key, mobile)) {
            intake.leave_out(flaw);
        }
        intake.imported.allocations += 1;
        Ok(())
    }

    fn read_allocation(
        &self,
        record: &AllocationRecord,
        intake: &mut Intake,
    ) -> Result<Allocation, Flaw> {
        let client = record.from.read("from")?;
        if self.has_allocation(&client) {
            return Err(Flaw::Taken("from"));
        }
        let owner = record.owner.read()?;
        let account = Account {
            person: record.person(&owner)?,
            source: client.client.ip(),
        };
        let origin = record.origin.read()?;
        let relays = record.relays(intake.now)?;
        self.check_relays(&relays, intake)?;
        Ok(Allocation {
            client,
            owner,
            account,
            origin,
            permissions: self.read_permissions(&record.permissions, &relays, intake),
            channels: read_channels(&record.channels, &relays, intake),
            expires: relays.last_expiry(),
            relays,
            state: State::HandedOver,
            scheduled: Instant::FAR_FUTURE,
            icmp_recovered: Instant::ZERO,
            peers: None,
            meter: AllocationMeter::default(),
            mobile: None,
        })
    }

    /// No relay is one that there is already.
    fn check_relays(&self, relays: &Relays, intake: &Intake) -> Result<(), Flaw> {
        let is_taken = |relay: &Relay| {
            intake.locals.contains(&relay.bind_address())
                || intake.ports.contains(&relay.public)
                || self.shared.live.is_own(relay.public)
        };
        match relays.iter().any(is_taken) {
            true => Err(Flaw::Taken("relays")),
            false => Ok(()),
        }
    }

    fn ask_for_sockets(&mut self, key: AllocationKey, intake: &mut Intake) {
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        for relay in allocation.relays.iter() {
            let local = relay.bind_address();
            intake.locals.insert(local);
            intake.ports.insert(relay.public);
            self.actions.push_back(Action::OpenReserved { key, local });
        }
    }

    /// Those that the policy allows (requirement S3).
    fn read_permissions(
        &self,
        records: &[PermissionRecord],
        relays: &Relays,
        intake: &mut Intake,
    ) -> Permissions {
        let mut permissions = Permissions::default();
        for record in records {
            let is_served = relays.get(Family::of(record.peer)).is_some();
            let until = read::until(record.left, intake.now, "permissions");
            let Some(until) = until.ok().filter(|_| is_served) else {
                intake.leave_out(Flaw::Invalid("permissions"));
                continue;
            };
            match self.policy.peers.permit(record.peer, &self.shared.live) {
                Ok(scope) => {
                    permissions.install(record.peer, scope, until);
                }
                Err(_) => intake.leave_out(Flaw::Denied),
            }
        }
        permissions
    }

    /// Makes the tickets of an allocation good.
    fn read_mobile(&mut self, key: AllocationKey, record: &MobileRecord) -> Result<(), Flaw> {
        let offered = record.offered.as_ref().map(read::ticket).transpose()?;
        let next = record.next.as_ref().map(|next| next.read("next"));
        let tickets = Tickets {
            ticket: read::ticket(&record.ticket)?,
            offered,
            next: next.transpose()?,
        };
        let place = Place {
            shard: self.shard,
            key,
        };
        let Some(allocation) = self.allocations.get_mut(key) else {
            return Ok(());
        };
        let mut until = [None; 2];
        for relay in allocation.relays.iter() {
            until[relay.family() as usize] = Some(relay.expires);
        }
        let mobile = Mobile {
            place,
            owner: allocation.owner.clone(),
            client: allocation.client,
            until,
        };
        let id = MobileId(record.id);
        if !self.shared.mobility.adopt(id, mobile, &tickets) {
            return Err(Flaw::Taken("mobile"));
        }
        allocation.mobile = Some(id);
        Ok(())
    }

    fn import_reservation(
        &mut self,
        record: &ReservationRecord,
        intake: &mut Intake,
    ) -> Result<(), Flaw> {
        let token = read::token(&record.token)?;
        let relay = record.relay.read(intake.now)?;
        self.check_relays(&Relays::one(relay), intake)?;
        let expires = relay.expires;
        let reservation = Reservation {
            relay: Relay::new(relay.local, relay.public),
            account: Account {
                person: record.person.read()?,
                source: record.source,
            },
            expires,
        };
        let account = reservation.account.clone();
        if !self.shared.reservations.insert(token, reservation) {
            return Err(Flaw::Taken("token"));
        }
        self.shared.quota.charge(&account);
        let place = self.reserved.partition_point(|(at, _)| *at <= expires);
        self.reserved.insert(place, (expires, token));
        self.deadlines.push(expires, AllocationKey::RESERVATIONS);
        intake.locals.insert(relay.bind_address());
        intake.ports.insert(relay.public);
        intake.imported.reservations += 1;
        Ok(())
    }

    /// The allocation may be another shard's, which imports it before or after.
    fn import_awaited(&mut self, record: &AwaitedRecord, intake: &mut Intake) -> Result<(), Flaw> {
        let client: FiveTuple = record.from.read("from")?;
        if self.awaited.get(&client).is_some() || self.allocations.key(&client).is_some() {
            return Err(Flaw::Taken("from"));
        }
        let awaited = Awaited {
            id: MobileId(record.mobile),
            owner: record.owner.read()?,
            transaction: read::transaction(&record.transaction)?,
            lifetime: read::lifetime(record.lifetime)?,
            ticket: read::ticket(&record.ticket)?,
            state: Waiting::Client,
            parked: Default::default(),
        };
        self.awaited.insert(client, awaited, |_, _| true);
        intake.imported.awaited += 1;
        Ok(())
    }

    /// Each shard draws the ports that belong to it; this one may hold others that came with a client.
    fn claim_ports(&mut self, taken: BTreeSet<SocketAddr>) {
        let (own, others): (Vec<SocketAddr>, Vec<SocketAddr>) = taken
            .into_iter()
            .partition(|port| self.ports.owns(port.port()));
        self.ports.claim(&own);
        others
            .into_iter()
            .for_each(|port| self.shared.claims.push(port));
    }
}

fn read_channels(records: &[ChannelRecord], relays: &Relays, intake: &mut Intake) -> Channels {
    let mut channels = Channels::default();
    for record in records {
        let ChannelRecord { peer, left, .. } = *record;
        let is_served = relays.get(Family::of(peer.ip())).is_some();
        let until = read::until(left, intake.now, "channels").ok();
        let (Ok(number), Some(until)) = (record.number(), until.filter(|_| is_served)) else {
            intake.leave_out(Flaw::Invalid("channels"));
            continue;
        };
        match channels.check(number, peer) {
            Ok(_) => channels.bind(number, peer, until),
            Err(_) => intake.leave_out(Flaw::Taken("channels")),
        }
    }
    channels
}
