//! What each message of a stranger draws, to the byte (S7): the table of SECURITY.md.

use turnstone::stun::PasswordAlgorithm;
use turnstone::turn::{NatDiscovery, Policy, Security};

use crate::common::token::oauth;
use crate::common::{Out, World, address, policy, udp};
use crate::dialogue::{binding, raw};

const TRANSPORT: (u16, &[u8]) = (0x0019, &[17, 0, 0, 0]);
const FORGED: (u16, &[u8]) = (0x0008, &[0; 20]);

/// The realm that a server has by default; a longer one makes challenges longer.
fn usual() -> Policy {
    let mut policy = policy();
    policy.realm = "turnstone".into();
    policy
}

/// The bytes of `request` over UDP and of its answer.
fn sizes(policy: Policy, request: &[u8]) -> (usize, usize) {
    draws(policy, "203.0.113.7:4000", request)
}

fn draws(policy: Policy, from: &str, request: &[u8]) -> (usize, usize) {
    let drawn = match World::new(policy).send(udp(from), request) {
        Out::ToClient { message, .. } => message.len(),
        Out::ToPeer { .. } | Out::ToRelay { .. } => panic!("relayed for a stranger"),
        Out::Nothing => 0,
    };
    (request.len(), drawn)
}

/// S7: a Binding request, by default and with what an operator can switch on.
#[test]
fn s7_what_a_binding_request_draws_is_as_documented() {
    let v6 = "[2001:db8:2::7]:4000";
    let plain = binding(&[]);
    assert_eq!(sizes(usual(), &plain), (20, 32));
    assert_eq!(draws(usual(), v6, &plain), (20, 44));
    assert_eq!(sizes(usual(), &binding(&[(0x7FFE, b"")])), (24, 56));
    let mut classic = plain.clone();
    classic[4..8].fill(7);
    assert_eq!(sizes(usual(), &classic), (20, 0));
    let mut old = usual();
    old.rfc3489 = true;
    assert_eq!(sizes(old, &classic), (20, 32));
    let discovering = |four: [&str; 2]| {
        let mut policy = usual();
        let [primary, alternate] = four.map(address);
        policy.nat_discovery = NatDiscovery::new(primary, alternate);
        policy
    };
    let v4_four = discovering(["192.0.2.10:3478", "192.0.2.11:3479"]);
    assert_eq!(sizes(v4_four, &plain), (20, 68));
    let v6_four = discovering(["[2001:db8::10]:3478", "[2001:db8::11]:3479"]);
    assert_eq!(draws(v6_four, v6, &plain), (20, 116));
}

/// S7: requests of TURN.
#[test]
fn s7_what_a_turn_request_draws_is_as_documented() {
    let allocate = raw(0x0003, &[TRANSPORT]);
    assert_eq!(sizes(usual(), &allocate), (28, 104));
    for method in [0x0004, 0x0008, 0x0009] {
        assert_eq!(
            sizes(usual(), &raw(method, &[(0x000D, &[0; 4])])),
            (28, 104)
        );
        assert_eq!(sizes(usual(), &raw(method, &[])), (20, 0), "a bare header");
    }
    assert_eq!(sizes(usual(), &raw(0x0003, &[FORGED])), (44, 40));
    let mut algorithms = usual();
    let both = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
    algorithms.security = Security::new(&both, true);
    assert_eq!(sizes(algorithms, &allocate), (28, 116));
    let mut tokens = usual();
    tokens.oauth = Some(oauth());
    assert_eq!(sizes(tokens, &allocate), (28, 124));
}

/// S7: everything else.
#[test]
fn s7_what_is_no_request_draws_nothing() {
    let send = raw(0x0016, &[(0x0012, &[0; 8]), (0x0013, b"data")]);
    for message in [
        &b"\x40\x00\x00\x04data"[..],
        &send,
        &raw(0x0011, &[]),
        &raw(0x0101, &[]),
        &raw(0x0113, &[]),
        &raw(0x0017, &[]),
        &binding(&[])[..19],
        &[0; 28],
        &[0xff; 1200],
    ] {
        assert_eq!(
            sizes(usual(), message),
            (message.len(), 0),
            "{message:02x?}"
        );
    }
}
