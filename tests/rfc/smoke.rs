use std::time::Duration;

use turnstone::stun::{AttributeType, Method};

use crate::common::{
    Login, Out, World, address, channel_data, lifetime, policy, send_indication, udp,
};

#[test]
fn a_client_allocates_binds_relays_and_leaves() {
    let mut world = World::new(policy());
    let client = udp("203.0.113.7:4000");
    let relay = world.allocate(client);
    let peer = address("198.51.100.1:9000");
    assert_eq!(
        world.send(client, &send_indication(peer, b"early")),
        Out::Nothing
    );
    assert_eq!(world.permit(client, peer).code(), None);
    let out = world.send(client, &send_indication(peer, b"hello"));
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer,
            payload: b"hello".to_vec()
        }
    );
    let data = world.peer_sends(relay, peer, b"reply").response();
    assert_eq!(data.value(AttributeType::DATA), Some(b"reply".to_vec()));
    assert_eq!(world.bind_channel(client, 0x4000, peer).code(), None);
    let out = world.send(client, &channel_data(0x4000, b"ping"));
    assert_eq!(
        out,
        Out::ToPeer {
            from: relay,
            peer,
            payload: b"ping".to_vec()
        }
    );
    let out = world.peer_sends(relay, peer, b"pong");
    assert_eq!(
        out,
        Out::ToClient {
            to: client,
            message: channel_data(0x4000, b"pong")
        }
    );
    world.pass(Duration::from_secs(300));
    assert_eq!(
        world.send(client, &channel_data(0x4000, b"late")),
        Out::Nothing
    );
    let gone = world.ask(&Login::alice(), client, Method::REFRESH, &[lifetime(0)]);
    assert_eq!((gone.code(), gone.lifetime()), (None, Some(0)));
    assert!(world.relays.is_empty() && world.shared.is_idle());
}
