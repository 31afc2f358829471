//! What the operator reads when the server is ready.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use tracing::info;

use super::VERSION;
use crate::config::{Config, HostFacts, PlainUser};
use crate::credentials::{Offer, Reach, authority, ice_servers};

/// Where the server listens, as bound.
pub(super) struct Listening {
    /// For clients over UDP and TCP.
    pub(super) listen: Vec<SocketAddr>,
    /// For clients over TLS.
    pub(super) tls: Vec<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
}

impl Listening {
    /// Where clients are served.
    pub(super) fn clients(&self) -> Vec<SocketAddr> {
        [&self.listen[..], &self.tls].concat()
    }

    /// The same, and where metrics are.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let mut all = self.clients();
        all.extend(self.metrics);
        all
    }
}

/// Says that the server is ready: with what to paste into an application when a user was made up for
/// it, unless an earlier process has said that; otherwise as one line in the log.
pub(super) fn announce(
    config: &Config,
    facts: &HostFacts,
    listening: &Listening,
    is_successor: bool,
) {
    let user = config.zero_config_user.as_ref();
    let Some(user) = user.filter(|_| !is_successor) else {
        return log(config, listening);
    };
    let text = banner(config, user, facts, listening);
    // Nobody may be reading, which is no reason not to serve.
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Says in the log that the server is ready.
fn log(config: &Config, listening: &Listening) {
    let shards = config.workers.get();
    let metrics = listening.metrics;
    let metrics = metrics.map_or("off".to_owned(), |address| address.to_string());
    info!(shards, %metrics, "ready on {}", places(config, listening));
}

fn banner(config: &Config, user: &PlainUser, facts: &HostFacts, listening: &Listening) -> String {
    let offer = Offer {
        hosts: &hosts(config, facts, &listening.listen),
        udp: config.udp,
        tcp: config.tcp,
        tls_hosts: &tls_hosts(config, &listening.tls),
    };
    let ice = ice_servers(offer, &user.name, &user.password);
    let mut text = format!(
        "Turnstone {VERSION} is listening on {}.\n\
         Paste this into your WebRTC application, as the configuration of RTCPeerConnection:\n\n\
         {ice:#}\n\n\
         The password was made for this run. To keep a user, start with --user NAME:PASSWORD, or write\n\
         one into turnserver.toml and start with --config turnserver.toml.\n",
        places(config, listening)
    );
    if let Some(metrics) = listening.metrics {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Metrics are at http://{metrics}/metrics.");
    }
    text
}

/// `0.0.0.0:3478 and [::]:3478 (UDP and TCP), 0.0.0.0:5349 (TLS)`.
fn places(config: &Config, listening: &Listening) -> String {
    let join = |addresses: &[SocketAddr], protocols: &str| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("{} ({protocols})", addresses.join(" and "))
    };
    let plain = match (config.udp, config.tcp) {
        (true, true) => Some("UDP and TCP"),
        (true, false) => Some("UDP"),
        (false, true) => Some("TCP"),
        (false, false) => None,
    };
    let plain = plain.map(|protocols| join(&listening.listen, protocols));
    let protocols = match config.tls.dtls {
        true => "TLS and DTLS",
        false => "TLS",
    };
    let tls = (!listening.tls.is_empty()).then(|| join(&listening.tls, protocols));
    let places: Vec<String> = plain.into_iter().chain(tls).collect();
    places.join(", ")
}

/// Where clients reach the server over TLS: by a name that it has a certificate for.
fn tls_hosts(config: &Config, tls: &[SocketAddr]) -> Vec<String> {
    let host = config.tls.host().zip(tls.first());
    host.map(|(host, address)| authority(&host, address.port()))
        .into_iter()
        .collect()
}

/// Where clients reach the server, best first, as URIs write it. What NAT behaviour discovery listens
/// on besides is left out: each further URI makes browsers slower.
fn hosts(config: &Config, facts: &HostFacts, listen: &[SocketAddr]) -> Vec<String> {
    let added = &config.endpoints()[config.listen.len()..];
    let is_meant = |address: &&SocketAddr| !added.contains(address);
    let listen: Vec<SocketAddr> = listen.iter().filter(is_meant).copied().collect();
    let interfaces: Vec<IpAddr> = facts
        .interfaces
        .iter()
        .map(|(address, _)| *address)
        .collect();
    let reach = Reach {
        listen: &listen,
        interfaces: &interfaces,
        default_v4: facts.default_v4,
        default_v6: facts.default_v6,
        external: &config.external,
    };
    let addresses = reach.addresses();
    let host = |address: &SocketAddr| authority(&address.ip().to_string(), address.port());
    addresses.iter().map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config() -> Config {
        Config::load(None, &Overrides::default()).expect("defaults")
    }

    fn text() -> String {
        let config = config();
        let user = PlainUser {
            name: "turn-abcd".into(),
            password: "long-enough".into(),
        };
        let facts = HostFacts {
            interfaces: vec![([127, 0, 0, 1].into(), 8)],
            default_v4: Some([192, 0, 2, 7].into()),
            ..HostFacts::default()
        };
        let listen = ["0.0.0.0:3478", "[::]:3478"].map(|text| text.parse().expect("address"));
        let listening = Listening {
            listen: listen.to_vec(),
            tls: Vec::new(),
            metrics: Some(([127, 0, 0, 1], 9641).into()),
        };
        banner(&config, &user, &facts, &listening)
    }

    #[test]
    fn the_banner_says_where_and_how() {
        let text = text();
        let first = format!(
            "Turnstone {VERSION} is listening on 0.0.0.0:3478 and [::]:3478 (UDP and TCP).\n"
        );
        assert!(text.starts_with(&first), "{text}");
        assert!(text.contains("http://127.0.0.1:9641/metrics"));
        assert!(text.contains("--user NAME:PASSWORD"));
    }

    #[test]
    fn each_protocol_has_its_places() {
        let mut config = config();
        let at = |port| vec![SocketAddr::from(([192, 0, 2, 1], port))];
        let listening = Listening {
            listen: at(3478),
            tls: at(5349),
            metrics: None,
        };
        let shown = places(&config, &listening);
        assert_eq!(shown, "192.0.2.1:3478 (UDP and TCP), 192.0.2.1:5349 (TLS)");
        (config.udp, config.tcp) = (false, false);
        assert_eq!(places(&config, &listening), "192.0.2.1:5349 (TLS)");
    }

    #[test]
    fn the_json_between_the_braces_can_be_pasted() {
        let text = text();
        let json: String = text
            .lines()
            .skip_while(|line| *line != "{")
            .take_while(|line| !line.is_empty())
            .collect();
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let server = &json["iceServers"][0];
        assert_eq!(server["urls"][0], "turn:192.0.2.7:3478?transport=udp");
        assert_eq!(server["username"], "turn-abcd");
        assert_eq!(server["credential"], "long-enough");
    }
}
