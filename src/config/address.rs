//! Addresses, networks and log words as people write them.

use std::net::{IpAddr, SocketAddr};

use super::{Level, LogFormat};
use crate::turn::{External, Family, Network, NetworkError, Rule, RuleAction};

/// `0.0.0.0:3478` or `[::]:3478`: an address that clients or scrapers can reach.
pub(super) fn parse_endpoint(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let whole = SocketAddr::new(address, 3478);
        return Err(format!("{text:?} has no port; write \"{whole}\""));
    }
    let endpoint: SocketAddr = text.parse().map_err(|_| {
        format!("{text:?} is not an address and port; write \"0.0.0.0:3478\" or \"[::]:3478\"")
    })?;
    check_local(text, endpoint.ip())?;
    Ok(endpoint)
}

/// As [`parse_endpoint`], or a bare port, which means all addresses of both families.
pub(super) fn parse_listen_flag(text: &str) -> Result<Vec<SocketAddr>, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(every_address(port)),
        Err(_) => Ok(vec![parse_endpoint(text)?]),
    }
}

/// All addresses of both families at `port`.
pub(super) fn every_address(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::from(([0; 4], port)),
        SocketAddr::from(([0u16; 8], port)),
    ]
}

/// An endpoint, or `off`.
pub(super) fn parse_metrics(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let remedy = "write \"127.0.0.1:9641\" or \"off\"";
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("{text:?} has no port; {remedy}"));
    }
    let endpoint: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is not an address and port; {remedy}"))?;
    check_local(text, endpoint.ip())?;
    Ok(Some(endpoint))
}

/// A local address that relay sockets can bind.
pub(super) fn parse_relay_address(text: &str) -> Result<IpAddr, String> {
    let address = parse_ip(text)?;
    if address.is_unspecified() {
        return Err(format!(
            "{text:?} names no address; leave the list empty to relay from the address that the client reached"
        ));
    }
    check_local(text, address)?;
    Ok(address)
}

/// The second address of this host.
pub(super) fn parse_alternate_address(text: &str) -> Result<IpAddr, String> {
    parse_specific(text)
}

/// `203.0.113.5`, or `203.0.113.5/10.0.0.5`: public address, then local.
pub(super) fn parse_external(text: &str) -> Result<External, String> {
    let (public, local) = match text.split_once('/') {
        Some((public, local)) => (parse_specific(public)?, Some(parse_specific(local)?)),
        None => (parse_specific(text)?, None),
    };
    if local.is_some_and(|local| Family::of(local) != Family::of(public)) {
        return Err(format!(
            "{text:?} mixes IPv4 and IPv6; a NAT maps within one family: write \"PUBLIC/LOCAL\" of one"
        ));
    }
    Ok(External { local, public })
}

fn parse_specific(text: &str) -> Result<IpAddr, String> {
    let address = parse_ip(text)?;
    if address.is_unspecified() {
        return Err(format!(
            "{text:?} names no address; write the address itself"
        ));
    }
    check_local(text, address)?;
    Ok(address)
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an IP address; write one like \"203.0.113.5\" or \"2001:db8::5\"")
    })
}

/// Refuses what no socket of a server binds.
pub(super) fn check_local(text: &str, address: IpAddr) -> Result<(), String> {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_multicast() || is_broadcast {
        return Err(format!(
            "{text:?} is a group address; write the address of one host"
        ));
    }
    match address.to_canonical() {
        canonical if canonical != address => Err(format!(
            "{text:?} is an IPv4 address in IPv6 clothes; write {canonical} instead"
        )),
        _ => Ok(()),
    }
}

/// A network in CIDR notation, or one address, that `action` applies to.
pub(super) fn parse_rule(text: &str, action: RuleAction) -> Result<Rule, String> {
    let network = parse_network(text)?;
    Ok(Rule { network, action })
}

/// A network in CIDR notation, or one address.
pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    text.parse::<Network>().map_err(|error| match error {
        NetworkError::Address => {
            format!("{text:?} is not a network; write one like \"10.0.0.0/8\", or one address")
        }
        NetworkError::Prefix => format!(
            "{text:?} has a wrong prefix length; write 0 to 32 behind an IPv4 address, 0 to 128 behind an IPv6 one"
        ),
        NetworkError::HostBits(meant) => {
            format!("{text:?} has bits set behind the prefix; write \"{meant}\"")
        }
    })
}

/// `error`, `warn`, `info`, `debug` or `trace`.
pub(super) fn parse_level(text: &str) -> Result<Level, String> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err(format!(
            "{text:?} is not a level; write error, warn, info, debug or trace"
        )),
    }
}

/// `human` or `json`.
pub(super) fn parse_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not a format; write human or json")),
    }
}

/// Whether both cannot be bound at once.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_family && same_address
}
