//! Datagrams of clients and peers.

use std::io;
use std::net::SocketAddr;

use super::dispatch::Route;
use super::event_loop::Shard;
use crate::net::{BATCH, IcmpError, Received, Span, next_icmp_error};
use crate::transport::is_dtls;
use crate::turn::{AllocationKey, Event, Family, FiveTuple, Icmp, Transport};

/// Batches that one pass receives from one listener.
const BATCHES: usize = 4;
/// After so many datagrams of one listener in one pass others have their turn.
const MOST_OF_CLIENTS: usize = BATCHES * BATCH;
/// Datagrams that one pass receives from one relay socket, one by one.
const DATAGRAMS: usize = 16;
/// So many datagrams at one wake are a burst.
const BURST: usize = 4;
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
        let Some(busy) = self.note_wake(intake) else {
            return;
        };
        let mut datagrams = 0;
        for _ in 0..BATCHES {
            let wanted = self.intakes[intake].expected;
            self.make_room(wanted);
            let packets = self.buffers.free_packets().take(wanted);
            let listener = &self.intakes[intake].listener;
            let count = match listener.receive(&mut self.receiving, packets) {
                Ok(count) => count,
                Err(error) if is_empty(&error) => 0,
                // An error that a datagram left behind; reading it has cleared it.
                Err(_) => continue,
            };
            datagrams += self.handle_batch(intake, count);
            let next = if count < wanted { count } else { wanted * 2 };
            self.intakes[intake].expected = next.clamp(1, BATCH);
            let is_enough = count < wanted || datagrams >= MOST_OF_CLIENTS;
            if is_enough || wanted == 1 && !busy {
                return;
            }
        }
    }

    /// Tells whether the listener was served in this pass or the last one already; nothing when it was closed
    /// in this pass.
    fn note_wake(&mut self, intake: usize) -> Option<bool> {
        let intake = self.intakes.get_mut(intake)?;
        let last = std::mem::replace(&mut intake.last_pass, self.pass);
        Some(self.pass.wrapping_sub(last) <= 1)
    }

    /// Handles `count` messages and returns how many datagrams they were.
    fn handle_batch(&mut self, intake: usize, count: usize) -> usize {
        let address = self.intakes[intake].listener.address();
        let datagrams = if self.intakes[intake].plain {
            self.handle_each(address, count, Self::handle_client_datagram)
        } else {
            self.handle_each(address, count, Self::handle_dtls_datagram)
        };
        self.buffers.take(count);
        datagrams
    }

    fn handle_each(
        &mut self,
        address: SocketAddr,
        count: usize,
        handle: impl Fn(&mut Self, SocketAddr, SocketAddr, Span),
    ) -> usize {
        let mut datagrams = 0;
        for i in 0..count {
            let Some(received) = self.receiving.get(i) else {
                continue;
            };
            let ip = received.to.unwrap_or(address.ip());
            let server = SocketAddr::new(ip, address.port());
            for part in received.datagrams() {
                let datagram = self.buffers.hold(i, part, received.length);
                handle(self, received.from, server, datagram);
                datagrams += 1;
            }
        }
        datagrams
    }

    fn handle_client_datagram(&mut self, client: SocketAddr, server: SocketAddr, datagram: Span) {
        self.reserve();
        let from = FiveTuple {
            transport: Transport::Udp,
            client,
            server,
        };
        let packet = self.buffers.bytes(datagram);
        if self.dtls.is_some() && packet.first().is_some_and(|first| is_dtls(*first)) {
            return self.receive_dtls(from, datagram);
        }
        let verdict = self.server.handle_client(self.now, from, packet);
        let route = Route::of(&verdict, |payload| self.buffers.locate(payload));
        self.follow(route);
    }

    /// Serves a relay socket.
    pub(super) fn receive_from_peers(&mut self, key: AllocationKey, family: Family) {
        let Some(relay) = self.relays.get(key, family) else {
            return;
        };
        if relay.takes_in_trains() {
            self.receive_trains(key, family);
        } else {
            self.receive_singles(key, family);
        }
    }

    fn receive_singles(&mut self, key: AllocationKey, family: Family) {
        let mut busy = false;
        for i in 0..DATAGRAMS {
            self.make_room(1);
            let Some(relay) = self.relays.get(key, family) else {
                return;
            };
            let Some(room) = self.buffers.free_packets().next() else {
                return;
            };
            match relay.receive(&mut self.receiving, room) {
                Ok(received) => {
                    busy = busy || relay.is_busy(self.pass);
                    if self.handle_peer_message(key, 0, &received) {
                        self.buffers.take(1);
                    }
                }
                Err(error) if is_empty(&error) => {
                    match i {
                        // Nothing to read: it was an error that woke us.
                        0 => self.read_errors(key, family),
                        1 => relay.had_only_one(),
                        BURST.. => relay.take_in_trains(),
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
        if let Some(relay) = self.relays.get(key, family) {
            relay.take_in_trains();
        }
    }

    /// One call for a wake: what it leaves wakes us again.
    fn receive_trains(&mut self, key: AllocationKey, family: Family) {
        let Some(relay) = self.relays.get(key, family) else {
            return;
        };
        let wanted = relay.expected(self.pass);
        self.make_room(wanted);
        let Some(relay) = self.relays.get(key, family) else {
            return;
        };
        let packets = self.buffers.free_packets();
        let Ok(count) = relay.receive_trains(&mut self.receiving, packets, wanted) else {
            // Reading an error that a datagram left behind has cleared it.
            return self.read_errors(key, family);
        };
        let (mut kept, mut datagrams) = (0, 0);
        for i in 0..count {
            let Some(received) = self.receiving.get(i) else {
                continue;
            };
            datagrams += received.count();
            if self.handle_peer_message(key, i, &received) {
                kept = i + 1;
            }
        }
        self.buffers.take(kept);
        if datagrams > count
            && let Some(relay) = self.relays.get(key, family)
        {
            relay.note_length(count, datagrams);
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
            let mut datagrams = 0;
            while datagrams < WAITING
                && let Some(count) = self.receive_from_peer(*key, *family)
            {
                datagrams += count;
            }
        }
        for (key, _) in arrived {
            let event = Event::RelayRead { key };
            self.server.handle_event(self.now, event);
            self.drain();
        }
    }

    /// Receives one message and returns how many datagrams it was; none when nothing waits.
    fn receive_from_peer(&mut self, key: AllocationKey, family: Family) -> Option<usize> {
        self.make_room(1);
        let relay = self.relays.get(key, family)?;
        let room = self.buffers.free_packets().next()?;
        let received = match relay.receive_waiting(&mut self.receiving, room) {
            Ok(received) => received?,
            Err(_) => {
                self.read_errors(key, family);
                // An error takes as long as a datagram.
                return Some(1);
            }
        };
        if self.handle_peer_message(key, 0, &received) {
            self.buffers.take(1);
        }
        Some(received.count())
    }

    /// Takes the ICMP errors that wait at a relay socket and lets the core tell of them.
    fn read_errors(&mut self, key: AllocationKey, family: Family) {
        for _ in 0..ERRORS {
            let relay = self.relays.get(key, family);
            let Some(Ok(next)) = relay.map(next_icmp_error) else {
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

    /// Handles the message from a peer in the free slot `ahead` places behind the next one; whether something
    /// of it is kept.
    fn handle_peer_message(
        &mut self,
        key: AllocationKey,
        ahead: usize,
        received: &Received,
    ) -> bool {
        let mut keeps = false;
        self.turn.note_datagrams(received.count());
        for part in received.datagrams() {
            self.reserve();
            let datagram = self.buffers.hold(ahead, part, received.length);
            let payload = self.buffers.bytes(datagram);
            let verdict = self
                .server
                .handle_peer(self.now, key, received.from, payload);
            let route = Route::of(&verdict, |_| Some(datagram));
            keeps |= matches!(route, Route::ToClient(..));
            self.follow(route);
        }
        keeps
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

fn is_empty(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
