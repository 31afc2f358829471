//! A server as people name it on the command line.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::Failure;

/// `HOST`, `HOST:PORT`, an address, or a bracketed IPv6 address with a port; without one `default_port`.
pub(super) fn resolve(text: &str, default_port: u16) -> Result<SocketAddr, Failure> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default_port));
    }
    let named = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = match named {
        Some(named) => named,
        None if text.is_empty() || text.contains(':') => {
            return Err(format!("{text:?} names no server; write HOST or HOST:PORT"));
        }
        None => (text, default_port),
    };
    let found = (host, port).to_socket_addrs();
    let found: Vec<_> = found
        .map_err(|error| format!("{host:?} cannot be looked up: {error}"))?
        .collect();
    // NATs are a matter of IPv4.
    let best = found.iter().find(|address| address.is_ipv4());
    best.or(found.first())
        .copied()
        .ok_or_else(|| format!("{host:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_every_usual_way() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1:3478"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("2001:db8::1", "[2001:db8::1]:3478"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            let found = resolve(text, 3478).map(|address| address.to_string());
            assert_eq!(found.as_deref(), Ok(expected));
        }
        for text in ["", "a:b", "host:99999", "a:b:c"] {
            assert!(resolve(text, 3478).is_err(), "{text}");
        }
    }
}
