//! What the operator of the tested server decided.

use turnstone::stun::{ChannelRange, PasswordAlgorithm};
use turnstone::turn::{
    Admission, Alternates, Bandwidth, Credentials, Lifetimes, Limits, OwnHost, PeerFilter, Policy,
    RelayAddresses, RelaySource, Rule, RuleAction, Security, SharedSecret, StoredKey,
};

use super::{PASSWORD, REALM, SECRET, USER, address};

/// Users alice and bob, one shared secret, relays on 192.0.2.10 and 2001:db8::10, peers in
/// 198.51.100.0/24 and 2001:db8:1::/48 allowed.
pub fn policy() -> Policy {
    let mut credentials = Credentials::new(REALM);
    credentials.add_user(
        USER,
        StoredKey::derive(PasswordAlgorithm::Md5, USER, REALM, PASSWORD),
    );
    credentials.add_user(
        "bob",
        StoredKey::derive(PasswordAlgorithm::Md5, "bob", REALM, "builder"),
    );
    credentials.add_secret(SharedSecret::new(SECRET));
    Policy {
        realm: REALM.into(),
        software: Some("Turnstone".into()),
        credentials,
        security: Security::default(),
        lifetimes: Lifetimes::default(),
        relay: RelayAddresses {
            v4: RelaySource::Fixed(vec![address("192.0.2.10:0").ip()]),
            v6: RelaySource::Fixed(vec![address("[2001:db8::10]:0").ip()]),
            external: Vec::new(),
            ports: 49_152..=65_535,
            tcp: false,
        },
        peers: peers(&["198.51.100.0/24", "2001:db8:1::/48"]),
        limits: Limits::default(),
        bandwidth: Bandwidth::default(),
        nat_discovery: None,
        mobility: false,
        oauth: None,
        rfc3489: false,
        channels: ChannelRange::Rfc8656,
        admission: Admission::Open,
        alternates: Alternates::default(),
    }
}

/// A filter that allows `networks` beside what is allowed anyway.
pub fn peers(networks: &[&str]) -> PeerFilter {
    let allow = |text: &&str| Rule {
        network: text.parse().expect("a network"),
        action: RuleAction::Allow,
    };
    let rules: Vec<Rule> = networks.iter().map(allow).collect();
    let own = OwnHost {
        addresses: vec![
            address("192.0.2.10:0").ip(),
            address("[2001:db8::10]:0").ip(),
        ],
        networks: Vec::new(),
        listeners: vec![address("0.0.0.0:3478"), address("[::]:3478")],
    };
    PeerFilter::new(&rules, &own)
}
