//! Any bytes as what another process hands over: nothing panics, and what was taken in goes away again.

use std::time::Duration;

use turnstone::turn::{Handover, Policy, RelaySet};

use crate::common::{World, policy, udp};

/// One input; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    if let Ok(relays) = RelaySet::from_bytes(data) {
        assert_eq!(RelaySet::from_bytes(&relays.to_bytes()), Ok(relays));
    }
    let Ok(handover) = Handover::from_bytes(data) else {
        return;
    };
    let sockets = handover.sockets().count();
    assert!(format!("{handover:?}").len() < 100 && sockets <= data.len());
    let again = Handover::from_bytes(&handover.to_bytes()).expect("it was one");
    assert_eq!(again.sockets().count(), sockets);
    let mut world = World::new(mobile());
    world.any_socket = true;
    let Ok(imported) = world.server.import(world.now, &handover) else {
        return;
    };
    world.settle();
    assert!(imported.allocations <= handover.allocations());
    world.send(udp("203.0.113.7:4000"), b"\x40\x01\x00\x04data");
    let exported = world.server.export(world.now);
    assert!(exported.allocations() <= imported.allocations);
    end(&mut world);
}

/// Later than everything that LIFETIME can say, nothing is left.
fn end(world: &mut World) {
    world.pass(Duration::from_secs(1 << 33));
    assert!(world.relays.is_empty() && world.held().is_empty() && world.shared.is_idle());
    assert_eq!(world.server.poll_timeout(), None);
}

fn mobile() -> Policy {
    let mut policy = policy();
    policy.mobility = true;
    policy.relay.ports = 50_000..=50_015;
    policy
}
