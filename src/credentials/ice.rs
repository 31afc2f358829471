//! What a WebRTC application is given: the server's URIs (RFC 7064, RFC 7065) and credentials.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::turn::{External, Family};

/// `host` and `port` as a URI writes them: IPv6 addresses in brackets.
pub fn authority(host: &str, port: u16) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer<'a> {
    /// Where, each an [`authority`], best first.
    pub hosts: &'a [String],
    /// Over UDP.
    pub udp: bool,
    /// Over TCP.
    pub tcp: bool,
    /// Where over TLS, each an [`authority`] that a certificate of the server names.
    pub tls_hosts: &'a [String],
}

/// `{"iceServers": [...]}` as `RTCPeerConnection` takes it, for a server that is reached by `offer`.
pub fn ice_servers(offer: Offer<'_>, username: &str, password: &str) -> Value {
    let mut urls = Vec::new();
    for host in offer.hosts {
        if offer.udp {
            urls.push(format!("turn:{host}?transport=udp"));
        }
        if offer.tcp {
            urls.push(format!("turn:{host}?transport=tcp"));
        }
    }
    let tls_hosts = offer.tls_hosts.iter();
    urls.extend(tls_hosts.map(|host| format!("turns:{host}?transport=tcp")));
    if offer.udp {
        urls.extend(offer.hosts.iter().map(|host| format!("stun:{host}")));
    }
    json!({"iceServers": [{"urls": urls, "username": username, "credential": password}]})
}

/// What decides at which addresses clients reach the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach<'a> {
    /// Where it listens.
    pub listen: &'a [SocketAddr],
    /// The addresses of the host's interfaces.
    pub interfaces: &'a [IpAddr],
    /// The source address of the IPv4 default route.
    pub default_v4: Option<IpAddr>,
    /// The source address of the IPv6 default route.
    pub default_v6: Option<IpAddr>,
    /// The public faces of local addresses.
    pub external: &'a [External],
}

/// How likely a stranger can reach an address; the least is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    External,
    Local,
    Loopback,
}

impl Reach<'_> {
    /// Addresses to hand to clients, best first: public faces, then addresses of the host that the
    /// world or the network reaches; loopback only if there is nothing else.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut ranked: Vec<(Rank, SocketAddr)> = Vec::new();
        for listen in self.listen {
            for (rank, address) in self.faces(*listen) {
                let entry = (rank, SocketAddr::new(address, listen.port()));
                if !ranked.contains(&entry) {
                    ranked.push(entry);
                }
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let best = ranked.first().map(|(rank, _)| *rank);
        let worth_it = |rank: Rank| rank < Rank::Loopback || best == Some(Rank::Loopback);
        let kept = ranked.into_iter().filter(|(rank, _)| worth_it(*rank));
        kept.map(|(_, address)| address).collect()
    }

    /// The addresses that stand for one that is listened on.
    fn faces(&self, listen: SocketAddr) -> Vec<(Rank, IpAddr)> {
        if !listen.ip().is_unspecified() {
            return vec![self.face(listen.ip())];
        }
        let family = Family::of(listen.ip());
        let named = self
            .external
            .iter()
            .filter(|external| external.local.is_some());
        let mut locals: Vec<IpAddr> = named
            .filter_map(|external| external.local)
            .filter(|local| Family::of(*local) == family)
            .collect();
        locals.extend(self.usual(family));
        locals.into_iter().map(|local| self.face(local)).collect()
    }

    /// The host's usual address of `family`.
    fn usual(&self, family: Family) -> Option<IpAddr> {
        let default = match family {
            Family::V4 => self.default_v4,
            Family::V6 => self.default_v6,
        };
        let of_family = || {
            self.interfaces
                .iter()
                .copied()
                .filter(|ip| Family::of(*ip) == family)
        };
        default
            .or_else(|| of_family().find(|ip| !ip.is_loopback() && !is_link_local(*ip)))
            .or_else(|| of_family().find(IpAddr::is_loopback))
    }

    /// What the world sees of the address `local`.
    fn face(&self, local: IpAddr) -> (Rank, IpAddr) {
        let mut external = self.external.iter();
        match external.find(|external| external.stands_for(local)) {
            Some(external) => (Rank::External, external.public),
            None if local.is_loopback() => (Rank::Loopback, local),
            None => (Rank::Local, local),
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn endpoints(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const EVERYWHERE: [&str; 2] = ["0.0.0.0:3478", "[::]:3478"];

    #[test]
    fn an_ipv6_host_stands_in_brackets() {
        assert_eq!(authority("turn.example.org", 3478), "turn.example.org:3478");
        assert_eq!(authority("2001:db8::1", 3478), "[2001:db8::1]:3478");
        assert_eq!(authority("[2001:db8::1]", 3478), "[2001:db8::1]:3478");
    }

    #[test]
    fn turn_over_each_transport_then_stun() {
        let offer = Offer {
            hosts: &["h:3478".to_owned()],
            udp: true,
            tcp: true,
            tls_hosts: &["t:5349".to_owned()],
        };
        let value = ice_servers(offer, "u", "p");
        let server = &value["iceServers"][0];
        assert_eq!(
            server["urls"],
            json!([
                "turn:h:3478?transport=udp",
                "turn:h:3478?transport=tcp",
                "turns:t:5349?transport=tcp",
                "stun:h:3478"
            ])
        );
        assert_eq!(
            (&server["username"], &server["credential"]),
            (&json!("u"), &json!("p"))
        );
    }

    #[test]
    fn a_transport_that_is_off_has_no_url() {
        let hosts = ["h:3478".to_owned()];
        let urls = |udp, tcp| {
            let offer = Offer {
                hosts: &hosts,
                udp,
                tcp,
                tls_hosts: &[],
            };
            ice_servers(offer, "u", "p")["iceServers"][0]["urls"].clone()
        };
        assert_eq!(
            urls(true, false),
            json!(["turn:h:3478?transport=udp", "stun:h:3478"])
        );
        assert_eq!(urls(false, true), json!(["turn:h:3478?transport=tcp"]));
    }

    #[test]
    fn the_default_route_goes_before_loopback() {
        let reach = Reach {
            listen: &endpoints(&EVERYWHERE),
            interfaces: &[ip("127.0.0.1"), ip("192.0.2.7"), ip("::1")],
            default_v4: Some(ip("192.0.2.7")),
            ..Reach::default()
        };
        assert_eq!(reach.addresses(), endpoints(&["192.0.2.7:3478"]));
    }

    #[test]
    fn a_public_face_goes_first() {
        let external = [External {
            local: None,
            public: ip("203.0.113.5"),
        }];
        let reach = Reach {
            listen: &endpoints(&["[::]:3478", "0.0.0.0:3478"]),
            default_v4: Some(ip("10.0.0.5")),
            default_v6: Some(ip("2001:db8::5")),
            external: &external,
            ..Reach::default()
        };
        assert_eq!(
            reach.addresses(),
            endpoints(&["203.0.113.5:3478", "[2001:db8::5]:3478"])
        );
    }

    #[test]
    fn a_public_face_of_one_address_shows_that_one() {
        let external = [External {
            local: Some(ip("10.0.0.9")),
            public: ip("203.0.113.9"),
        }];
        let reach = Reach {
            listen: &endpoints(&["0.0.0.0:3478"]),
            default_v4: Some(ip("10.0.0.5")),
            external: &external,
            ..Reach::default()
        };
        assert_eq!(
            reach.addresses(),
            endpoints(&["203.0.113.9:3478", "10.0.0.5:3478"])
        );
    }

    #[test]
    fn loopback_alone_is_better_than_nothing() {
        let reach = Reach {
            listen: &endpoints(&EVERYWHERE),
            interfaces: &[ip("127.0.0.1"), ip("::1"), ip("fe80::1")],
            ..Reach::default()
        };
        assert_eq!(
            reach.addresses(),
            endpoints(&["127.0.0.1:3478", "[::1]:3478"])
        );
    }

    #[test]
    fn an_address_that_is_listened_on_stands_for_itself() {
        let listen = endpoints(&["127.0.0.1:5000", "192.0.2.1:3478"]);
        let reach = Reach {
            listen: &listen,
            ..Reach::default()
        };
        assert_eq!(reach.addresses(), endpoints(&["192.0.2.1:3478"]));
    }
}
