//! What the operator reads when the server is ready.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use tracing::info;

use super::VERSION;
use crate::config::{Config, HostFacts, PlainUser};
use crate::credentials::{Reach, authority, ice_servers};

/// Says that the server is ready: with what to paste into an application when a user was made up for
/// it, otherwise as one line in the log.
pub(super) fn announce(
    config: &Config,
    facts: &HostFacts,
    listen: &[SocketAddr],
    metrics: Option<SocketAddr>,
) {
    let Some(user) = &config.zero_config_user else {
        let shards = config.workers.get();
        let metrics = metrics.map_or("off".to_owned(), |address| address.to_string());
        info!(shards, %metrics, "ready on {}", places(config, listen));
        return;
    };
    let text = banner(config, user, facts, listen, metrics);
    // Nobody may be reading, which is no reason not to serve.
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn banner(
    config: &Config,
    user: &PlainUser,
    facts: &HostFacts,
    listen: &[SocketAddr],
    metrics: Option<SocketAddr>,
) -> String {
    let hosts = hosts(config, facts, listen);
    let ice = ice_servers(&hosts, config.udp, config.tcp, &user.name, &user.password);
    let mut text = format!(
        "Turnstone {VERSION} is listening on {}.\n\
         Paste this into your WebRTC application, as the configuration of RTCPeerConnection:\n\n\
         {ice:#}\n\n\
         The password was made for this run. To keep a user, start with --user NAME:PASSWORD, or write\n\
         one into turnserver.toml and start with --config turnserver.toml.\n",
        places(config, listen)
    );
    if let Some(metrics) = metrics {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Metrics are at http://{metrics}/metrics.");
    }
    text
}

/// `0.0.0.0:3478 and [::]:3478 (UDP and TCP)`.
fn places(config: &Config, listen: &[SocketAddr]) -> String {
    let addresses: Vec<String> = listen.iter().map(ToString::to_string).collect();
    let protocols = match (config.udp, config.tcp) {
        (true, true) => "UDP and TCP",
        (true, false) => "UDP",
        (false, _) => "TCP",
    };
    format!("{} ({protocols})", addresses.join(" and "))
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

    fn text() -> String {
        let config = Config::load(None, &Overrides::default()).expect("defaults");
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
        let metrics = Some(([127, 0, 0, 1], 9641).into());
        banner(&config, &user, &facts, &listen, metrics)
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
