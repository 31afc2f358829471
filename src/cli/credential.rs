//! `turnstone credential`: what a WebRTC application needs to use the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::CredentialArgs;
use super::{Failure, oauth, output, utc};
use crate::config::{Config, Login, Overrides};
use crate::credentials::{Offer, Reach, TimeLimited, authority, ice_servers};
use crate::net;
use crate::time::UnixTime;
use crate::turn::{Family, SharedSecret};

const DEFAULT_FILE: &str = "turnserver.toml";
const DEFAULT_PORT: u16 = 3478;
/// Reaches a server on a host without a network.
const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
/// Stands where nothing tells how clients reach the server.
const EXAMPLE_HOST: &str = "turn.example.org";
/// The longest USERNAME in bytes (RFC 8489 §14.3).
const MAX_USERNAME: usize = 508;

/// A username and password, and until when they are good.
struct Credential {
    username: String,
    password: String,
    expires: Option<UnixTime>,
}

/// Prints credentials and iceServers.
pub(super) fn credential(args: &CredentialArgs) -> Result<(), Failure> {
    let file = file(args);
    let config = load(file.as_deref())?;
    // Where the file is, there is the server.
    let hosts = hosts(args.host.as_deref(), &config, file.is_some())?;
    let tls_hosts = tls_hosts(args.host.as_deref(), &config);
    let offer = Offer {
        hosts: &hosts,
        udp: config.udp,
        tcp: config.tcp,
        tls_hosts: &tls_hosts,
    };
    output::say(&if args.oauth {
        let bearer = oauth::mint(args, &config, utc::now())?;
        bearer.render(ice_servers(offer, bearer.username(), ""), args.json)
    } else {
        let credential = find(args, &config, utc::now())?;
        render(&credential, offer, args.json)
    })
}

/// The file that describes the server, if it is at hand.
fn file(args: &CredentialArgs) -> Option<PathBuf> {
    let default = || {
        let key = if args.oauth {
            &args.oauth_key
        } else {
            &args.secret
        };
        let wanted = key.is_none() && Path::new(DEFAULT_FILE).exists();
        wanted.then(|| PathBuf::from(DEFAULT_FILE))
    };
    args.config.clone().or_else(default)
}

fn load(file: Option<&Path>) -> Result<Config, Failure> {
    Config::load(file, &Overrides::default()).map_err(|report| {
        let problems = report.problems().iter();
        let problems = problems.map(|problem| format!("{problem}\n"));
        problems.collect::<String>() + "no credentials were made"
    })
}

/// The static user, unless the arguments ask for time-limited credentials.
fn find(args: &CredentialArgs, config: &Config, now: UnixTime) -> Result<Credential, Failure> {
    let name = args.user.as_deref().unwrap_or_default();
    if name.is_empty() || name.contains('\0') {
        return Err("--user: write a name without NUL".to_owned());
    }
    let user = config.users.iter().find(|user| user.name == name);
    let asks_for_time = args.ttl.is_some() || args.secret.is_some();
    match user {
        Some(user) if !asks_for_time => static_user(&user.name, &user.login),
        _ => time_limited(args, name, config, now),
    }
}

fn static_user(name: &str, login: &Login) -> Result<Credential, Failure> {
    match login {
        Login::Password(password) => Ok(Credential {
            username: name.to_owned(),
            password: password.clone(),
            expires: None,
        }),
        Login::Keys(_) => Err(format!(
            "{name:?} has a stored key, from which no password follows; use the password that the key was made of"
        )),
    }
}

fn time_limited(
    args: &CredentialArgs,
    name: &str,
    config: &Config,
    now: UnixTime,
) -> Result<Credential, Failure> {
    let secret = match &args.secret {
        Some(secret) if secret.is_empty() => {
            return Err(
                "--secret: the secret is empty; give the one that the server has".to_owned(),
            );
        }
        Some(secret) => SharedSecret::new(secret),
        None => config
            .secrets
            .first()
            .cloned()
            .ok_or_else(|| no_secret(name, config))?,
    };
    let minted = TimeLimited::mint(&secret, name, now, args.lifetime());
    if minted.username.len() > MAX_USERNAME {
        let length = minted.username.len();
        return Err(format!(
            "--user: with its expiry the username has {length} bytes; {MAX_USERNAME} are the most (RFC 8489 §14.3)"
        ));
    }
    Ok(Credential {
        username: minted.username,
        password: minted.password,
        expires: Some(minted.expires),
    })
}

fn no_secret(user: &str, config: &Config) -> Failure {
    if config.users.iter().any(|known| known.name == user) {
        return format!(
            "{user:?} is a static user, and time-limited credentials need a secret; leave --ttl out, or give --secret, TURNSTONE_SECRET or a file with secrets"
        );
    }
    format!(
        "no secret to make credentials with and no static user {user:?}; give --secret, TURNSTONE_SECRET or --config FILE"
    )
}

/// Where clients reach the server, best first, as URIs write it. `here`: it runs on this host.
fn hosts(host: Option<&str>, config: &Config, here: bool) -> Result<Vec<String>, Failure> {
    let port = config.listen.first().map_or(DEFAULT_PORT, SocketAddr::port);
    if let Some(host) = host {
        return host_flag(host, port).map(|host| vec![host]);
    }
    let known = addresses(config, here);
    if known.is_empty() {
        output::complain(&format!(
            "{EXAMPLE_HOST} stands for your server; name it with --host"
        ));
        return Ok(vec![authority(EXAMPLE_HOST, port)]);
    }
    let known = known.iter();
    Ok(known
        .map(|at| authority(&at.ip().to_string(), at.port()))
        .collect())
}

/// Where clients reach the server over TLS: at `host` if there is a certificate for it, otherwise at a
/// host that there is one for.
fn tls_hosts(host: Option<&str>, config: &Config) -> Vec<String> {
    let Some(port) = config.tls.listen.first().map(SocketAddr::port) else {
        return Vec::new();
    };
    let bare = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let named = bare.filter(|name| config.tls.covers(name));
    let host = named.map(str::to_owned).or_else(|| config.tls.host());
    host.map(|host| authority(&host, port))
        .into_iter()
        .collect()
}

fn addresses(config: &Config, here: bool) -> Vec<SocketAddr> {
    let usual = |family| here.then(|| net::default_source(family)).flatten();
    let reach = Reach {
        listen: &config.listen,
        interfaces: if here { &LOOPBACK } else { &[] },
        default_v4: usual(Family::V4),
        default_v6: usual(Family::V6),
        external: &config.external,
    };
    reach.addresses()
}

/// `HOST`, `HOST:PORT`, an address, or a bracketed IPv6 address with a port.
fn host_flag(text: &str, port: u16) -> Result<String, Failure> {
    let is_plain = |host: &str| {
        !host.is_empty()
            && host
                .chars()
                .all(|char| char.is_alphanumeric() || "-._".contains(char))
    };
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let named_port = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match named_port {
        _ if bare.parse::<IpAddr>().is_ok() || is_plain(text) => Ok(authority(bare, port)),
        Some((host, port)) if is_plain(host) => Ok(authority(host, port)),
        Some((_, port)) if text.parse::<SocketAddr>().is_ok() && port > 0 => Ok(text.to_owned()),
        _ => Err(format!(
            "--host: {text:?} is not a host; write a name or an address, with or without :PORT"
        )),
    }
}

fn render(credential: &Credential, offer: Offer<'_>, as_json: bool) -> String {
    let (username, password) = (&credential.username, &credential.password);
    let mut ice = ice_servers(offer, username, password);
    if as_json {
        ice["username"] = json!(username);
        ice["password"] = json!(password);
        ice["expires"] = json!(credential.expires.map(|time| time.0));
        return ice.to_string();
    }
    let expires = credential.expires.map_or("never".to_owned(), utc::show);
    let (username, password) = (output::one_line(username), output::one_line(password));
    format!("username: {username}\npassword: {password}\nexpires:  {expires}\n\n{ice:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(user: &str) -> CredentialArgs {
        CredentialArgs {
            user: Some(user.to_owned()),
            ..CredentialArgs::default()
        }
    }

    fn nothing_configured() -> Config {
        Config::load(None, &Overrides::default()).unwrap()
    }

    fn with_secret(user: &str) -> Result<Credential, Failure> {
        let args = CredentialArgs {
            secret: Some("north-wind-and-sun".to_owned()),
            ..args(user)
        };
        find(&args, &nothing_configured(), UnixTime(1_700_000_000))
    }

    #[test]
    fn hostile_names_survive() {
        for name in ["'\";--", "%n", "a\r\nb", "<script>", &"é".repeat(240)] {
            let Ok(credential) = with_secret(name) else {
                panic!("{name:?} was refused");
            };
            let text = render(&credential, Offer::default(), true);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let username = format!("1700003600:{name}");
            assert_eq!(value["username"], json!(username));
            assert_eq!(value["iceServers"][0]["username"], json!(username));
            assert_eq!(value["expires"], json!(1_700_003_600));
        }
    }

    #[test]
    fn a_name_does_not_tear_its_line() {
        let credential = with_secret("a\nb\u{1b}[2J").unwrap_or_else(|why| panic!("{why}"));
        let text = render(&credential, Offer::default(), false);
        let before_json = text.lines().take_while(|line| !line.is_empty()).count();
        assert_eq!(before_json, 3);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn names_that_no_username_holds_are_refused() {
        assert!(with_secret("").is_err());
        assert!(with_secret("a\0b").is_err());
        assert!(with_secret(&"x".repeat(500)).is_err());
    }

    #[test]
    fn without_a_secret_there_is_nothing_to_sign_with() {
        let failure = find(&args("alice"), &nothing_configured(), UnixTime(0)).err();
        assert!(failure.is_some_and(|why| why.contains("--secret")));
    }

    #[test]
    fn hosts_may_have_ports() {
        let host = |text| host_flag(text, 3478).ok();
        assert_eq!(
            host("turn.example.org").as_deref(),
            Some("turn.example.org:3478")
        );
        assert_eq!(
            host("turn.example.org:80").as_deref(),
            Some("turn.example.org:80")
        );
        assert_eq!(host("2001:db8::1").as_deref(), Some("[2001:db8::1]:3478"));
        assert_eq!(host("[2001:db8::1]").as_deref(), Some("[2001:db8::1]:3478"));
        assert_eq!(
            host("[2001:db8::1]:80").as_deref(),
            Some("[2001:db8::1]:80")
        );
        for text in ["", "a b", "http://x", "x:y", "x?transport=tcp"] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_known_shows_an_example() {
        let hosts = hosts(None, &nothing_configured(), false);
        assert_eq!(hosts, Ok(vec!["turn.example.org:3478".to_owned()]));
    }
}
