//! What a new configuration changes in a running server, and what only a restart can.

use super::Config;

/// What separates two configurations, as keys of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force once the new configuration is taken over.
    pub applied: Vec<&'static str>,
    /// Unchanged until the server is started anew.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// Whether the configurations say the same.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.restart.is_empty()
    }
}

/// One value of the configuration.
struct Value {
    /// The keys that it comes from; people are told the first.
    keys: &'static [&'static str],
    is_same: fn(&Config, &Config) -> bool,
    /// Takes the value from the running configuration: it cannot change while the server runs.
    keep: Option<fn(&mut Config, &Config)>,
}

/// A value that changes in the running server.
macro_rules! live {
    ($($field:ident).+, $($key:literal),+) => {
        Value {
            keys: &[$($key),+],
            is_same: |one, other| one.$($field).+ == other.$($field).+,
            keep: None,
        }
    };
}

/// A value that needs a restart.
macro_rules! fixed {
    ($($field:ident).+, $($key:literal),+) => {
        Value {
            keys: &[$($key),+],
            is_same: |one, other| one.$($field).+ == other.$($field).+,
            keep: Some(|new, running| new.$($field).+.clone_from(&running.$($field).+)),
        }
    };
}

const VALUES: &[Value] = &[
    fixed!(listen, "server.listen"),
    fixed!(udp, "server.udp"),
    fixed!(tcp, "server.tcp"),
    Value {
        keys: &["tls.listen"],
        is_same: |one, other| one.tls.listen == other.tls.listen,
        keep: Some(keep_tls_listen),
    },
    fixed!(tls.dtls, "tls.dtls"),
    live!(
        tls.certificates,
        "tls.certificates",
        "tls.certificates.chain",
        "tls.certificates.key"
    ),
    fixed!(workers, "server.workers"),
    live!(software, "server.software"),
    live!(realm, "auth.realm"),
    live!(secrets, "auth.secrets", "auth.secrets_files"),
    live!(security, "auth.algorithms", "auth.userhash"),
    live!(
        users,
        "auth.users",
        "auth.users.name",
        "auth.users.password",
        "auth.users.key",
        "auth.users.key_sha256"
    ),
    live!(
        oauth,
        "auth.oauth_server_name",
        "auth.oauth_keys",
        "auth.oauth_keys.id",
        "auth.oauth_keys.key",
        "auth.oauth_keys.algorithm"
    ),
    live!(relay.addresses, "relay.addresses"),
    live!(external, "relay.external"),
    fixed!(relay.ports, "relay.ports"),
    live!(relay.ipv4, "relay.ipv4"),
    live!(relay.ipv6, "relay.ipv6"),
    live!(relay.tcp, "relay.tcp"),
    live!(rules, "peers.allow", "peers.deny"),
    live!(lifetimes.allocation, "lifetimes.allocation"),
    live!(lifetimes.allocation_max, "lifetimes.allocation_max"),
    live!(lifetimes.permission, "lifetimes.permission"),
    live!(lifetimes.channel, "lifetimes.channel"),
    live!(lifetimes.nonce, "lifetimes.nonce"),
    live!(limits.allocations, "limits.allocations"),
    live!(limits.allocations_per_user, "limits.allocations_per_user"),
    live!(
        limits.allocations_per_source,
        "limits.allocations_per_source"
    ),
    live!(
        limits.permissions_per_allocation,
        "limits.permissions_per_allocation"
    ),
    live!(
        limits.channels_per_allocation,
        "limits.channels_per_allocation"
    ),
    live!(
        limits.peer_connections_per_allocation,
        "limits.peer_connections_per_allocation"
    ),
    live!(
        limits.reflection_bytes_per_second,
        "limits.reflection_bytes_per_second"
    ),
    live!(bandwidth.per_allocation, "bandwidth.per_allocation"),
    live!(bandwidth.per_user, "bandwidth.per_user"),
    live!(bandwidth.total, "bandwidth.total"),
    live!(
        alternates,
        "redirect.servers",
        "redirect.tls_servers",
        "redirect.domain"
    ),
    live!(
        drain,
        "drain.limit",
        "drain.stop_limit",
        "drain.upgrade_limit"
    ),
    live!(streams.connections, "streams.connections"),
    live!(
        streams.connections_per_source,
        "streams.connections_per_source"
    ),
    live!(streams.handshakes, "streams.handshakes"),
    live!(streams.backlog_bytes, "streams.backlog_bytes"),
    live!(streams.media_age, "streams.media_age"),
    live!(streams.pipe_bytes, "streams.pipe_bytes"),
    live!(streams.silent_after, "streams.silent_after"),
    live!(streams.idle_after, "streams.idle_after"),
    fixed!(proxy_protocol_from, "streams.proxy_protocol_from"),
    fixed!(
        upstreams,
        "upstream",
        "upstream.server_names",
        "upstream.to",
        "upstream.tls",
        "upstream.plain",
        "upstream.http2",
        "upstream.proxy_protocol",
        "upstream.connect_timeout",
        "upstream.idle_after"
    ),
    fixed!(buffers.listener, "buffers.listener"),
    fixed!(buffers.relay, "buffers.relay"),
    fixed!(
        nat_discovery,
        "nat_discovery.alternate_address",
        "nat_discovery.alternate_port"
    ),
    live!(mobility, "mobility.enabled"),
    live!(rfc3489, "compatibility.rfc3489"),
    live!(channels, "compatibility.rfc5766_channels"),
    fixed!(metrics, "metrics.listen"),
    fixed!(control, "control.socket"),
    fixed!(process.user, "process.user"),
    fixed!(process.landlock, "process.landlock"),
    fixed!(process.seccomp, "process.seccomp"),
    live!(log.level, "log.level"),
    fixed!(log.format, "log.format"),
];

/// Certificates alone neither switch TLS on nor off.
fn keep_tls_listen(new: &mut Config, running: &Config) {
    let switches = running.tls.listen.is_empty() != new.tls.listen.is_empty();
    new.tls.listen.clone_from(&running.tls.listen);
    if switches {
        let certificates = &running.tls.certificates;
        new.tls.certificates.clone_from(certificates);
        new.tls.dtls = running.tls.dtls;
    }
}

impl Config {
    /// Turns this configuration, which was read anew, into the one that the server of `running` goes on
    /// with: what needs a restart stays as it is there.
    pub fn follow(mut self, running: &Self) -> (Self, Changes) {
        let mut changes = Changes::default();
        for value in VALUES {
            if (value.is_same)(running, &self) {
                continue;
            }
            match value.keep {
                None => changes.applied.push(value.keys[0]),
                Some(keep) => {
                    changes.restart.push(value.keys[0]);
                    keep(&mut self, running);
                }
            }
        }
        (self, changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, keys};

    #[test]
    fn every_key_either_changes_or_needs_a_restart() {
        for key in keys() {
            let values = VALUES.iter().filter(|value| value.keys.contains(&&*key));
            assert_eq!(values.count(), 1, "{key}");
        }
    }

    #[test]
    fn what_needs_a_restart_stays() {
        let load = |flags: &[(&str, &str)]| {
            let mut overrides = Overrides::default();
            for (flag, value) in flags {
                match *flag {
                    "realm" => overrides.realm = Some((*value).into()),
                    _ => overrides.workers = Some((*value).into()),
                }
            }
            Config::load(None, &overrides).expect("no problem")
        };
        let running = load(&[("workers", "2")]);
        let (next, changes) = load(&[("workers", "3"), ("realm", "example.org")]).follow(&running);
        assert_eq!(changes.applied, ["auth.realm"]);
        assert_eq!(changes.restart, ["server.workers"]);
        assert_eq!(
            (next.realm.as_str(), next.workers.get()),
            ("example.org", 2)
        );
        let (_, none) = load(&[("workers", "2")]).follow(&running);
        assert!(none.is_empty());
    }
}
