//! Command-line flags, laid over the file.

use super::address::{
    parse_external, parse_format, parse_level, parse_listen_flag, parse_metrics, parse_rule,
};
use super::draft::{Draft, DraftUser, Key, Located};
use super::report::{Report, Spot};
use crate::turn::RuleAction;

/// What the command line says, as text. `listen`, `external` and the single values replace what the
/// file says; users, secrets and rules join the file's.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--listen`: addresses with port, or bare ports.
    pub listen: Vec<String>,
    /// `--external-ip`: public addresses, each alone or with `/` and the local one.
    pub external: Vec<String>,
    /// `--user`.
    pub users: Vec<UserFlag>,
    /// `--secret`.
    pub secrets: Vec<String>,
    /// `--realm`.
    pub realm: Option<String>,
    /// `--allow-peer`: networks.
    pub allow: Vec<String>,
    /// `--deny-peer`: networks.
    pub deny: Vec<String>,
    /// `--workers`.
    pub workers: Option<String>,
    /// `--metrics`: an address with port, or `off`.
    pub metrics: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// One `--user`.
#[derive(Clone)]
pub struct UserFlag {
    /// Before the colon.
    pub name: String,
    /// Behind the colon, or made up.
    pub password: String,
    /// The password was made up and must be printed once.
    pub generated: bool,
}

impl Overrides {
    pub(super) fn lay_over(&self, draft: &mut Draft, report: &mut Report) {
        self.lay_addresses_over(draft, report);
        self.lay_credentials_over(draft);
        self.lay_rules_over(draft, report);
        replace(
            &mut draft.workers,
            "--workers",
            self.workers.as_deref(),
            parse_workers,
            report,
        );
        replace(
            &mut draft.metrics,
            "--metrics",
            self.metrics.as_deref(),
            parse_metrics,
            report,
        );
        replace(
            &mut draft.level,
            "--log-level",
            self.log_level.as_deref(),
            parse_level,
            report,
        );
        replace(
            &mut draft.format,
            "--log-format",
            self.log_format.as_deref(),
            parse_format,
            report,
        );
    }

    fn lay_addresses_over(&self, draft: &mut Draft, report: &mut Report) {
        if !self.listen.is_empty() {
            let endpoints = parse_all("--listen", &self.listen, parse_listen_flag, report);
            let each = endpoints.into_iter().flat_map(|item| {
                let spot = item.spot;
                item.value
                    .into_iter()
                    .map(move |endpoint| Located::new(endpoint, spot.clone()))
            });
            draft.listen = Some(Located::new(each.collect(), Spot::flag("--listen")));
        }
        if !self.external.is_empty() {
            let each = parse_all("--external-ip", &self.external, parse_external, report);
            draft.external = Some(Located::new(each, Spot::flag("--external-ip")));
        }
    }

    fn lay_credentials_over(&self, draft: &mut Draft) {
        let realm = self
            .realm
            .clone()
            .map(|realm| Located::new(realm, Spot::flag("--realm")));
        draft.realm = realm.or(draft.realm.take());
        let secret = |secret: &String| Located::new(secret.clone(), Spot::flag("--secret"));
        draft.secrets.extend(self.secrets.iter().map(secret));
        draft.users.extend(self.users.iter().map(|user| DraftUser {
            spot: Spot::flag("--user"),
            name: Some(Located::new(user.name.clone(), Spot::flag("--user"))),
            password: Some(Located::new(user.password.clone(), Spot::flag("--user"))),
            key: None,
            key_sha256: None,
            generated: user.generated,
        }));
    }

    fn lay_rules_over(&self, draft: &mut Draft, report: &mut Report) {
        let allow = |text: &str| parse_rule(text, RuleAction::Allow);
        let deny = |text: &str| parse_rule(text, RuleAction::Deny);
        draft
            .rules
            .extend(parse_all("--allow-peer", &self.allow, allow, report));
        draft
            .rules
            .extend(parse_all("--deny-peer", &self.deny, deny, report));
    }
}

fn parse_workers(text: &str) -> Result<u16, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=1024).contains(number));
    number.ok_or_else(|| format!("{text:?} is out of range; write 1 to 1024"))
}

fn replace<T>(
    key: &mut Key<T>,
    flag: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
    report: &mut Report,
) {
    let Some(text) = text else { return };
    match parse(text) {
        Ok(value) => *key = Some(Located::new(value, Spot::flag(flag))),
        Err(why) => report.error(&Spot::flag(flag), why),
    }
}

fn parse_all<T>(
    flag: &'static str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
    report: &mut Report,
) -> Vec<Located<T>> {
    let mut values = Vec::new();
    for text in texts {
        match parse(text) {
            Ok(value) => values.push(Located::new(value, Spot::flag(flag))),
            Err(why) => report.error(&Spot::flag(flag), why),
        }
    }
    values
}
