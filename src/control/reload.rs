//! The configuration of the running server, and how it changes.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::confine::Confinement;
use super::facts::{connections, host_facts, relay_ports};
use super::logging::LogGuard;
use super::relay_addresses::try_relay_addresses;
use super::shards::stream_limits;
use crate::config::{Changes, Config, Origin};
use crate::metrics::Metrics;
use crate::shard::ShardHandle;
use crate::turn::{Admission, Policy};

/// What the server was configured with, and what it takes to configure it anew.
pub(super) struct Configuration {
    pub(super) config: Config,
    pub(super) origin: Origin,
    /// Where it listens, as bound: for clients and for metrics.
    pub(super) listeners: Vec<SocketAddr>,
    /// Of these, where clients are served.
    pub(super) clients: Vec<SocketAddr>,
    /// The addresses of the host's interfaces when it was looked at, with their prefix lengths.
    pub(super) interfaces: Vec<(IpAddr, u8)>,
    /// How many files the process may open.
    pub(super) descriptors: u64,
    pub(super) metrics: Arc<Metrics>,
    /// No new allocations are made.
    pub(super) draining: bool,
    pub(super) confinement: Confinement,
}

/// What a reload would change, or has changed.
struct Examined {
    config: Config,
    changes: Changes,
    policy: Policy,
    relay_ports: u64,
}

impl Configuration {
    /// Says what a reload would change; nothing changes.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub(super) fn preview(&self) -> Result<String, String> {
        let examined = self.examine()?;
        let said = describe(&examined, "would change", "would stay until a restart");
        Ok(match &self.origin.path {
            Some(path) => format!("a reload reads {}\n{said}", path.display()),
            None => said,
        })
    }

    /// Reads the configuration anew and has the shards decide by it, or leaves everything as it is. Says
    /// what changed, and logs it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub(super) fn reload(
        &mut self,
        shards: &[ShardHandle],
        log: &LogGuard,
    ) -> Result<String, String> {
        match self.examine() {
            Ok(examined) => {
                let said = describe(&examined, "changed", "needs a restart and stays as it was");
                self.adopt(examined, shards, log);
                self.metrics.count_reload(true);
                said.lines().for_each(|line| info!("reload: {line}"));
                Ok(said)
            }
            Err(problems) => {
                self.metrics.count_reload(false);
                warn!("reload: the configuration cannot be used; nothing has changed");
                problems.lines().for_each(|line| warn!("reload: {line}"));
                Err(problems)
            }
        }
    }

    /// Has the shards judge peers by the addresses that the host has now: what it got since it was looked
    /// at may not be reached through it (requirement S1). Nothing happens while they are the same.
    pub(super) fn follow_host(&mut self, shards: &[ShardHandle]) {
        // Without an answer it is asked again soon.
        let Ok(facts) = host_facts(Vec::new()) else {
            return;
        };
        if facts.interfaces == self.interfaces {
            return;
        }
        match self.policy(&self.config) {
            Ok((policy, relay_ports)) => {
                debug!("the host has other addresses than before: peers are judged by them");
                self.interfaces = facts.interfaces;
                self.metrics.set_relay_ports_limit(relay_ports);
                set_policy(policy, shards);
            }
            Err(problem) => warn!("{problem}; peers are judged by those that it had"),
        }
    }

    /// Has the shards make no new allocations.
    pub(super) fn drain(&mut self, shards: &[ShardHandle]) {
        self.draining = true;
        match self.policy(&self.config) {
            Ok((policy, _)) => set_policy(policy, shards),
            Err(problem) => warn!("draining, but new allocations are still made: {problem}"),
        }
    }

    fn examine(&self) -> Result<Examined, String> {
        let mut config = self
            .origin
            .load()
            .map_err(|report| self.confinement.explain(report.to_string()))?;
        if config.needs_user() {
            let made_up = self.config.zero_config_user.clone();
            let kept = made_up.ok_or("neither a user nor a secret is left; write one in [auth]")?;
            config.add_zero_config_user(kept);
        }
        let (config, changes) = config.follow(&self.config);
        try_relay_addresses(&config).map_err(|error| error.to_string())?;
        let (policy, relay_ports) = self.policy(&config)?;
        Ok(Examined {
            config,
            changes,
            policy,
            relay_ports,
        })
    }

    /// The snapshot that `config` means on the host as it is now, and how many relay ports it has.
    fn policy(&self, config: &Config) -> Result<(Policy, u64), String> {
        let facts = host_facts(self.listeners.clone())
            .map_err(|error| format!("the host's addresses cannot be read: {error}"))?;
        let mut policy = config.policy(&facts);
        if self.draining {
            policy.admission = Admission::Closed;
        }
        let relay_ports = relay_ports(&policy, &facts, &self.clients);
        Ok((policy, relay_ports))
    }

    fn adopt(&mut self, examined: Examined, shards: &[ShardHandle], log: &LogGuard) {
        let Examined {
            config,
            policy,
            relay_ports,
            ..
        } = examined;
        self.metrics.set_relay_ports_limit(relay_ports);
        let connections = connections(&config, self.descriptors);
        let limits = stream_limits(&config, connections);
        shards.iter().for_each(|shard| shard.set_streams(limits));
        set_policy(policy, shards);
        log.set_level(config.log.level);
        self.config = config;
    }
}

fn set_policy(policy: Policy, shards: &[ShardHandle]) {
    let policy = Arc::new(policy);
    for shard in shards {
        shard.set_policy(Arc::clone(&policy));
    }
}

/// The warnings and the changed keys, a line each.
fn describe(examined: &Examined, changed: &str, stays: &str) -> String {
    let mut text = String::new();
    let changes = &examined.changes;
    let warnings = examined.config.warnings.iter().map(ToString::to_string);
    let applied = changes
        .applied
        .iter()
        .map(|key| format!("{key}: {changed}"));
    let restart = changes.restart.iter().map(|key| format!("{key}: {stays}"));
    for line in warnings.chain(applied).chain(restart) {
        let _ = writeln!(text, "{line}");
    }
    if changes.is_empty() {
        text.push_str("nothing differs from what runs\n");
    }
    text
}
