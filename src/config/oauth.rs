//! Checks what access tokens are believed by (RFC 7635).

use super::draft::{DraftOauthKey, Key, Located, or};
use super::report::Report;
use crate::turn::{KeyError, OAuth, TokenAlgorithm, TokenKey};

/// The longest USERNAME in bytes (RFC 8489 §14.3), which the key id is sent in.
const MAX_ID: usize = 508;
/// A domain name is no longer, in bytes (RFC 1035 §2.3.4); every challenge carries it.
const MAX_SERVER_NAME: usize = 255;

/// `A256GCM` or `A128GCM`, in any case.
pub(super) fn parse_token_algorithm(text: &str) -> Result<TokenAlgorithm, String> {
    let mut all = TokenAlgorithm::ALL.into_iter();
    let named = all.find(|known| known.name().eq_ignore_ascii_case(text));
    named.ok_or_else(|| {
        format!(
            "{text:?} seals no access token; write \"A256GCM\" or \"A128GCM\" (RFC 7635 §4.1.1)"
        )
    })
}

/// The server's name with all keys, if there are any.
pub(super) fn check_oauth(
    server_name: Key<String>,
    keys: Vec<DraftOauthKey>,
    report: &mut Report,
) -> Option<OAuth> {
    let Some(first) = keys.first().map(|key| key.spot.clone()) else {
        if let Some(name) = server_name {
            let what = "no access token can be believed without a key; add [[auth.oauth_keys]], \
                        or leave the name out";
            report.error(&name.spot, what);
        }
        return None;
    };
    let name = match server_name {
        Some(name) => check_server_name(name, report),
        None => {
            let what = "tokens are made for a server by name; add to [auth]: \
                        oauth_server_name = \"...\"";
            report.error(&first, what);
            None
        }
    };
    let mut oauth: Option<OAuth> = None;
    for draft in keys {
        if report.speaks_of(&draft.spot) {
            // What was not understood of it may be what is missing.
            continue;
        }
        let id = check_id(&draft, oauth.as_ref(), report);
        let key = check_key(&draft, report);
        let (Some(id), Some(key)) = (id, key) else {
            continue;
        };
        match &mut oauth {
            Some(oauth) => oauth.add_key(&id, key),
            None => oauth = Some(OAuth::new(name.as_deref().unwrap_or_default(), &id, key)),
        }
    }
    oauth
}

fn check_server_name(name: Located<String>, report: &mut Report) -> Option<String> {
    let Located { value, spot } = name;
    let length = value.len();
    if length == 0 || length > MAX_SERVER_NAME {
        let what = format!("the name has {length} bytes; write 1 to {MAX_SERVER_NAME}");
        report.error(&spot, what);
    } else if value.chars().any(char::is_control) {
        report.error(&spot, "the name contains a control character; leave it out");
    } else {
        return Some(value);
    }
    None
}

fn check_id(key: &DraftOauthKey, known: Option<&OAuth>, report: &mut Report) -> Option<String> {
    let Some(Located { value: id, spot }) = &key.id else {
        report.error(&key.spot, "the key has no id; add: id = \"...\"");
        return None;
    };
    let is_taken = known.is_some_and(|known| known.key(id).is_some());
    let what = if id.is_empty() {
        "the id is empty; write 1 to 508 bytes".to_owned()
    } else if id.len() > MAX_ID {
        let length = id.len();
        format!("the id has {length} bytes; {MAX_ID} are the most (RFC 8489 §14.3)")
    } else if id.contains('\0') {
        "the id contains a NUL character; leave it out".to_owned()
    } else if is_taken {
        format!("a second key {id:?}; leave one of them")
    } else {
        return Some(id.clone());
    };
    report.error(spot, what);
    None
}

fn check_key(draft: &DraftOauthKey, report: &mut Report) -> Option<TokenKey> {
    let algorithm = or(&draft.algorithm, TokenAlgorithm::A256Gcm);
    let Some(Located { value, spot }) = &draft.key else {
        report.error(&draft.spot, "the key is not there; add: key = \"...\"");
        return None;
    };
    let (name, needed) = (algorithm.name(), algorithm.key_length());
    let remedy = format!("make one with: openssl rand -base64 {needed}");
    match TokenKey::from_base64(algorithm, value) {
        Ok(key) => return Some(key),
        Err(KeyError::NotBase64) => {
            report.error(spot, format_args!("the key is not base64; {remedy}"));
        }
        Err(KeyError::Length(length)) => report.error(
            spot,
            format_args!("the key has {length} bytes, {name} takes {needed}; {remedy}"),
        ),
    }
    None
}
