//! Every single thing that a network or a machine can do to a handshake.

use std::time::Duration;

use super::world::{ALL, Client, Speaks, Told, World};
use crate::time::Instant;

/// How long a datagram travels.
const WAY: Duration = Duration::from_millis(20);
/// So many datagrams of a handshake are tried; those of the longest are fewer.
const DATAGRAMS: usize = 12;
/// In milliseconds: before and after the next flights, and longer than a flight waits for its answer once, twice
/// and three times.
const DELAYS: [u64; 10] = [0, 10, 30, 50, 70, 90, 110, 700, 1600, 4500];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Server,
    Client,
}

/// What happens to one handshake, at the datagram of that number.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    Lost(usize),
    Late(usize, Duration),
    Repeated(usize, Duration),
    /// It comes in one datagram with the next for the server. For the client none does: the library reads no more
    /// when a message comes twice in a datagram.
    Joined(usize),
    /// When it arrives, its receiver stands still for so long.
    Stalled(usize, Duration),
}

/// A datagram on its way.
struct Flying {
    at: Instant,
    number: usize,
    to: To,
    bytes: Vec<u8>,
}

struct Wire {
    world: World,
    client: Client,
    event: Event,
    flying: Vec<Flying>,
    /// Datagrams sent until now.
    number: usize,
    held: Option<Vec<u8>>,
    /// Until when each stands still.
    server_still: Instant,
    client_still: Instant,
    failure: Option<String>,
}

impl Wire {
    fn new(speaks: Speaks, event: Event) -> Self {
        let world = World::new();
        Self {
            client: Client::new(4000, speaks, &world),
            world,
            event,
            flying: Vec::new(),
            number: 0,
            held: None,
            server_still: Instant::ZERO,
            client_still: Instant::ZERO,
            failure: None,
        }
    }

    /// The handshake; none of its datagrams is on its way any more.
    fn run(&mut self) -> Result<(), String> {
        self.collect();
        let end = self.world.now + Duration::from_secs(30);
        let is_established = |world: &World| world.told.contains(&Told::Established(4000));
        while !(self.client.connected && is_established(&self.world) && self.flying.is_empty()) {
            self.step();
            self.collect();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.world.now > end {
                return Err(format!("not complete, {:?}", self.world.told));
            }
        }
        Ok(())
    }

    fn collect(&mut self) {
        for datagram in self.client.take_sent() {
            self.send(To::Server, datagram);
        }
        for datagram in self.world.take_sent() {
            self.send(To::Client, datagram);
        }
    }

    fn send(&mut self, to: To, mut bytes: Vec<u8>) {
        if let Some(mut first) = self.held.take_if(|_| to == To::Server) {
            first.append(&mut bytes);
            bytes = first;
        }
        let number = self.number;
        self.number += 1;
        match self.event {
            Event::Lost(which) if which == number => {}
            Event::Late(which, by) if which == number => self.fly(by, number, to, bytes),
            Event::Repeated(which, after) if which == number => {
                self.fly(Duration::ZERO, number, to, bytes.clone());
                self.fly(after, number, to, bytes);
            }
            Event::Joined(which) if which == number && to == To::Server => self.held = Some(bytes),
            _ => self.fly(Duration::ZERO, number, to, bytes),
        }
    }

    fn fly(&mut self, late: Duration, number: usize, to: To, bytes: Vec<u8>) {
        self.flying.push(Flying {
            at: self.world.now + WAY + late,
            number,
            to,
            bytes,
        });
    }

    /// Lets the next thing happen: a datagram arrives, or a timer ends.
    fn step(&mut self) {
        let library_now = self.world.library_now();
        let left = self.client.timer.saturating_duration_since(library_now);
        let client_timer = (self.world.now + left).max(self.client_still);
        let server_timer = self.world.sessions.poll_timeout();
        let server_timer = server_timer
            .unwrap_or(Instant::FAR_FUTURE)
            .max(self.server_still);
        let flying = self.flying.iter().enumerate();
        let arrivals = flying.map(|(place, datagram)| (self.arrival(datagram), place));
        let (arrival, place) = arrivals.min().unwrap_or((Instant::FAR_FUTURE, 0));
        self.world.now = arrival
            .min(client_timer)
            .min(server_timer)
            .max(self.world.now);
        if arrival <= self.world.now {
            let datagram = self.flying.remove(place);
            self.arrive(datagram);
        } else if server_timer <= self.world.now {
            self.world.pass(Duration::ZERO);
        } else {
            self.failure = self.client.try_wake(&self.world).err();
        }
    }

    fn arrival(&self, datagram: &Flying) -> Instant {
        datagram.at.max(match datagram.to {
            To::Server => self.server_still,
            To::Client => self.client_still,
        })
    }

    fn arrive(&mut self, datagram: Flying) {
        let still = match datagram.to {
            To::Server => &mut self.server_still,
            To::Client => &mut self.client_still,
        };
        match self.event {
            Event::Stalled(which, by) if which == datagram.number && *still == Instant::ZERO => {
                *still = datagram.at + by;
                self.flying.insert(0, datagram);
            }
            _ if datagram.to == To::Server => {
                self.world.receive(self.client.at, &datagram.bytes);
            }
            _ => self.failure = self.client.try_hear(&datagram.bytes, &self.world).err(),
        }
    }
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Nothing];
    for which in 0..DATAGRAMS {
        events.extend([Event::Lost(which), Event::Joined(which)]);
        for by in DELAYS.map(Duration::from_millis) {
            events.extend([
                Event::Late(which, by),
                Event::Repeated(which, by),
                Event::Stalled(which, by),
            ]);
        }
    }
    events
}

#[test]
fn a_handshake_survives_every_single_event() {
    for speaks in ALL {
        for event in events() {
            let mut wire = Wire::new(speaks, event);
            let ran = wire.run();
            assert_eq!(ran, Ok(()), "{speaks:?}, {event:?}");
            wire.world.take_told();
            wire.world.hears(&mut wire.client, b"that was hard");
            wire.world.tells(&mut wire.client, b"it was");
        }
    }
}

/// A client that has heard the answer to its first ClientHello, its first and its second.
fn hellos(world: &mut World, speaks: Speaks) -> (Client, Vec<u8>, Vec<u8>) {
    let mut client = Client::new(4000, speaks, world);
    let first = client.take_sent().remove(0);
    world.receive(client.at, &first);
    for datagram in world.take_sent() {
        client.hear(&datagram);
    }
    let second = client.take_sent().remove(0);
    (client, first, second)
}

#[test]
fn a_cookie_behind_a_hello_that_is_repeated_is_taken() {
    for speaks in ALL {
        let mut world = World::new();
        let (mut client, first, second) = hellos(&mut world, speaks);
        let datagram = [&first[..], &first, &second].concat();
        world.receive(client.at, &datagram);
        assert_eq!(world.sessions.len(), 1, "{speaks:?}");
        world.settle(&mut client);
        assert!(client.connected, "{speaks:?}");
    }
}

#[test]
fn what_is_behind_a_hello_that_is_repeated_is_heard() {
    for speaks in ALL {
        let mut world = World::new();
        let (mut client, _, second) = hellos(&mut world, speaks);
        world.receive(client.at, &second);
        for datagram in world.take_sent() {
            client.hear(&datagram);
        }
        for datagram in client.take_sent() {
            world.receive(client.at, &[&second[..], &datagram].concat());
        }
        assert_eq!(world.take_told(), [Told::Established(4000)], "{speaks:?}");
        world.settle(&mut client);
        assert!(client.connected, "{speaks:?}");
    }
}

#[test]
fn many_hellos_in_one_datagram_draw_one_answer_no_longer_than_one_of_them() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        let hello = client.take_sent().remove(0);
        world.receive(client.at, &hello.repeat(20));
        let sent = world.take_sent();
        assert_eq!(sent.len(), 1, "{speaks:?}");
        assert!(sent[0].len() <= hello.len(), "{speaks:?}");
        assert!(world.sessions.is_empty());
    }
}

#[test]
fn a_first_hello_of_somebody_else_does_not_spoil_a_handshake() {
    for speaks in ALL {
        let mut world = World::new();
        let (mut client, _, second) = hellos(&mut world, speaks);
        for other in ALL {
            let mut forged = Client::new(4000, other, &world);
            world.receive(client.at, &forged.take_sent().remove(0));
        }
        world.take_sent();
        world.receive(client.at, &second);
        world.settle(&mut client);
        assert!(client.connected, "{speaks:?}");
    }
}
