//! `turnstone key`: a user for the file whose password is not in it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use super::args::KeyArgs;
use super::{Failure, output};
use crate::stun::PasswordAlgorithm;
use crate::turn::{StoredKey, opaque_string};

/// The longest password in bytes.
const MAX_PASSWORD: u64 = 1024;

/// Prints the lines for `turnserver.toml`.
pub(super) fn key(args: &KeyArgs) -> Result<(), Failure> {
    let password = match &args.password {
        Some(password) => password.clone(),
        None => read_password()?,
    };
    output::say(&user_section(&args.user, &args.realm, &password)?)
}

fn user_section(user: &str, realm: &str, password: &str) -> Result<String, Failure> {
    if user.is_empty() || user.len() > 508 || user.contains('\0') {
        return Err("--user: write a name of 1 to 508 bytes without NUL".to_owned());
    }
    if !(1..=127).contains(&realm.chars().count()) {
        return Err("--realm: write 1 to 127 characters (RFC 8489 §14.9)".to_owned());
    }
    if password.is_empty() {
        return Err(
            "the password is empty; give it with --password or as a line of standard input"
                .to_owned(),
        );
    }
    let key = |algorithm| {
        let user = opaque_string(user);
        StoredKey::derive(algorithm, &user, realm, password).to_hex()
    };
    let (md5, sha256) = (key(PasswordAlgorithm::Md5), key(PasswordAlgorithm::Sha256));
    let (user, realm) = (toml_string(user), toml_string(realm));
    Ok(format!(
        "# Good in the realm {realm} only.\n[[auth.users]]\nname = {user}\nkey = \"{md5}\"\nkey_sha256 = \"{sha256}\""
    ))
}

/// One line of standard input.
fn read_password() -> Result<String, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        output::complain("password (it shows as you type):");
    }
    let mut line = String::new();
    stdin
        .lock()
        .take(MAX_PASSWORD + 2)
        .read_line(&mut line)
        .map_err(|error| format!("the password cannot be read from standard input: {error}"))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.len() as u64 > MAX_PASSWORD {
        return Err(format!("the password is longer than {MAX_PASSWORD} bytes"));
    }
    Ok(password.to_owned())
}

/// `text` as a basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Config, Overrides};

    #[test]
    fn what_the_server_would_refuse_gets_no_key() {
        let long = "r".repeat(128);
        for (user, realm, password) in [
            ("", "turnstone", "pw"),
            ("bob", "", "pw"),
            ("bob", &long, "pw"),
            ("bob", "turnstone", ""),
        ] {
            assert!(user_section(user, realm, password).is_err());
        }
    }

    #[test]
    fn hostile_names_survive_toml() {
        for name in [
            "'\";--",
            "%n",
            "a\r\nb",
            "\\",
            "\u{7f}\u{85}",
            &"é".repeat(250),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(&file, user_section(name, "turnstone", "p").unwrap()).unwrap();
            let config = Config::load(Some(file.path()), &Overrides::default()).unwrap();
            assert_eq!(config.users[0].name, name);
        }
    }

    #[test]
    fn what_no_user_can_have_is_refused() {
        assert!(user_section("", "r", "p").is_err());
        assert!(user_section("a\0b", "r", "p").is_err());
        assert!(user_section("alice", "r", "").is_err());
    }
}
