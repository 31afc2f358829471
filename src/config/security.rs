//! Checks which password algorithms and names of users are offered (RFC 8489 §9.2).

use super::draft::{Key, List};
use super::report::Report;
use super::user::User;
use crate::stun::PasswordAlgorithm;
use crate::turn::Security;

/// All of them, the best first.
const ALGORITHMS: [PasswordAlgorithm; 2] = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];

/// `SHA-256` or `MD5`, in any case.
pub(super) fn parse_algorithm(text: &str) -> Result<PasswordAlgorithm, String> {
    let named = ALGORITHMS
        .into_iter()
        .find(|known| name(*known).eq_ignore_ascii_case(text));
    named.ok_or_else(|| format!("{text:?} is no password algorithm; write \"SHA-256\" or \"MD5\""))
}

fn name(algorithm: PasswordAlgorithm) -> &'static str {
    match algorithm {
        PasswordAlgorithm::Md5 => "MD5",
        PasswordAlgorithm::Sha256 => "SHA-256",
    }
}

/// What is offered: what was written, if every user can use it; otherwise all that every user can.
pub(super) fn check_security(
    algorithms: Option<List<PasswordAlgorithm>>,
    userhash: Key<bool>,
    users: &[User],
    with_secrets: bool,
    report: &mut Report,
) -> Security {
    let algorithms = match algorithms {
        Some(written) => check_algorithms(written, users, report),
        None => {
            let usable = |algorithm: &PasswordAlgorithm| lacking(users, *algorithm).is_none();
            ALGORITHMS.into_iter().filter(usable).collect()
        }
    };
    let userhash = match userhash {
        Some(written) if written.value && with_secrets => {
            let what = "names of time-limited credentials cannot be found by their hash; \
                        leave userhash out, or the secrets";
            report.error(&written.spot, what);
            false
        }
        Some(written) => written.value,
        None => !with_secrets,
    };
    Security::new(&algorithms, userhash)
}

fn check_algorithms(
    written: List<PasswordAlgorithm>,
    users: &[User],
    report: &mut Report,
) -> Vec<PasswordAlgorithm> {
    if written.value.is_empty() {
        report.error(
            &written.spot,
            "nobody can sign in; write at least one algorithm",
        );
    }
    let mut algorithms = Vec::new();
    for element in written.value {
        let algorithm = element.value;
        if algorithms.contains(&algorithm) {
            let what = format!("{} stands there twice; leave one", name(algorithm));
            report.error(&element.spot, what);
        } else if let Some(user) = lacking(users, algorithm) {
            let what = format!(
                "the user {:?} has no key for {}; make one with: turnstone key --user NAME",
                user.name,
                name(algorithm)
            );
            report.error(&element.spot, what);
        } else {
            algorithms.push(algorithm);
        }
    }
    algorithms
}

/// A user who cannot sign with `algorithm`.
fn lacking(users: &[User], algorithm: PasswordAlgorithm) -> Option<&User> {
    users.iter().find(|user| !user.has(algorithm))
}
