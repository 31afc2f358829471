//! How long things live (RFC 8656 §6, §7.2, §8.2, §9, §12).

use turnstone::stun::{AttributeType, Method};
use turnstone::turn::{AllocationEnd, Counter};

use crate::common::{
    Login, Out, World, channel_data, lifetime, requested_transport, send_indication,
};
use crate::dialogue::{
    allocated, ask, client, code, hears, peer, reaches, seconds, world, world_with,
};

fn granted(world: &mut World, asked: u32) -> Option<u32> {
    let attributes = [requested_transport(17), lifetime(asked)];
    ask(world, Method::ALLOCATE, &attributes).lifetime()
}

/// RFC 8656 §6: 600 seconds by default.
#[test]
fn an_allocation_lives_ten_minutes_by_default() {
    let (mut world, _) = allocated();
    world.pass(seconds(599));
    assert!(world.server.has_allocation(&client()));
    world.pass(seconds(1));
    assert!(!world.server.has_allocation(&client()));
    let ended = Counter::AllocationsEnded(AllocationEnd::Expired);
    assert_eq!(world.server.stats().get(ended), 1);
}

/// RFC 8656 §7.2: the minimum of what is proposed and the maximum, at least the default.
#[test]
fn a_proposed_lifetime_is_granted_between_default_and_maximum() {
    for (asked, granted_) in [
        (0, 600),
        (1, 600),
        (600, 600),
        (601, 601),
        (3600, 3600),
        (3601, 3600),
        (u32::MAX, 3600),
    ] {
        assert_eq!(granted(&mut world(), asked), Some(granted_), "{asked}");
    }
}

/// RFC 8656 §18.2: four bytes.
#[test]
fn a_malformed_lifetime_is_a_bad_request() {
    let (mut other, _) = allocated();
    for value in [vec![], vec![0, 0], vec![0, 0, 0, 0, 0]] {
        let malformed = (AttributeType::LIFETIME, value);
        let attributes = [requested_transport(17), malformed.clone()];
        assert_eq!(code(&mut world(), Method::ALLOCATE, &attributes), Some(400));
        assert_eq!(code(&mut other, Method::REFRESH, &[malformed]), Some(400));
    }
}

/// RFC 8656 §7.2: a granted lifetime is kept.
#[test]
fn an_allocation_lives_as_long_as_the_response_says() {
    let mut world = world();
    assert_eq!(granted(&mut world, 1000), Some(1000));
    world.pass(seconds(999));
    assert!(world.server.has_allocation(&client()));
    world.pass(seconds(1));
    assert!(!world.server.has_allocation(&client()));
}

/// RFC 8656 §8.2: Refresh sets the time-to-expiry, to more or to less.
#[test]
fn a_refresh_sets_the_time_to_expiry() {
    let (mut world, _) = allocated();
    world.pass(seconds(500));
    let cases = [
        (Some(2000), 2000),
        (None, 600),
        (Some(700), 700),
        (Some(1), 600),
    ];
    for (asked, granted) in cases {
        let attributes: Vec<_> = asked.map(lifetime).into_iter().collect();
        let answer = ask(&mut world, Method::REFRESH, &attributes);
        assert_eq!(answer.lifetime(), Some(granted));
    }
    world.pass(seconds(599));
    assert!(world.server.has_allocation(&client()));
    world.pass(seconds(1));
    assert!(!world.server.has_allocation(&client()));
}

/// RFC 8656 §6: sending data to a peer does not refresh an allocation; nor do the other requests.
#[test]
fn nothing_but_refresh_refreshes_an_allocation() {
    let (mut world, relay) = allocated();
    for _ in 0..5 {
        world.bind_channel(client(), 0x4000, peer());
        world.permit(client(), peer());
        assert!(reaches(&mut world, peer()) && hears(&mut world, relay, peer()));
        world.pass(seconds(120));
    }
    assert!(!world.server.has_allocation(&client()));
}

/// RFC 8656 §9: the permission lifetime is 300 seconds.
#[test]
fn a_permission_lives_five_minutes() {
    let (mut world, relay) = allocated();
    world.permit(client(), peer());
    world.pass(seconds(299));
    assert!(reaches(&mut world, peer()) && hears(&mut world, relay, peer()));
    world.pass(seconds(1));
    assert!(!reaches(&mut world, peer()) && !hears(&mut world, relay, peer()));
    assert_eq!(world.server.stats().get(Counter::Permissions), 0);
}

/// RFC 8656 §9: CreatePermission and ChannelBind reset it to 300 seconds.
#[test]
fn permissions_are_refreshed_by_both_requests() {
    let (mut world, _) = allocated();
    world.permit(client(), peer());
    world.pass(seconds(200));
    world.bind_channel(client(), 0x4000, peer());
    world.pass(seconds(200));
    assert!(reaches(&mut world, peer()));
    world.permit(client(), peer());
    world.pass(seconds(199));
    assert!(reaches(&mut world, peer()));
}

/// RFC 8656 §9, §11.2, §12.6: data refreshes no permission, from neither side.
#[test]
fn data_refreshes_no_permission() {
    let (mut world, relay) = allocated();
    world.bind_channel(client(), 0x4000, peer());
    for _ in 0..3 {
        world.pass(seconds(100));
        let _ = world.send(client(), &send_indication(peer(), b"data"));
        let _ = world.send(client(), &channel_data(0x4000, b"data"));
        let _ = world.peer_sends(relay, peer(), b"data");
    }
    assert!(!reaches(&mut world, peer()) && !hears(&mut world, relay, peer()));
}

/// RFC 8656 §12: a channel binding lasts ten minutes unless refreshed; data does not refresh it.
#[test]
fn a_channel_lives_ten_minutes_and_data_does_not_refresh_it() {
    let mut world = world();
    granted(&mut world, 3600);
    world.bind_channel(client(), 0x4000, peer());
    world.pass(seconds(300));
    world.permit(client(), peer());
    world.pass(seconds(299));
    let ping = channel_data(0x4000, b"ping");
    assert!(matches!(world.send(client(), &ping), Out::ToPeer { .. }));
    world.permit(client(), peer());
    world.pass(seconds(1));
    assert_eq!(world.send(client(), &ping), Out::Nothing);
    assert!(reaches(&mut world, peer()), "the permission is alive");
    assert_eq!(world.server.stats().get(Counter::Channels), 0);
}

/// RFC 8656 §12: rebinding to the same peer resets the timer to ten minutes.
#[test]
fn a_channel_is_refreshed_by_rebinding() {
    let mut world = world();
    granted(&mut world, 3600);
    for _ in 0..4 {
        assert_eq!(world.bind_channel(client(), 0x4000, peer()).code(), None);
        world.pass(seconds(299));
    }
    let out = world.send(client(), &channel_data(0x4000, b"ping"));
    assert!(matches!(out, Out::ToPeer { .. }));
    assert_eq!(world.server.stats().get(Counter::Channels), 1);
}

/// RFC 8656 §9, §12: permissions and channels expire with their allocation.
#[test]
fn permissions_and_channels_end_with_the_allocation() {
    let (mut world, _) = allocated();
    world.pass(seconds(550));
    world.bind_channel(client(), 0x4000, peer());
    world.pass(seconds(50));
    world.allocate(client());
    assert!(!reaches(&mut world, peer()));
    assert_eq!(
        world.send(client(), &channel_data(0x4000, b"ping")),
        Out::Nothing
    );
    let stats = world.server.stats();
    assert_eq!(stats.get(Counter::Permissions), 0);
    assert_eq!(stats.get(Counter::Channels), 0);
}

/// Every lifetime can be as short as a second.
#[test]
fn lifetimes_follow_the_configuration() {
    let mut world = world_with(|policy| {
        policy.lifetimes.allocation = seconds(4);
        policy.lifetimes.allocation_max = seconds(5);
        policy.lifetimes.permission = seconds(1);
        policy.lifetimes.channel = seconds(2);
        policy.lifetimes.nonce = seconds(3);
    });
    let nonce = world.nonce(client());
    assert_eq!(granted(&mut world, 100), Some(5));
    world.bind_channel(client(), 0x4000, peer());
    world.pass(seconds(1));
    assert!(!reaches(&mut world, peer()));
    assert_eq!(world.server.stats().get(Counter::Channels), 1);
    world.pass(seconds(1));
    assert_eq!(world.server.stats().get(Counter::Channels), 0);
    world.pass(seconds(1));
    let id = world.transaction();
    let refresh = Login::alice().sign(id, Method::REFRESH, &[], &nonce);
    assert_eq!(world.send(client(), &refresh).response().code(), Some(438));
    let refreshed = ask(&mut world, Method::REFRESH, &[]);
    assert_eq!(refreshed.lifetime(), Some(4));
    world.pass(seconds(4));
    assert!(!world.server.has_allocation(&client()));
}
