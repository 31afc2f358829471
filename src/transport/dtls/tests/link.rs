//! Networks that lose, repeat and reorder.

use std::time::Duration;

use super::world::{ALL, Client, Told, World};

/// Random numbers of a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % limit
    }
}

/// Loses a fifth of the datagrams, repeats a fifth, and turns the order of some.
fn mistreat(random: &mut Random, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    for datagram in datagrams {
        match random.below(5) {
            0 => {}
            1 => arrived.extend([datagram.clone(), datagram]),
            2 => arrived.insert(0, datagram),
            _ => arrived.push(datagram),
        }
    }
    arrived
}

#[test]
fn handshakes_survive_loss_repetition_and_reordering() {
    let mut complete = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let speaks = ALL[random.below(3)];
        let mut world = World::new();
        let mut client = Client::new(4000, speaks, &world);
        for _ in 0..90 {
            let datagrams = client.take_sent();
            for datagram in mistreat(&mut random, datagrams) {
                world.receive(client.at, &datagram);
            }
            let datagrams = world.take_sent();
            for datagram in mistreat(&mut random, datagrams) {
                client.hear(&datagram);
            }
            world.pass(Duration::from_millis(100));
            client.wake(&world);
        }
        let established = world.take_told().contains(&Told::Established(4000));
        complete += usize::from(client.connected && established);
    }
    assert!(complete >= 50, "only {complete} of 60 handshakes");
}

#[test]
fn records_that_come_twice_are_heard_once_and_in_any_order() {
    for speaks in ALL {
        let mut world = World::new();
        let mut client = world.connect(4000, speaks);
        for number in 0..10 {
            client.say(&[number]);
        }
        let mut datagrams = client.take_sent();
        datagrams.reverse();
        for datagram in datagrams.iter().chain(&datagrams.clone()) {
            world.receive(client.at, datagram);
        }
        let mut heard: Vec<_> = world
            .take_told()
            .into_iter()
            .map(|told| match told {
                Told::Message(4000, bytes) => bytes[0],
                other => panic!("{other:?}"),
            })
            .collect();
        heard.sort_unstable();
        assert_eq!(heard, (0..10).collect::<Vec<_>>(), "{speaks:?}");
    }
}
