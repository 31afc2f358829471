//! `turnstone`: settles the configuration and hands it to the room that runs the server.

use std::fmt;
use std::process::ExitCode;

use super::args::RunFlags;
use super::{Failure, fail};
use crate::config::{Config, Origin, Overrides, PlainUser, UserFlag};
use crate::control;
use crate::credentials::{random_password, random_username};

/// Runs the server; returns when it has ended.
pub(super) fn run(flags: RunFlags) -> ExitCode {
    match settle_with_user(flags) {
        Ok((config, origin)) => control::run(config, origin),
        Err(failure) => fail(&failure),
    }
}

/// The configuration that the file and `flags` mean.
pub(super) fn settle(flags: RunFlags) -> Result<(Config, Origin), Failure> {
    let origin = Origin {
        path: flags.config.clone(),
        overrides: overrides(flags)?,
    };
    let config = origin.load().map_err(|report| report.to_string())?;
    Ok((config, origin))
}

/// The same, with a user if there is none.
fn settle_with_user(flags: RunFlags) -> Result<(Config, Origin), Failure> {
    let (mut config, origin) = settle(flags)?;
    if config.needs_user() {
        config.add_zero_config_user(PlainUser {
            name: random_username().map_err(no_random)?,
            password: random_password().map_err(no_random)?,
        });
    }
    Ok((config, origin))
}

fn overrides(flags: RunFlags) -> Result<Overrides, Failure> {
    let users: Result<Vec<_>, _> = flags.user.iter().map(|user| user_flag(user)).collect();
    Ok(Overrides {
        listen: flags.listen,
        external: flags.external_ip,
        users: users?,
        secrets: flags.secret,
        realm: flags.realm,
        allow: flags.allow_peer,
        deny: flags.deny_peer,
        workers: flags.workers,
        metrics: flags.metrics,
        log_level: flags.log_level,
        log_format: flags.log_format,
    })
}

/// `NAME:PASSWORD`, or `NAME` and a password made up here.
fn user_flag(text: &str) -> Result<UserFlag, Failure> {
    let (name, password, generated) = match text.split_once(':') {
        Some((name, password)) => (name, password.to_owned(), false),
        None => (text, random_password().map_err(no_random)?, true),
    };
    Ok(UserFlag {
        name: name.to_owned(),
        password,
        generated,
    })
}

fn no_random(error: impl fmt::Display) -> Failure {
    format!(
        "the system gives no random bytes for a password: {error}; name one with --user NAME:PASSWORD"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(flags: RunFlags) -> Config {
        settle_with_user(flags).unwrap().0
    }

    fn with_user(user: &str) -> RunFlags {
        RunFlags {
            user: vec![user.to_owned()],
            ..RunFlags::default()
        }
    }

    #[test]
    fn nothing_configured_makes_a_random_user() {
        let config = settled(RunFlags::default());
        let user = config.zero_config_user.unwrap();
        assert_eq!(config.users.len(), 1);
        assert_eq!(config.users[0].name, user.name);
    }

    #[test]
    fn a_user_without_a_password_gets_one_that_is_printed() {
        let user = settled(with_user("alice")).zero_config_user.unwrap();
        assert_eq!((user.name.as_str(), user.password.len()), ("alice", 24));
    }

    #[test]
    fn a_users_password_is_not_printed() {
        let config = settled(with_user("alice:correct:horse"));
        assert!(config.zero_config_user.is_none());
        assert_eq!(config.users[0].name, "alice");
    }

    #[test]
    fn only_one_user_goes_without_a_password() {
        let flags = RunFlags {
            user: vec!["alice".to_owned(), "bob".to_owned()],
            ..RunFlags::default()
        };
        assert!(settle_with_user(flags).is_err_and(|why| why.contains("--user: only one")));
    }

    #[test]
    fn a_secret_is_enough() {
        let config = settled(RunFlags {
            secret: vec!["north-wind-and-sun".to_owned()],
            ..RunFlags::default()
        });
        assert!(config.zero_config_user.is_none() && config.users.is_empty());
    }
}
