//! Datagrams of clients and peers.

use std::io;
use std::net::SocketAddr;

use super::dispatch::Route;
use super::event_loop::Shard;
use super::relays::Run;
use crate::net::{BATCH, IcmpError, Received, Span, next_icmp_error};
use crate::transport::is_dtls;
use crate::turn::{AllocationKey, Event, Family, FiveTuple, Icmp, Transport};

/// Batches that one pass receives from one listener.
const BATCHES: usize = 4;
/// After so many datagrams of one listener in one pass others have their turn.
const MOST_OF_CLIENTS: usize = BATCHES * BATCH;
/// After so many datagrams of one relay socket in one pass others have their turn.
const DATAGRAMS: usize = 16;
/// ICMP errors that one pass takes from one relay socket.
const ERRORS: usize = 16;
/// The longest message that the core answers with.
const LONGEST_RESPONSE: usize = 65_552;

impl Shard {
    /// Serves a UDP listener. A batch costs more than a plain receive when one datagram waits, so the
    /// batch grows and shrinks with what comes.
    pub(super) fn receive_from_clients(&mut self, intake: usize) {
        let busy = self.note_wake(intake);
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

    /// Tells whether the listener was served in this pass or the last one already.
    fn note_wake(&mut self, intake: usize) -> bool {
        let last = std::mem::replace(&mut self.intakes[intake].last_pass, self.pass);
        self.pass.wrapping_sub(last) <= 1
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
        let mut busy = false;
        let mut run = Run::default();
        let (mut messages, mut datagrams) = (0, 0);
        while datagrams < DATAGRAMS {
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
                    if run.grows_with(&received) {
                        relay.note_burst();
                    }
                    messages += 1;
                    datagrams += self.handle_peer_datagrams(key, &received);
                }
                // Nothing to read: it was an error that woke us.
                Err(error) if is_empty(&error) && datagrams == 0 => {
                    return self.read_errors(key, family);
                }
                Err(error) if is_empty(&error) => return relay.note_emptied(messages),
                Err(_) => {
                    self.read_errors(key, family);
                    datagrams += 1;
                }
            }
            if !busy {
                return;
            }
        }
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

    /// Handles what came from a peer and returns how many datagrams it was.
    fn handle_peer_datagrams(&mut self, key: AllocationKey, received: &Received) -> usize {
        let mut datagrams = 0;
        let mut keeps = false;
        for part in received.datagrams() {
            self.reserve();
            let datagram = self.buffers.hold(0, part, received.length);
            let payload = self.buffers.bytes(datagram);
            let verdict = self
                .server
                .handle_peer(self.now, key, received.from, payload);
            let route = Route::of(&verdict, |_| Some(datagram));
            keeps |= matches!(route, Route::ToClient(..));
            self.follow(route);
            datagrams += 1;
        }
        if keeps {
            self.buffers.take(1);
        }
        datagrams
    }

    /// Makes sure that one more message and one more copy find room.
    pub(super) fn reserve(&mut self) {
        if self.outbox.is_full() || self.buffers.copy_room() < LONGEST_RESPONSE {
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
