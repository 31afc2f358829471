//! The web servers that share the ports with TURN.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::draft::{DraftUpstream, Key, Located, or};
use super::report::{Report, Spot};

/// The longest path of a Unix socket in bytes.
const MAX_PATH: usize = 107;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_AFTER: Duration = Duration::from_secs(3600);

/// A server to which connections go on that are not TURN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The names (SNI) of its TLS connections, in lower case, each without a trailing dot; `*.` stands
    /// for one label. Empty for those whose name no other upstream has.
    pub server_names: Vec<String>,
    /// Where it listens.
    pub to: UpstreamAddress,
    /// What becomes of TLS.
    pub tls: UpstreamTls,
    /// Whether it takes plain-text connections too.
    pub plain: bool,
    /// Whether it speaks HTTP/2 without TLS.
    pub http2: bool,
    /// Whether each connection begins with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// How long it may take to accept a connection.
    pub connect_timeout: Duration,
    /// A connection over which nothing went either way for so long is closed.
    pub idle_after: Duration,
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What becomes of the TLS of a connection that goes to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// It ends here; the upstream sees plain text.
    Terminate,
    /// It ends at the upstream, which has the certificate.
    Pass,
    /// No TLS connection goes there.
    Off,
}

/// `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/web.sock`.
pub(super) fn parse_to(text: &str) -> Result<UpstreamAddress, String> {
    let remedy = "write \"127.0.0.1:8080\" or \"unix:/run/web.sock\"";
    if let Some(path) = text.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        return match path.as_os_str().len() {
            _ if !path.is_absolute() => Err(format!("{text:?} names no absolute path; {remedy}")),
            length if length > MAX_PATH => Err(format!(
                "the path of a Unix socket has {MAX_PATH} bytes at most, this one {length}; move the socket"
            )),
            _ => Ok(UpstreamAddress::Unix(path)),
        };
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is neither address and port nor Unix socket; {remedy}"))?;
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        return Err(format!("{text:?} is nowhere to connect to; {remedy}"));
    }
    Ok(UpstreamAddress::Tcp(address))
}

/// `terminate`, `pass` or `off`.
pub(super) fn parse_tls(text: &str) -> Result<UpstreamTls, String> {
    match text {
        "terminate" => Ok(UpstreamTls::Terminate),
        "pass" => Ok(UpstreamTls::Pass),
        "off" => Ok(UpstreamTls::Off),
        _ => Err(format!(
            "{text:?} is not known; write terminate, pass or off"
        )),
    }
}

/// A name as clients send it (SNI), or `*.` and the rest of one.
pub(super) fn parse_server_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let rest = name.strip_prefix("*.").unwrap_or(&name);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(is_letter)
    };
    if rest.parse::<IpAddr>().is_ok() {
        return Err(format!(
            "{text:?} is an address, which clients never send; write a name"
        ));
    }
    if name.len() > 253 || !rest.split('.').all(is_label) {
        return Err(format!(
            "{text:?} is not a name; write one like \"www.example.org\" or \"*.example.org\""
        ));
    }
    Ok(name)
}

/// What the rest of the configuration says.
pub(super) struct Surroundings<'c> {
    /// Where clients are served over TCP or TLS.
    pub(super) listen: &'c [SocketAddr],
    /// Whether connections are taken without TLS.
    pub(super) plain: bool,
    /// Whether connections are taken with TLS.
    pub(super) tls: bool,
}

/// The upstreams that can be used.
pub(super) fn check_upstreams(
    drafts: Vec<DraftUpstream>,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Vec<Upstream> {
    let mut seen = Seen::default();
    let each = drafts.into_iter();
    each.filter_map(|draft| {
        let upstream = resolve(&draft, report)?;
        check_alone(&draft, &upstream, around, report);
        seen.check(&draft, &upstream, report);
        Some(upstream)
    })
    .collect()
}

fn resolve(draft: &DraftUpstream, report: &mut Report) -> Option<Upstream> {
    let Some(to) = &draft.to else {
        // A value that is wrong was reported already.
        let spot = Spot {
            place: draft.spot.place.clone(),
            key: format!("{}.to", draft.spot.key),
        };
        if !report.speaks_of(&spot) {
            let what = "says not where to; add: to = \"127.0.0.1:8080\"";
            report.error(&draft.spot, what);
        }
        return None;
    };
    let names = draft.server_names.iter().flat_map(|list| &list.value);
    Some(Upstream {
        server_names: names.map(|name| name.value.clone()).collect(),
        to: to.value.clone(),
        tls: or(&draft.tls, UpstreamTls::Terminate),
        plain: or(&draft.plain, false),
        http2: or(&draft.http2, false),
        proxy_protocol: or(&draft.proxy_protocol, false),
        connect_timeout: or(&draft.connect_timeout, CONNECT_TIMEOUT),
        idle_after: or(&draft.idle_after, IDLE_AFTER),
    })
}

/// Checks an upstream that does not depend on the others.
fn check_alone(
    draft: &DraftUpstream,
    upstream: &Upstream,
    around: &Surroundings<'_>,
    report: &mut Report,
) {
    let problems = [
        to_ourselves(draft, upstream, around),
        tls_in_vain(draft, upstream, around),
        plain_in_vain(draft, upstream, around),
        http2_in_vain(draft, upstream),
    ];
    for (spot, what) in problems.into_iter().flatten() {
        report.error(spot, what);
    }
}

type Complaint<'d> = Option<(&'d Spot, &'static str)>;

fn spot_of<'d, T>(key: &'d Key<T>, draft: &'d DraftUpstream) -> &'d Spot {
    key.as_ref().map_or(&draft.spot, |key| &key.spot)
}

fn to_ourselves<'d>(
    draft: &'d DraftUpstream,
    upstream: &Upstream,
    around: &Surroundings<'_>,
) -> Complaint<'d> {
    let UpstreamAddress::Tcp(to) = upstream.to else {
        return None;
    };
    let is_ours = |listen: &SocketAddr| {
        let reached =
            listen.ip() == to.ip() || listen.ip().is_unspecified() && to.ip().is_loopback();
        listen.port() == to.port() && reached
    };
    let what = "is where clients are served, so that connections would come back; name the web server's own port";
    (around.listen.iter().any(is_ours)).then(|| (spot_of(&draft.to, draft), what))
}

fn tls_in_vain<'d>(
    draft: &'d DraftUpstream,
    upstream: &Upstream,
    around: &Surroundings<'_>,
) -> Complaint<'d> {
    let named = draft.server_names.as_ref().map(|names| &names.spot);
    let what = match upstream.tls {
        UpstreamTls::Terminate if !around.tls => {
            "TLS can end here only with a certificate; add [tls] with one, or set tls to \"pass\" or \"off\""
        }
        UpstreamTls::Pass if upstream.server_names.is_empty() => {
            "TLS is passed on by name, and there is none; add: server_names = [\"www.example.org\"]"
        }
        UpstreamTls::Off if named.is_some() => {
            return named.map(|spot| {
                (
                    spot,
                    "only TLS connections have a name; leave it out, or tls = \"off\"",
                )
            });
        }
        _ => return None,
    };
    Some((spot_of(&draft.tls, draft), what))
}

fn plain_in_vain<'d>(
    draft: &'d DraftUpstream,
    upstream: &Upstream,
    around: &Surroundings<'_>,
) -> Complaint<'d> {
    let (spot, what) = match (upstream.plain, upstream.tls) {
        (false, UpstreamTls::Off) => (
            spot_of(&draft.tls, draft),
            "nothing goes there; set plain to true, or tls to \"terminate\" or \"pass\"",
        ),
        (true, _) if !around.plain => (
            spot_of(&draft.plain, draft),
            "no connection comes without TLS; set server.tcp to true, or plain to false",
        ),
        _ => return None,
    };
    Some((spot, what))
}

fn http2_in_vain<'d>(draft: &'d DraftUpstream, upstream: &Upstream) -> Complaint<'d> {
    let is_in_vain = upstream.http2 && upstream.tls != UpstreamTls::Terminate;
    let what = "is offered in TLS that ends here; leave it out, or set tls to \"terminate\"";
    is_in_vain.then(|| (spot_of(&draft.http2, draft), what))
}

/// What earlier upstreams have taken.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    nameless: bool,
    plain: bool,
}

impl Seen {
    fn check(&mut self, draft: &DraftUpstream, upstream: &Upstream, report: &mut Report) {
        for Located { value, spot } in draft.server_names.iter().flat_map(|list| &list.value) {
            if !self.names.insert(value.clone()) {
                report.error(spot, format_args!("{value} stands there twice; leave one"));
            }
        }
        let is_nameless =
            upstream.server_names.is_empty() && upstream.tls == UpstreamTls::Terminate;
        if is_nameless && std::mem::replace(&mut self.nameless, true) {
            let what = "a second upstream without server_names; name what one of them serves";
            report.error(&draft.spot, what);
        }
        if upstream.plain && std::mem::replace(&mut self.plain, true) {
            let what = "a second upstream for plain connections; leave one";
            report.error(spot_of(&draft.plain, draft), what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_names() {
        for (text, name) in [
            ("www.Example.org", "www.example.org"),
            ("localhost.", "localhost"),
            ("*.example.org", "*.example.org"),
            ("a_b.xn--bcher-kva.example", "a_b.xn--bcher-kva.example"),
        ] {
            assert_eq!(parse_server_name(text).as_deref(), Ok(name));
        }
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "-a.b",
            "a.*.b",
            "192.0.2.1",
            "::1",
            "a b",
            "http://a",
        ] {
            assert!(parse_server_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn upstreams_listen_somewhere() {
        assert!(parse_to("127.0.0.1:80").is_ok());
        assert!(parse_to("[::1]:80").is_ok());
        assert!(parse_to("unix:/run/web.sock").is_ok());
        let long = format!("unix:/{}", "x".repeat(MAX_PATH));
        for text in [
            "",
            "127.0.0.1",
            "localhost:80",
            "0.0.0.0:80",
            "127.0.0.1:0",
            "unix:web",
            &long,
        ] {
            assert!(parse_to(text).is_err(), "{text}");
        }
    }
}
