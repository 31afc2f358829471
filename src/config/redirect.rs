//! Checks where clients are redirected to (RFC 8489 §10).

use std::net::{IpAddr, SocketAddr};

use super::address::check_local;
use super::distinct::distinct;
use super::draft::{DraftRedirect, List};
use super::report::Report;
use crate::turn::Alternates;

/// The longest ALTERNATE-DOMAIN in characters (RFC 8489 §14.16).
const MAX_DOMAIN: usize = 255;
/// The longest label of a name (RFC 1123 §2.1).
const MAX_LABEL: usize = 63;

/// `198.51.100.7:3478` or `[2001:db8::7]:3478`: an address that clients can send to.
pub(super) fn parse_alternate_server(text: &str) -> Result<SocketAddr, String> {
    let server: SocketAddr = text.parse().map_err(|_| {
        format!(
            "{text:?} is not an address and port; write \"198.51.100.7:3478\" or \"[2001:db8::7]:3478\""
        )
    })?;
    if server.ip().is_unspecified() || server.port() == 0 {
        return Err(format!(
            "{text:?} names no server; write its address and port"
        ));
    }
    check_local(text, server.ip())?;
    Ok(server)
}

/// A domain name as certificates have it.
pub(super) fn parse_domain(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.len() <= MAX_DOMAIN && text.split('.').all(is_label);
    // The last label of a name is not a number (RFC 1123 §2.1).
    let is_address = text.parse::<IpAddr>().is_ok();
    if is_name && !is_address {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not a domain name; write one like \"turn2.example.org\""
        ))
    }
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(is_letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The alternates that `draft` means; none when clients are not redirected.
pub(super) fn check_redirect(
    draft: DraftRedirect,
    endpoints: &[SocketAddr],
    report: &mut Report,
) -> Option<Alternates> {
    let servers = check_servers("redirect.servers", draft.servers, endpoints, report);
    let tls_servers = check_servers("redirect.tls_servers", draft.tls_servers, endpoints, report);
    if let Some(domain) = draft.domain.as_ref().filter(|_| tls_servers.is_empty()) {
        report.error(
            &domain.spot,
            "is for clients over TLS and says nothing without tls_servers; add them",
        );
    }
    let domain = draft.domain.as_ref().map(|domain| domain.value.as_str());
    let is_on = !servers.is_empty() || !tls_servers.is_empty();
    is_on.then(|| Alternates::new(&servers, &tls_servers, domain))
}

/// A server that redirects to itself sends its clients round in circles.
fn check_servers(
    key: &str,
    servers: Option<List<SocketAddr>>,
    endpoints: &[SocketAddr],
    report: &mut Report,
) -> Vec<SocketAddr> {
    let written = servers.iter().flat_map(|servers| &servers.value);
    for server in written.filter(|server| endpoints.contains(&server.value)) {
        report.error(
            &server.spot,
            format_args!(
                "{} is where this server listens; name another server",
                server.value
            ),
        );
    }
    distinct(key, servers, report)
}
