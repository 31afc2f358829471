//! When all is back where it began, every port can be allocated again.

use turnstone::stun::{AttributeType, Method, TransactionId};
use turnstone::turn::{FiveTuple, Transport};

use crate::common::{Login, Response, address, requested_family, requested_transport};
use crate::deployment::Deployment;
use crate::plan::SERVER_V4;
use crate::properties::Property;
use crate::shards::Output;

/// Allocates until no port is left, checks that none was missing, and lets all of them expire.
pub(crate) fn take_every_port(deployment: &mut Deployment, ports: usize) {
    for family in [1, 2] {
        let tries = 0..u16::try_from(ports * 10).expect("few ports");
        let taken = tries.filter(|number| allocates(deployment, *number, family));
        let taken = taken.take(ports).count();
        Property::EverythingReturns.holds(taken == ports, || {
            format!("{taken} of {ports} ports could be taken again")
        });
    }
    deployment.run_dry();
    deployment.shards.check_returned();
}

/// Whether the client with this number gets an allocation; 508 otherwise.
fn allocates(deployment: &mut Deployment, number: u16, family: u8) -> bool {
    let [high, low] = number.to_be_bytes();
    let from = FiveTuple {
        transport: Transport::Udp,
        client: ([198, 18, high, low], 1000 + u16::from(family)).into(),
        server: address(SERVER_V4),
    };
    let attributes = [requested_transport(17), requested_family(family)];
    let login = Login::new("alice", "wonderland");
    let mut ask = |nonce: &[u8]| {
        let id = TransactionId([family; 12]);
        let request = login.sign(id, Method::ALLOCATE, &attributes, nonce);
        let now = deployment.now();
        let outputs = deployment.shards.hear_client(now, from, &request);
        match outputs.into_iter().next() {
            Some(Output::ToClient { message, .. }) => Response(message),
            other => panic!("an Allocate request ended in {other:?}"),
        }
    };
    let challenge = ask(b"none");
    let nonce = challenge.value(AttributeType::NONCE).expect("a nonce");
    let code = ask(&nonce).code();
    assert!(matches!(code, None | Some(508)), "answered with {code:?}");
    code.is_none()
}
