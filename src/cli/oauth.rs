//! `turnstone credential --oauth`: an access token as an authorization server hands it out, for tests.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::args::CredentialArgs;
use super::{Failure, utc};
use crate::config::Config;
use crate::credentials::MintedToken;
use crate::time::UnixTime;
use crate::turn::{KeyError, TokenAlgorithm, TokenKey};

/// The key that seals, and for whom.
struct Sealing<'a> {
    id: &'a str,
    key: Cow<'a, TokenKey>,
    server_name: &'a str,
}

/// A token and the id of the key that sealed it.
pub(super) struct Bearer {
    id: String,
    token: MintedToken,
}

/// Mints a token with the key of the arguments, or of the file.
pub(super) fn mint(
    args: &CredentialArgs,
    config: &Config,
    now: UnixTime,
) -> Result<Bearer, Failure> {
    let Sealing {
        id,
        key,
        server_name,
    } = match &args.oauth_key {
        Some(key) => by_flags(args, key)?,
        None => by_file(args, config)?,
    };
    let token = MintedToken::mint(&key, server_name, now, args.lifetime());
    Ok(Bearer {
        id: id.to_owned(),
        token: token.ok_or("the system gives no random bytes for a token; try again later")?,
    })
}

fn by_flags<'a>(args: &'a CredentialArgs, key: &str) -> Result<Sealing<'a>, Failure> {
    let id = args.user.as_deref();
    let id = id.ok_or("--oauth-key: the key has no id; name it with --user")?;
    let server_name = args.server_name.as_deref();
    let server_name = server_name.ok_or(
        "--oauth-key: tokens are made for a server by name; give --server-name as in its file",
    )?;
    let key = TokenAlgorithm::ALL
        .into_iter()
        .map(|algorithm| TokenKey::from_base64(algorithm, key))
        .reduce(Result::or);
    match key {
        Some(Ok(key)) => Ok(Sealing {
            id,
            key: Cow::Owned(key),
            server_name,
        }),
        Some(Err(KeyError::Length(length))) => Err(format!(
            "--oauth-key: the key has {length} bytes; A256GCM takes 32, A128GCM 16"
        )),
        Some(Err(KeyError::NotBase64)) | None => {
            Err("--oauth-key: the key is not base64; write it as in the file".to_owned())
        }
    }
}

/// The key that --user names, or the first one.
fn by_file<'a>(args: &'a CredentialArgs, config: &'a Config) -> Result<Sealing<'a>, Failure> {
    let oauth = config.oauth.as_ref().ok_or(
        "no key to seal a token with; give --config FILE with [[auth.oauth_keys]], or --oauth-key",
    )?;
    let id = args.user.as_deref().or(oauth.ids().next());
    let found = id.and_then(|id| Some((id, oauth.key(id)?)));
    let (id, key) = found.ok_or_else(|| {
        let ids: Vec<String> = oauth.ids().map(|id| format!("{id:?}")).collect();
        format!(
            "--user: no key with this id; the file has {}",
            ids.join(", ")
        )
    })?;
    Ok(Sealing {
        id,
        key: Cow::Borrowed(key),
        server_name: oauth.server_name(),
    })
}

impl Bearer {
    /// USERNAME.
    pub(super) fn username(&self) -> &str {
        &self.id
    }

    /// What is printed, around the `ice` of a server whose password is still to be set.
    pub(super) fn render(&self, mut ice: Value, as_json: bool) -> String {
        let credential = self.token.ice_credential();
        let expires = self.token.expires;
        ice["iceServers"][0]["credentialType"] = json!("oauth");
        ice["iceServers"][0]["credential"] = credential.clone();
        if as_json {
            ice["username"] = json!(self.id);
            ice["credential"] = credential;
            ice["expires"] = json!(expires.0);
            return ice.to_string();
        }
        format!(
            "username:     {}\nmac key:      {}\naccess token: {}\nexpires:      {}\n\n{ice:#}",
            super::output::one_line(&self.id),
            self.token.mac_key(),
            self.token.access_token(),
            utc::show(expires),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn args(user: Option<&str>, key: Option<&str>, server_name: Option<&str>) -> CredentialArgs {
        CredentialArgs {
            user: user.map(str::to_owned),
            oauth: true,
            oauth_key: key.map(str::to_owned),
            server_name: server_name.map(str::to_owned),
            ..CredentialArgs::default()
        }
    }

    fn failure(args: &CredentialArgs) -> String {
        let nothing = Config::load(None, &Overrides::default()).unwrap();
        mint(args, &nothing, UnixTime(0)).err().unwrap_or_default()
    }

    #[test]
    fn what_is_missing_is_named() {
        let key = Some("a2tra2tra2tra2tra2traw==");
        assert!(failure(&args(None, None, None)).contains("--oauth-key"));
        assert!(failure(&args(None, key, Some("s"))).contains("--user"));
        assert!(failure(&args(Some("a"), key, None)).contains("--server-name"));
        let short = args(Some("a"), Some("a2tr"), Some("s"));
        assert!(failure(&short).contains("has 3 bytes"));
        let garbled = args(Some("a"), Some("a?"), Some("s"));
        assert!(failure(&garbled).contains("not base64"));
        assert_eq!(failure(&args(Some("a"), key, Some("s"))), "");
    }
}
