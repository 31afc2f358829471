//! The one gate for peers (requirements S1 to S4): every path that relays asks it, address by address.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use super::embedded::embedded;
use super::live_relays::{Destination, LiveRelays};
use super::network::Network;
use super::peer_refusal::PeerRefusal;

/// What a rule does with the peers of its network. Deny comes first: it wins a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleAction {
    /// Refuse them with 403.
    Deny,
    /// Relay to them.
    Allow,
}

/// An operator's rule: the most specific one that matches wins, deny wins a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The peers it speaks of.
    pub network: Network,
    /// What becomes of them.
    pub action: RuleAction,
}

/// What the filter knows of the machine it runs on.
#[derive(Clone, Debug, Default)]
pub struct OwnHost {
    /// Every address of its interfaces, and their public faces behind a 1:1 NAT.
    pub addresses: Vec<IpAddr>,
    /// The networks of its interfaces, refused unless a rule allows them.
    pub networks: Vec<Network>,
    /// Where it listens (clients, metrics), and the servers behind it that trust it; never relayed to,
    /// whatever a rule says. An unspecified address stands for every address of the host.
    pub listeners: Vec<SocketAddr>,
}

/// How far the leave to relay to an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every port.
    Anywhere,
    /// An address of this host: its live relays, and every port but the listeners' if `allowed`.
    OwnHost {
        /// A rule allows the address itself.
        allowed: bool,
    },
}

/// Decides whether a peer may be relayed to.
#[derive(Debug)]
pub struct PeerFilter {
    /// The operator's and the built-in rules, in such order that the first match decides.
    rules: Vec<Rule>,
    /// The operator's alone, in the same order.
    operators: Vec<Rule>,
    own: OwnHost,
}

/// The special-purpose blocks of the IANA registry, multicast, and what was never assigned (S1).
const SPECIAL_V4: [([u8; 4], u8); 17] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

/// Likewise for IPv6: all but 2000::/3 (so loopback, mapped, unique-local, link-local, site-local,
/// multicast, discard), and within it the protocol and documentation blocks and 6to4 (Teredo is a
/// protocol block; RFC 8656 §21.4 forbids both).
const SPECIAL_V6: [([u16; 8], u8); 7] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 3),
    ([0x4000, 0, 0, 0, 0, 0, 0, 0], 2),
    ([0x8000, 0, 0, 0, 0, 0, 0, 0], 1),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// The well-known prefix of NAT64 (RFC 6052), through which an IPv6-only host reaches IPv4 peers; the
/// IPv4 address inside is judged as well.
const NAT64: ([u16; 8], u8) = ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

impl PeerFilter {
    /// The special-purpose blocks (S1) and the operator's `rules`; what none of them matches is allowed
    /// unless it is the host's own place. A rule on the very network of a special-purpose block replaces
    /// it.
    pub fn new(rules: &[Rule], own: &OwnHost) -> Self {
        let operators = sorted(rules.to_vec());
        let replaced = |rule: &Rule| rules.iter().any(|other| other.network == rule.network);
        let mut all: Vec<Rule> = built_in().filter(|rule| !replaced(rule)).collect();
        all.extend_from_slice(rules);
        Self {
            rules: sorted(all),
            operators,
            own: own.clone(),
        }
    }

    /// Whether a permission for `peer` may be installed, and how far it goes.
    pub(super) fn permit(&self, peer: IpAddr, live: &LiveRelays) -> Result<Scope, PeerRefusal> {
        let allowed = !any_spelling(peer, |ip| ip.is_unspecified()) && self.allows(peer);
        let is_relay = live.is_relay_address(peer) && !self.denied_by_operator(peer);
        let is_own = is_relay || any_spelling(peer, |ip| self.is_own(ip));
        match (allowed, is_own) {
            (true, false) => Ok(Scope::Anywhere),
            (true, true) => Ok(Scope::OwnHost { allowed }),
            (false, _) if is_relay => Ok(Scope::OwnHost { allowed }),
            (false, _) => Err(self.refusal(peer)),
        }
    }

    /// Why `peer` is refused.
    fn refusal(&self, peer: IpAddr) -> PeerRefusal {
        match self.denial(peer) {
            None => PeerRefusal::OwnHost,
            Some(rule) if self.operators.contains(rule) => PeerRefusal::OperatorRule,
            Some(_) => PeerRefusal::SpecialPurpose,
        }
    }

    /// The rule that refuses `peer`, or an IPv4 address that it may be an encoding of; none when no
    /// rule does, but its place at this host.
    pub(super) fn denial(&self, peer: IpAddr) -> Option<&Rule> {
        let denies = |ip| first_match(&self.rules, ip).filter(|r| r.action == RuleAction::Deny);
        let embedded = embedded(peer).map(IpAddr::from);
        std::iter::once(peer).chain(embedded).find_map(denies)
    }

    /// Where a packet for `peer` is sent under a permission of `scope`: a live relay behind a 1:1 NAT
    /// is reached at its local address.
    #[inline]
    pub(super) fn destination(
        &self,
        scope: Scope,
        peer: SocketAddr,
        live: &LiveRelays,
    ) -> Result<Destination, PeerRefusal> {
        match scope {
            Scope::Anywhere => Ok(Destination::Address(peer)),
            Scope::OwnHost { allowed } => self.on_own_host(allowed, peer, live),
        }
    }

    #[inline(never)]
    fn on_own_host(
        &self,
        allowed: bool,
        peer: SocketAddr,
        live: &LiveRelays,
    ) -> Result<Destination, PeerRefusal> {
        match live.find(peer) {
            Some(relay) => Ok(Destination::Relay(relay)),
            None if self.is_listener(peer) => Err(PeerRefusal::OwnListener),
            None if allowed => Ok(Destination::Address(peer)),
            None => Err(PeerRefusal::OwnHost),
        }
    }

    /// Whether the rules allow `peer` and every IPv4 address that it may be an encoding of (S2).
    fn allows(&self, peer: IpAddr) -> bool {
        !any_spelling(peer, |ip| match first_match(&self.rules, ip) {
            Some(rule) => rule.action == RuleAction::Deny,
            None => self.is_own_place(ip),
        })
    }

    /// Whether `ip` is an address of this host or of a network that it is in.
    fn is_own_place(&self, ip: IpAddr) -> bool {
        let own = &self.own;
        own.addresses.contains(&ip) || own.networks.iter().any(|network| network.contains(ip))
    }

    /// Whether the host, or a server behind it, has the address `ip`: the port decides.
    fn is_own(&self, ip: IpAddr) -> bool {
        let own = &self.own;
        let listens = own.listeners.iter().any(|listener| listener.ip() == ip);
        ip.is_loopback() || listens || own.addresses.contains(&ip)
    }

    fn denied_by_operator(&self, peer: IpAddr) -> bool {
        let rule = first_match(&self.operators, peer);
        rule.is_some_and(|rule| rule.action == RuleAction::Deny)
    }

    /// Whether somebody listens on the port of `peer`, which is an address of this host in some spelling.
    fn is_listener(&self, peer: SocketAddr) -> bool {
        self.own.listeners.iter().any(|listener| {
            let ip = listener.ip();
            let is_meant = |peer: IpAddr| ip.is_unspecified() || ip == peer;
            listener.port() == peer.port() && any_spelling(peer.ip(), is_meant)
        })
    }
}

fn built_in() -> impl Iterator<Item = Rule> {
    let v4 = SPECIAL_V4
        .iter()
        .map(|(octets, prefix)| (IpAddr::from(*octets), *prefix));
    let v6 = SPECIAL_V6
        .iter()
        .map(|(segments, prefix)| (IpAddr::from(*segments), *prefix));
    let special = v4
        .chain(v6)
        .filter_map(|(address, prefix)| Network::new(address, prefix));
    let nat64 = Network::new(NAT64.0.into(), NAT64.1);
    let rule = |action| move |network| Rule { network, action };
    special
        .map(rule(RuleAction::Deny))
        .chain(nat64.into_iter().map(rule(RuleAction::Allow)))
}

/// The most specific first, deny before allow.
fn sorted(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by_key(|rule| (Reverse(rule.network.prefix()), rule.action));
    rules
}

/// Whether `holds` for `peer` or an IPv4 address that it may be an encoding of (S2).
fn any_spelling(peer: IpAddr, holds: impl Fn(IpAddr) -> bool) -> bool {
    holds(peer) || embedded(peer).any(|v4| holds(v4.into()))
}

fn first_match(rules: &[Rule], ip: IpAddr) -> Option<&Rule> {
    rules.iter().find(|rule| rule.network.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn filter(allow: &[&str], deny: &[&str]) -> PeerFilter {
        let rule = |action| {
            move |text: &&str| Rule {
                network: text.parse().unwrap(),
                action,
            }
        };
        let mut rules: Vec<Rule> = allow.iter().map(rule(RuleAction::Allow)).collect();
        rules.extend(deny.iter().map(rule(RuleAction::Deny)));
        let own = OwnHost {
            addresses: vec!["8.8.4.4".parse().unwrap()],
            networks: vec!["8.8.4.0/24".parse().unwrap()],
            listeners: vec![
                "0.0.0.0:3478".parse().unwrap(),
                "127.0.0.1:9641".parse().unwrap(),
            ],
        };
        PeerFilter::new(&rules, &own)
    }

    fn permits(filter: &PeerFilter, ip: &str) -> bool {
        filter
            .permit(ip.parse().unwrap(), &LiveRelays::default())
            .is_ok()
    }

    #[test]
    fn the_ipv6_loopback_address_can_be_allowed() {
        assert!(!permits(&filter(&[], &[]), "::1"));
        assert!(permits(&filter(&["::1"], &[]), "::1"));
    }

    #[test]
    fn s1_special_purpose_ranges_are_refused_by_default() {
        let filter = filter(&[], &[]);
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "8.8.4.4",
            "8.8.4.77",
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "2001::1",
            "2001:10::1",
            "2002:909:909::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!permits(&filter, ip), "{ip}");
        }
        for ip in [
            "9.9.9.9",
            "100.63.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::909:909",
        ] {
            assert!(permits(&filter, ip), "{ip}");
        }
    }

    #[test]
    fn s2_no_encoding_of_a_denied_address_is_accepted() {
        let all_v6 = filter(&["::/0", "2001::/32", "2002::/16"], &["9.9.9.9"]);
        for v4 in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "9.9.9.9",
            "192.168.0.1",
        ] {
            let v4: Ipv4Addr = v4.parse().unwrap();
            let [w, x, y, z] = v4.octets();
            let [a, b] = [[w, x], [y, z]].map(u16::from_be_bytes);
            for encoded in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, a, b),
                Ipv6Addr::new(0x64, 0xff9b, 1, a, b >> 8, b << 8, 0, 0),
                Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, a, b, 0, 0, 0xffff, 0xffff),
                Ipv6Addr::new(0x2001, 0, 0x909, 0x90a, 0, 0, !a, !b),
                Ipv6Addr::new(0x2606, 1, 2, 3, 0, 0x5efe, a, b),
                Ipv6Addr::new(0x2606, 1, 2, 3, 0x0200, 0x5efe, a, b),
            ] {
                assert!(!permits(&all_v6, &encoded.to_string()), "{encoded} is {v4}");
            }
        }
        assert!(permits(&all_v6, "2002:909:90a::1"));
    }

    #[test]
    fn s4_the_most_specific_rule_wins_and_deny_wins_a_tie() {
        let filter = filter(
            &["10.0.0.0/8", "9.9.9.0/24"],
            &["10.1.0.0/16", "9.9.9.0/24", "9.0.0.0/8"],
        );
        assert!(permits(&filter, "10.2.0.1"));
        assert!(!permits(&filter, "10.1.0.1"));
        assert!(!permits(&filter, "9.9.9.9"));
        assert!(!permits(&filter, "9.1.1.1"));
        assert!(permits(&filter, "11.0.0.1"));
    }

    #[test]
    fn a_rule_opens_the_hosts_own_network() {
        assert!(!permits(&filter(&[], &[]), "8.8.4.77"));
        for network in ["8.8.4.0/24", "8.8.0.0/16", "8.8.4.64/26"] {
            assert!(permits(&filter(&[network], &[]), "8.8.4.77"), "{network}");
        }
        assert!(permits(&filter(&["127.0.0.0/8"], &[]), "127.0.0.1"));
        assert!(!permits(&filter(&["0.0.0.0/0"], &[]), "169.254.169.254"));
    }

    #[test]
    fn own_listeners_are_never_reached_and_live_relays_always() {
        let live = LiveRelays::default();
        let relay: SocketAddr = "8.8.4.4:50000".parse().unwrap();
        live.insert(relay, relay.ip(), None);
        let closed = filter(&[], &[]);
        let scope = closed.permit(relay.ip(), &live).unwrap();
        let to = |filter: &PeerFilter, scope, port| {
            let peer = SocketAddr::new(relay.ip(), port);
            let destination = filter.destination(scope, peer, &live);
            destination.map(Destination::address)
        };
        assert_eq!(scope, Scope::OwnHost { allowed: false });
        assert_eq!(to(&closed, scope, 50000), Ok(relay));
        for port in [50001, 22] {
            assert_eq!(to(&closed, scope, port), Err(PeerRefusal::OwnHost));
        }
        assert_eq!(to(&closed, scope, 3478), Err(PeerRefusal::OwnListener));
        let open = filter(&["0.0.0.0/0", "8.8.4.0/24", "8.8.4.4", "127.0.0.0/8"], &[]);
        let scope = open.permit(relay.ip(), &live).unwrap();
        assert_eq!(to(&open, scope, 3478), Err(PeerRefusal::OwnListener));
        assert!(to(&open, scope, 22).is_ok());
        let loopback: SocketAddr = "127.0.0.9:3478".parse().unwrap();
        let scope = open.permit(loopback.ip(), &live).unwrap();
        assert_eq!(
            open.destination(scope, loopback, &live),
            Err(PeerRefusal::OwnListener)
        );
        let denying = filter(&[], &["8.8.4.4"]);
        assert_eq!(
            denying.permit(relay.ip(), &live),
            Err(PeerRefusal::OperatorRule)
        );
    }
}
