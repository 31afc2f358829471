//! Datagrams of clients and peers.

use std::io;
use std::net::SocketAddr;

use super::dispatch::Route;
use super::event_loop::Shard;
use crate::net::{BATCH, IcmpError, Received, next_icmp_error};
use crate::transport::is_dtls;
use crate::turn::{AllocationKey, Event, Family, FiveTuple, Icmp, Transport};

/// Batches that one pass receives from one listener.
const BATCHES: usize = 4;
/// Datagrams that one pass receives from one relay socket.
const DATAGRAMS: usize = 16;
/// Datagrams that wait in one socket while it is held, at most; there may be more of a flood.
const WAITING: usize = 4096;
/// ICMP errors that one pass takes from one relay socket.
const ERRORS: usize = 16;
/// What may be copied for one packet: a payload that does not lie in a slot, or the longest answer, and what
/// becomes of it on its way to a client of ours.
const COPIES: usize = 2 * (65_536 + 128);

impl Shard {
    /// Serves a UDP listener. A batch costs more than a plain receive when one datagram waits, so the
    /// batch grows and shrinks with what comes.
    pub(super) fn receive_from_clients(&mut self, intake: usize) {
        let busy = self.note_wake(intake);
        for _ in 0..BATCHES {
            let wanted = self.intakes[intake].expected;
            self.make_room(wanted);
            let packets = self.buffers.free_packets().take(wanted);
            let listener = &self.intakes[intake].listener;
            let count = match listener.receive(&mut self.receiving, packets) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                // An error that a datagram left behind; reading it has cleared it.
                Err(_) => continue,
            };
            self.handle_batch(intake, count);
            let next = if count < wanted { count } else { wanted * 2 };
            self.intakes[intake].expected = next.clamp(1, BATCH);
            if count < wanted || wanted == 1 && !busy {
                return;
            }
        }
    }

    /// Tells whether the listener was served in this pass or the last one already.
    fn note_wake(&mut self, intake: usize) -> bool {
        let last = std::mem::replace(&mut self.intakes[intake].last_pass, self.pass);
        self.pass.wrapping_sub(last) <= 1
    }

    fn handle_batch(&mut self, intake: usize, count: usize) {
        let address = self.intakes[intake].listener.address();
        if self.intakes[intake].plain {
            self.handle_each(address, count, Self::handle_client_datagram);
        } else {
            self.handle_each(address, count, Self::handle_dtls_datagram);
        }
        self.buffers.take(count);
    }

    fn handle_each(
        &mut self,
        address: SocketAddr,
        count: usize,
        handle: impl Fn(&mut Self, usize, &Received, SocketAddr),
    ) {
        for i in 0..count {
            if let Some(received) = self.receiving.get(i) {
                let ip = received.to.unwrap_or(address.ip());
                let server = SocketAddr::new(ip, address.port());
                handle(self, i, &received, server);
            }
        }
    }

    fn handle_client_datagram(&mut self, slot: usize, received: &Received, server: SocketAddr) {
        self.reserve();
        let from = FiveTuple {
            transport: Transport::Udp,
            client: received.from,
            server,
        };
        let packet = self.buffers.packet(slot, received.length);
        if self.dtls.is_some() && packet.first().is_some_and(|first| is_dtls(*first)) {
            return self.receive_dtls(from, slot, received.length);
        }
        let verdict = self.server.handle_client(self.now, from, packet);
        let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
        self.follow(route);
    }

    /// Serves a relay socket.
    pub(super) fn receive_from_peers(&mut self, key: AllocationKey, family: Family) {
        let mut busy = false;
        for i in 0..DATAGRAMS {
            self.make_room(1);
            let Some(relay) = self.relays.get(key, family) else {
                return;
            };
            let Some(room) = self.buffers.free_packets().next() else {
                return;
            };
            match relay.socket.recv_from(room) {
                Ok((length, peer)) => {
                    busy = busy || relay.is_busy(self.pass);
                    self.handle_peer_datagram(key, peer, length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match i {
                        // Nothing to read: it was an error that woke us.
                        0 => self.read_errors(key, family),
                        1 => relay.had_only_one(),
                        _ => {}
                    }
                    return;
                }
                Err(_) => self.read_errors(key, family),
            }
            if !busy {
                return;
            }
        }
    }

    /// Reads what waited in sockets that were held. Until then packets from other allocations go there too, and
    /// not into the rings, where they would overtake it.
    pub(super) fn catch_up(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let arrived = std::mem::take(&mut self.arrived);
        for (key, family) in &arrived {
            let mut waiting = 0..WAITING;
            while waiting.next().is_some() && self.receive_from_peer(*key, *family) {}
        }
        for (key, _) in arrived {
            let event = Event::RelayRead { key };
            self.server.handle_event(self.now, event);
            self.drain();
        }
    }

    /// Receives one datagram; false when there is none.
    fn receive_from_peer(&mut self, key: AllocationKey, family: Family) -> bool {
        self.make_room(1);
        let relay = self.relays.get(key, family);
        let room = self.buffers.free_packets().next();
        let received = relay
            .zip(room)
            .map(|(relay, room)| relay.socket.recv_from(room));
        let Some(Ok((length, peer))) = received else {
            return false;
        };
        self.handle_peer_datagram(key, peer, length);
        true
    }

    /// Takes the ICMP errors that wait at a relay socket and lets the core tell of them.
    fn read_errors(&mut self, key: AllocationKey, family: Family) {
        for _ in 0..ERRORS {
            let relay = self.relays.get(key, family);
            let Some(Ok(next)) = relay.map(|relay| next_icmp_error(&relay.socket)) else {
                return;
            };
            let Some(IcmpError {
                to,
                kind,
                code,
                info,
            }) = next
            else {
                continue;
            };
            let error = Icmp {
                kind,
                code,
                mtu: info,
            };
            let event = Event::Icmp {
                key,
                peer: to,
                error,
            };
            self.server.handle_event(self.now, event);
            self.drain();
        }
    }

    fn handle_peer_datagram(&mut self, key: AllocationKey, peer: SocketAddr, length: usize) {
        self.reserve();
        let payload = self.buffers.packet(0, length);
        let verdict = self.server.handle_peer(self.now, key, peer, payload);
        let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
        if matches!(route, Route::ToClient(..)) {
            self.buffers.take(1);
        }
        self.follow(route);
    }

    /// Makes sure that one more message and one more copy find room.
    pub(super) fn reserve(&mut self) {
        if self.outbox.is_full() || self.buffers.copy_room() < COPIES {
            self.flush();
        }
    }

    /// Makes sure that `slots` slots are free. Only between packets: it gives all of them back.
    pub(super) fn make_room(&mut self, slots: usize) {
        if self.buffers.free() < slots {
            self.flush();
            self.buffers.reset();
        }
    }
}
