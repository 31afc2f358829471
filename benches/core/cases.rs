//! What is measured.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use turnstone::stun::Method;
use turnstone::turn::{Action, AllocationKey, Event, Family, FiveTuple, Verdict};

use super::common::{
    Login, World, channel_data, lifetime, policy, requested_transport, send_indication, udp,
};
use super::counting;
use super::measure::Work;

/// Clients with an allocation each, in the cases that relay.
const CLIENTS: u16 = 100;
/// The same in the case that shows what many of them cost.
const MANY_CLIENTS: u16 = 10_000;
/// Bytes of application data: an audio packet.
const PAYLOAD: usize = 160;
/// The channel of every client.
const CHANNEL: u16 = 0x4000;
/// How many allocations the measure of memory makes.
pub(crate) const IDLE_ALLOCATIONS: u16 = 10_000;
/// Virtual time between two packets.
const TICK: Duration = Duration::from_nanos(500);

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) allocates_nothing: bool,
    pub(crate) prepare: fn() -> Work,
}

/// Every case, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    let case = |name, allocates_nothing, prepare| Case {
        name,
        allocates_nothing,
        prepare,
    };
    vec![
        case(
            "ChannelData, client to peer",
            true,
            channel_data_to_peer as fn() -> Work,
        ),
        case("ChannelData, peer to client", true, channel_data_to_client),
        case("ChannelData, of 10 000 clients", true, channel_data_of_many),
        case("ChannelData, client to client", true, channel_data_hop),
        case("Send indication, client to peer", true, send_to_peer),
        case("Data indication, peer to client", true, data_to_client),
        case("Binding request, success response", true, binding),
        case("Allocate request, 401 response", true, challenge),
        case(
            "authenticated Allocate, then Refresh to zero",
            false,
            allocate_and_delete,
        ),
    ]
}

/// A client with an allocation and what goes through it.
struct Leg {
    client: FiveTuple,
    key: AllocationKey,
    peer: SocketAddr,
}

/// A world with a leg for each of so many clients, whose peers are permitted and, if told, bound to
/// [`CHANNEL`].
fn world_with_legs(clients: u16, channels: bool) -> (World, Vec<Leg>) {
    let mut world = World::new(unlimited());
    let legs = (0..clients)
        .map(|number| {
            let client = client(number);
            let peer = SocketAddr::from(([198, 51, 100, 1], 10_000 + number));
            let relay = world.allocate(client);
            let answer = if channels {
                world.bind_channel(client, CHANNEL, peer)
            } else {
                world.permit(client, peer)
            };
            assert_eq!(answer.code(), None);
            let key = world.relays[&relay];
            Leg { client, key, peer }
        })
        .collect();
    (world, legs)
}

/// The usual policy, without the limit on what unauthenticated requests may draw.
fn unlimited() -> turnstone::turn::Policy {
    let mut policy = policy();
    policy.limits.reflection_bytes_per_second = u32::MAX;
    policy
}

fn client(number: u16) -> FiveTuple {
    let [high, low] = number.to_be_bytes();
    udp(&format!("203.0.{high}.{low}:5000"))
}

fn channel_data_to_peer() -> Work {
    channel_data_of(CLIENTS)
}

fn channel_data_of_many() -> Work {
    channel_data_of(MANY_CLIENTS)
}

fn channel_data_of(clients: u16) -> Work {
    let packet = channel_data(CHANNEL, &[0; PAYLOAD]);
    to_peer(world_with_legs(clients, true), move |_| packet.clone())
}

/// Both clients have an allocation of this shard: the packet goes in and comes out.
fn channel_data_hop() -> Work {
    let mut world = World::new(unlimited());
    let clients: Vec<_> = (0..CLIENTS / 2)
        .flat_map(|number| {
            let ends = [2 * number, 2 * number + 1].map(client);
            let relays = ends.map(|from| world.allocate(from));
            for (from, peer) in [(ends[0], relays[1]), (ends[1], relays[0])] {
                assert_eq!(world.bind_channel(from, CHANNEL, peer).code(), None);
            }
            ends
        })
        .collect();
    let packet = channel_data(CHANNEL, &[0; PAYLOAD]);
    let mut senders = (0..clients.len()).cycle();
    Box::new(move |times| {
        for sender in senders.by_ref().take(times_of(times)) {
            world.now.instant = world.now.instant + TICK;
            let verdict = world
                .server
                .handle_client(world.now, clients[sender], &packet);
            let Verdict::ToRelay { hop, payload } = verdict else {
                panic!("no hop but {verdict:?}");
            };
            let verdict = world.server.handle_relayed(world.now, &hop, payload);
            assert!(matches!(black_box(verdict), Some(Verdict::ToClient { .. })));
        }
    })
}

fn send_to_peer() -> Work {
    to_peer(world_with_legs(CLIENTS, false), |leg| {
        send_indication(leg.peer, &[0; PAYLOAD])
    })
}

fn to_peer((mut world, legs): (World, Vec<Leg>), packet: impl Fn(&Leg) -> Vec<u8>) -> Work {
    let packets: Vec<Vec<u8>> = legs.iter().map(packet).collect();
    let mut next = (0..legs.len()).cycle();
    Box::new(move |times| {
        for place in next.by_ref().take(times_of(times)) {
            world.now.instant = world.now.instant + TICK;
            let verdict =
                world
                    .server
                    .handle_client(world.now, legs[place].client, &packets[place]);
            assert!(matches!(black_box(verdict), Verdict::ToPeer { .. }));
        }
    })
}

fn channel_data_to_client() -> Work {
    to_client(world_with_legs(CLIENTS, true))
}

fn data_to_client() -> Work {
    to_client(world_with_legs(CLIENTS, false))
}

fn to_client((mut world, legs): (World, Vec<Leg>)) -> Work {
    let payload = [0; PAYLOAD];
    let mut next = (0..legs.len()).cycle();
    Box::new(move |times| {
        for place in next.by_ref().take(times_of(times)) {
            let leg = &legs[place];
            world.now.instant = world.now.instant + TICK;
            let verdict = world
                .server
                .handle_peer(world.now, leg.key, leg.peer, &payload);
            assert!(matches!(black_box(verdict), Verdict::ToClient { .. }));
        }
    })
}

fn binding() -> Work {
    let mut world = World::new(unlimited());
    let request = world.request(Method::BINDING, &[]);
    answered(world, request)
}

fn challenge() -> Work {
    let mut world = World::new(unlimited());
    let request = world.request(Method::ALLOCATE, &[requested_transport(17)]);
    answered(world, request)
}

fn answered(mut world: World, request: Vec<u8>) -> Work {
    let client = client(0);
    Box::new(move |times| {
        for _ in 0..times {
            world.now.instant = world.now.instant + TICK;
            exchange(&mut world, client, &request);
        }
    })
}

fn allocate_and_delete() -> Work {
    let mut world = World::new(unlimited());
    let (login, client) = (Login::alice(), client(0));
    let allocate = world.signed(&login, client, Method::ALLOCATE, &[requested_transport(17)]);
    let delete = world.signed(&login, client, Method::REFRESH, &[lifetime(0)]);
    Box::new(move |times| {
        for _ in 0..times {
            world.now.instant = world.now.instant + TICK;
            exchange(&mut world, client, &allocate);
            exchange(&mut world, client, &delete);
        }
    })
}

/// One request and its response, relay sockets opened as asked.
fn exchange(world: &mut World, client: FiveTuple, request: &[u8]) {
    let verdict = world.server.handle_client(world.now, client, request);
    assert!(matches!(verdict, Verdict::Respond | Verdict::Park));
    open_relays(world);
    let response = world.server.poll_response();
    assert!(black_box(response).is_some());
}

fn open_relays(world: &mut World) {
    while let Some(action) = world.server.poll_action() {
        if let Action::OpenRelay { key, local } = action {
            let family = Family::of(local.ip());
            world
                .server
                .handle_event(world.now, Event::RelayOpened { key, family });
        }
    }
}

/// Heap bytes that one of [`IDLE_ALLOCATIONS`] allocations takes in the core.
pub(crate) fn heap_per_idle_allocation() -> usize {
    let mut world = World::new(unlimited());
    let login = Login::alice();
    let before = counting::live_bytes();
    for number in 0..IDLE_ALLOCATIONS {
        let client = client(number);
        let request = world.signed(&login, client, Method::ALLOCATE, &[requested_transport(17)]);
        exchange(&mut world, client, &request);
    }
    (counting::live_bytes() - before) / usize::from(IDLE_ALLOCATIONS)
}

fn times_of(times: u64) -> usize {
    usize::try_from(times).unwrap_or(usize::MAX)
}
