//! Packets on their way in.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::fleet::{End, Flow};
use super::intake::{Arrivals, Intake};
use super::shape;
use super::stamp::Stamp;
use super::tally::Tally;
use super::window::Window;
use crate::net::BATCH;

/// Most batches taken from the peer's socket at a time, so that sending goes on.
const MOST_BATCHES: usize = 4;

/// Recognises packets.
pub(super) struct Inbox {
    pub(super) trial: u8,
    /// Bytes of payload that every packet has.
    pub(super) size: usize,
    pub(super) window: Option<Window>,
    pub(super) tally: Tally,
    /// How many packets have come, whenever they were due.
    pub(super) seen: u64,
}

impl Inbox {
    /// Takes the message `frame` that came to client `client` at `now`.
    pub(super) fn at_client(&mut self, flows: &mut [Flow], client: usize, frame: &[u8], now: u64) {
        if let Some(payload) = shape::payload(frame) {
            self.count(flows, payload, now, |flow| flow.to == End::Client(client));
        }
    }

    /// Counts a packet that came to where the right flows end by `ends_here`.
    fn count(
        &mut self,
        flows: &mut [Flow],
        payload: &[u8],
        now: u64,
        ends_here: impl Fn(&Flow) -> bool,
    ) {
        let Some(stamp) = Stamp::read(payload).filter(|stamp| stamp.trial == self.trial) else {
            return;
        };
        let flow = flows.get_mut(stamp.flow);
        let Some(flow) = flow.filter(|flow| ends_here(flow) && payload.len() == self.size) else {
            self.tally.misplaced += 1;
            return;
        };
        let behind = |latest: u16| stamp.sequence.wrapping_sub(latest) > u16::MAX / 2;
        if flow.latest.is_some_and(behind) {
            self.tally.reordered += 1;
        } else {
            flow.latest = Some(stamp.sequence);
        }
        self.seen += 1;
        self.tally.receive(stamp.due, now);
        if let Some(window) = &mut self.window {
            window.come(stamp.due);
        }
    }
}

/// The peer's receiving side.
pub(super) struct PeerInbox {
    intake: Intake,
}

impl PeerInbox {
    /// Of a socket that takes in trains, if `trains`.
    pub(super) fn new(trains: bool) -> Self {
        Self {
            intake: Intake::new(BATCH, trains),
        }
    }

    /// Receives what waits at `peer`; packets must come from the relayed transport address of their
    /// flow's client, which `relayed` knows.
    pub(super) fn receive(
        &mut self,
        peer: &UdpSocket,
        inbox: &mut Inbox,
        flows: &mut [Flow],
        relayed: impl Fn(usize) -> Option<SocketAddr>,
        now: impl Fn() -> u64,
    ) -> io::Result<()> {
        for _ in 0..MOST_BATCHES {
            let mut came = None;
            let count = self.intake.receive_several(peer, |from, payload| {
                let now = *came.get_or_insert_with(&now);
                inbox.count(flows, payload, now, |flow| match flow.to {
                    End::Peer(client) => relayed(client) == Some(from),
                    End::Client(_) => false,
                });
            })?;
            if count < self.intake.most() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How datagrams came so far.
    pub(super) const fn arrivals(&self) -> Arrivals {
        self.intake.arrivals()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::load::intake::receive_whole;
    use crate::load::shape::Shape;
    use crate::load::tally::Stretch;
    use crate::net::send_segments;

    const SIZE: usize = 16;

    /// One flow to the peer by way of client 0, and an inbox that knows it.
    fn setting() -> (Inbox, Vec<Flow>) {
        let inbox = Inbox {
            trial: 1,
            size: SIZE,
            window: None,
            tally: Tally::new(Stretch::new(0, Duration::ZERO, Duration::from_secs(1))),
            seen: 0,
        };
        let flow = Flow {
            from: End::Client(0),
            to: End::Client(1),
            shape: Shape::channel_data(SIZE, false),
            sequence: 0,
            latest: None,
        };
        (inbox, vec![flow])
    }

    fn frame(flow: usize, sequence: u16, trial: u8, size: usize) -> Vec<u8> {
        let shape = Shape::channel_data(size, false);
        let mut frame = shape.prefix.clone();
        frame.resize(shape.length(), 0);
        let stamp = Stamp {
            due: 1000,
            flow,
            sequence,
            trial,
        };
        stamp.write(&mut frame[shape.prefix.len()..]);
        frame
    }

    #[test]
    fn packets_count_where_they_belong_only() {
        let (mut inbox, mut flows) = setting();
        inbox.at_client(&mut flows, 1, &frame(0, 0, 1, SIZE), 2000);
        assert_eq!((inbox.tally.received, inbox.tally.misplaced), (1, 0));
        // Another client, another length, a flow that there is not.
        inbox.at_client(&mut flows, 0, &frame(0, 1, 1, SIZE), 2000);
        inbox.at_client(&mut flows, 1, &frame(0, 1, 1, SIZE + 1), 2000);
        inbox.at_client(&mut flows, 1, &frame(9, 1, 1, SIZE), 2000);
        assert_eq!((inbox.tally.received, inbox.tally.misplaced), (1, 3));
    }

    /// What comes to a peer in trains of four, from the relayed address or from elsewhere.
    fn at_peer(gro: bool, from_relayed: bool) -> (Inbox, Arrivals) {
        let (mut inbox, mut flows) = setting();
        flows[0].to = End::Peer(0);
        let [relay, stranger, peer] = [0; 3].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        peer.set_nonblocking(true).unwrap();
        receive_whole(&peer, gro).unwrap();
        let relayed = relay.local_addr().ok();
        let from = if from_relayed { relay } else { stranger };
        let payloads = (0..4).flat_map(|sequence| frame(0, sequence, 1, SIZE).split_off(4));
        let train: Vec<u8> = payloads.collect();
        let to = peer.local_addr().ok();
        send_segments(&from, to, &train, SIZE.try_into().unwrap()).unwrap();
        let mut receiving = PeerInbox::new(gro);
        let end = Instant::now() + Duration::from_secs(30);
        while inbox.seen + inbox.tally.misplaced < 4 && Instant::now() < end {
            let received = receiving.receive(&peer, &mut inbox, &mut flows, |_| relayed, || 2000);
            received.unwrap();
        }
        (inbox, receiving.arrivals())
    }

    #[test]
    fn every_packet_of_a_train_counts() {
        let counts = |inbox: &Inbox| (inbox.tally.received, inbox.tally.misplaced, inbox.seen);
        let all = Arrivals {
            datagrams: 4,
            in_trains: 4,
        };
        for (gro, arrivals) in [(true, all), (false, Arrivals::default())] {
            let (inbox, came) = at_peer(gro, true);
            assert_eq!((counts(&inbox), came), ((4, 0, 4), arrivals), "{gro}");
            let (inbox, came) = at_peer(gro, false);
            assert_eq!((counts(&inbox), came), ((0, 4, 0), arrivals), "{gro}");
        }
    }

    #[test]
    fn packets_of_another_trial_are_nothing() {
        let (mut inbox, mut flows) = setting();
        inbox.at_client(&mut flows, 1, &frame(0, 0, 2, SIZE), 2000);
        inbox.at_client(&mut flows, 1, b"\0\x01 no STUN", 2000);
        assert_eq!(
            (inbox.tally.received, inbox.tally.misplaced, inbox.seen),
            (0, 0, 0)
        );
    }

    #[test]
    fn order_is_that_of_sequence_numbers_however_they_wrap() {
        let (mut inbox, mut flows) = setting();
        for sequence in [65_534, 65_535, 0, 2, 1, 3] {
            inbox.at_client(&mut flows, 1, &frame(0, sequence, 1, SIZE), 2000);
        }
        assert_eq!((inbox.tally.received, inbox.tally.reordered), (6, 1));
    }
}
