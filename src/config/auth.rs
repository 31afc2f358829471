//! Checks users and secrets.

use std::collections::HashSet;
use std::path::Path;

use super::draft::{DraftUser, Located};
use super::file::read_text;
use super::report::{Report, Spot};
use super::user::{Login, PlainUser, User};
use crate::stun::PasswordAlgorithm;
use crate::turn::{SharedSecret, StoredKey, expiry_of};

/// The longest USERNAME in bytes (RFC 8489 §14.3).
const MAX_NAME: usize = 508;
const MAX_PASSWORD: usize = 1024;
const MAX_SECRET: usize = 1024;
/// A shorter secret can be guessed from one credential that it signed.
const GOOD_SECRET: usize = 16;

/// The secrets in `file`, which stands at `spot`, one a line; `#` begins a comment line.
pub(super) fn read_secrets(file: &Path, spot: &Spot, report: &mut Report) -> Vec<Located<String>> {
    let text = match read_text(file) {
        Ok(text) => text,
        Err((_, why)) => {
            report.error(spot, format_args!("{}: {why}", file.display()));
            return Vec::new();
        }
    };
    let name = file.display().to_string();
    let secrets: Vec<_> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| Located::new(line.to_owned(), Spot::in_file(&name, Some(number))))
        .collect();
    if secrets.is_empty() {
        let what = "holds no secret; write one a line";
        report.error(spot, format_args!("{name}: {what}"));
    }
    secrets
}

/// The secrets that can be used.
pub(super) fn check_secrets(
    secrets: Vec<Located<String>>,
    report: &mut Report,
) -> Vec<SharedSecret> {
    let mut checked = Vec::new();
    for Located { value, spot } in secrets {
        match value.len() {
            0 => {
                report.error(&spot, "the secret is empty; make one with: openssl rand -base64 32");
                continue;
            }
            length if length > MAX_SECRET => {
                let what = format!("the secret has {length} bytes; {MAX_SECRET} are the most");
                report.error(&spot, what);
                continue;
            }
            length if length < GOOD_SECRET => report.warning(
                &spot,
                format_args!("the secret has {length} bytes and can be guessed; take {GOOD_SECRET} or more, as made with: openssl rand -base64 32"),
            ),
            _ => {}
        }
        checked.push(SharedSecret::new(&value));
    }
    checked
}

/// The users that can be used, and the one whose password must be printed. `with_secrets`: some
/// usernames mean time-limited credentials.
pub(super) fn check_users(
    drafts: Vec<DraftUser>,
    with_secrets: bool,
    report: &mut Report,
) -> (Vec<User>, Option<PlainUser>) {
    let mut users = Vec::new();
    let mut names = HashSet::new();
    let mut printed = None;
    for draft in drafts {
        let name = check_name(&draft, with_secrets, &mut names, report);
        let login = check_login(&draft, report);
        let (Some(name), Some(login)) = (name, login) else {
            continue;
        };
        if let (true, Login::Password(password)) = (draft.generated, &login) {
            if printed.is_some() {
                let what = "only one user can go without a password; write NAME:PASSWORD";
                report.error(&draft.spot, what);
            }
            printed = Some(PlainUser {
                name: name.clone(),
                password: password.clone(),
            });
        }
        users.push(User { name, login });
    }
    (users, printed)
}

fn check_name(
    user: &DraftUser,
    with_secrets: bool,
    names: &mut HashSet<String>,
    report: &mut Report,
) -> Option<String> {
    let Some(Located { value: name, spot }) = &user.name else {
        report.error(&user.spot, "the user has no name; add: name = \"...\"");
        return None;
    };
    let what = if name.is_empty() {
        "the name is empty; write 1 to 508 bytes".to_owned()
    } else if name.len() > MAX_NAME {
        format!(
            "the name has {} bytes; {MAX_NAME} are the most (RFC 8489 §14.3)",
            name.len()
        )
    } else if name.contains('\0') {
        "the name contains a NUL character; leave it out".to_owned()
    } else if with_secrets && expiry_of(name).is_some() {
        format!(
            "{name:?} reads as a time-limited username, which the secrets speak for; begin it with a letter"
        )
    } else if !names.insert(name.clone()) {
        format!("a second user {name:?}; leave one of them")
    } else {
        return Some(name.clone());
    };
    report.error(spot, what);
    None
}

fn check_login(user: &DraftUser, report: &mut Report) -> Option<Login> {
    let keys = [
        (&user.key, PasswordAlgorithm::Md5, 32),
        (&user.key_sha256, PasswordAlgorithm::Sha256, 64),
    ];
    let first = user.key.as_ref().or(user.key_sha256.as_ref());
    match (&user.password, first) {
        (Some(password), None) => check_password(password, report).map(Login::Password),
        (None, Some(_)) => {
            let written = keys
                .into_iter()
                .filter_map(|(key, algorithm, digits)| Some((key.as_ref()?, algorithm, digits)));
            let stored: Option<Vec<StoredKey>> = written
                .map(|(key, algorithm, digits)| check_key(key, algorithm, digits, report))
                .collect();
            stored.map(Login::Keys)
        }
        (Some(_), Some(key)) => {
            report.error(
                &key.spot,
                "the user has a password as well; leave one of the two",
            );
            None
        }
        (None, None) => {
            report.error(
                &user.spot,
                "the user has neither password nor key; add one of the two",
            );
            None
        }
    }
}

fn check_key(
    key: &Located<String>,
    algorithm: PasswordAlgorithm,
    digits: usize,
    report: &mut Report,
) -> Option<StoredKey> {
    let stored = StoredKey::from_hex(&key.value).filter(|key| key.algorithm() == algorithm);
    if stored.is_none() {
        let what = format!(
            "not a stored key, which is {digits} hexadecimal digits; make one with: turnstone key --user NAME"
        );
        report.error(&key.spot, what);
    }
    stored
}

fn check_password(password: &Located<String>, report: &mut Report) -> Option<String> {
    let length = password.value.len();
    if length == 0 || length > MAX_PASSWORD {
        let what = format!("the password has {length} bytes; write 1 to {MAX_PASSWORD}");
        report.error(&password.spot, what);
        return None;
    }
    Some(password.value.clone())
}
