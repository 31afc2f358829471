//! Holds what a shard does and counts against what it has to do.

use turnstone::stun::AttributeType;
use turnstone::turn::{Counter, Direction, Family, FiveTuple, Reason, Source, Stats, Transport};

use crate::common::Response;
use crate::oracle::{By, Census, ToClient};
use crate::properties::Property;

/// Holds what the server did with application data against what it has to do.
pub(super) fn judge<T: PartialEq + std::fmt::Debug>(
    did: &Option<T>,
    expected: &Option<T>,
    payload: impl Fn(&T) -> &Vec<u8>,
    message: &[u8],
) {
    let property = match (did, expected) {
        (Some(_), None) if matches!(message, [0x40..=0x4F, ..]) => Property::ChannelsAreBound,
        (Some(_), None) => Property::RelaysOnlyWhatIsPermitted,
        (Some(did), Some(wanted)) if payload(did) != payload(wanted) => {
            Property::PayloadsArriveUnaltered
        }
        (Some(_), Some(_)) => Property::DataReachesItsClientAlone,
        (None, _) => Property::RelaysAllThatIsPermitted,
    };
    property.holds(did == expected, || {
        format!("{did:?} instead of {expected:?}")
    });
}

/// Application data as its client finds it.
pub(super) fn read(client: FiveTuple, message: &[u8]) -> ToClient {
    if let [n0 @ 0x40..=0x4F, n1, l0, l1, rest @ ..] = message {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let whole = if client.transport.is_stream() {
            length.next_multiple_of(4)
        } else {
            length
        };
        assert_eq!(rest.len(), whole, "ChannelData is framed right");
        return ToClient {
            client,
            by: By::Channel(u16::from_be_bytes([*n0, *n1])),
            payload: rest[..length].to_vec(),
        };
    }
    let data = Response(message.to_vec());
    let peer = data.xor_address(AttributeType::XOR_PEER_ADDRESS);
    ToClient {
        client,
        by: By::Indication(peer.expect("a peer")),
        payload: data.value(AttributeType::DATA).expect("data"),
    }
}

fn received(stats: &Stats) -> u64 {
    let sources = Source::ALL.iter();
    sources
        .map(|source| stats.get(Counter::ReceivedPackets(*source)))
        .sum()
}

fn ended(stats: &Stats) -> u64 {
    let relayed = Direction::ALL.iter().map(|d| Counter::RelayedPackets(*d));
    let dropped = Reason::ALL.iter().map(|reason| Counter::Dropped(*reason));
    let answered = [Counter::Answered, Counter::Parked].into_iter();
    let all = relayed.chain(dropped).chain(answered);
    all.map(|counter| stats.get(counter)).sum()
}

/// Every packet that came in ended in one way.
pub(super) fn check_outcomes(stats: &Stats) {
    let (received, ended) = (received(stats), ended(stats));
    Property::EveryPacketHasOneOutcome.holds(received == ended, || {
        format!("{received} received, {ended} accounted for")
    });
}

/// The gauges count what was granted; each allocation has one relay port.
pub(super) fn check_gauges(stats: &Stats, granted: &Census) {
    let transports = Transport::ALL.iter();
    let each = transports.flat_map(|t| Family::ALL.iter().map(|f| Counter::Allocations(*t, *f)));
    let gauges = Census {
        allocations: each.map(|counter| stats.get(counter)).sum(),
        permissions: stats.get(Counter::Permissions),
        channels: stats.get(Counter::Channels),
    };
    let ports = stats.get(Counter::RelayPorts);
    let right = gauges == *granted && ports == gauges.allocations;
    Property::GaugesTellTheTruth.holds(right, || {
        format!("granted {granted:?}, gauges {gauges:?} and {ports} ports")
    });
}
