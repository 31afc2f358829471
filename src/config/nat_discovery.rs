//! Checks that NAT behaviour discovery has the four addresses it needs (RFC 5780 §6).

use std::net::{IpAddr, SocketAddr};

use super::draft::{Key, Located, or};
use super::report::Report;
use crate::turn::{External, Family, NatDiscovery};

/// The second port when none is written.
const DEFAULT_ALTERNATE_PORT: u16 = 3479;

/// The keys of `[nat_discovery]`.
pub(super) struct DraftDiscovery {
    pub(super) address: Key<IpAddr>,
    pub(super) port: Key<u16>,
}

/// The four addresses that `draft` and `listen` mean; none when it is off or something is missing.
pub(super) fn check_nat_discovery(
    draft: &DraftDiscovery,
    listen: &[SocketAddr],
    udp: bool,
    external: &[External],
    report: &mut Report,
) -> Option<NatDiscovery> {
    let Some(Located { value, spot }) = &draft.address else {
        if let Some(port) = &draft.port {
            report.error(
                &port.spot,
                "says nothing without alternate_address; add the second address of this host",
            );
        }
        return None;
    };
    if !udp {
        let what = "works over UDP only; set server.udp to true, or leave it out";
        report.error(spot, what);
    }
    let alternate = SocketAddr::new(*value, or(&draft.port, DEFAULT_ALTERNATE_PORT));
    match four(listen, alternate, external) {
        Ok(four) => Some(four),
        Err(what) => {
            report.error(spot, what);
            None
        }
    }
}

fn four(
    listen: &[SocketAddr],
    alternate: SocketAddr,
    external: &[External],
) -> Result<NatDiscovery, String> {
    let primary = primary(listen, alternate.ip())?;
    if primary.port() == 0 {
        return Err(format!(
            "{primary} in server.listen names no port; write one"
        ));
    }
    let four = NatDiscovery::new(primary, alternate).ok_or_else(|| {
        format!("{primary} has the alternate port already; set alternate_port to another")
    })?;
    let four = four.seen_as(|local| External::public_of(local, external));
    if !four.is_distinct() {
        let (a, b) = (primary.ip(), alternate.ip());
        return Err(format!(
            "relay.external shows {a} and {b} as one address; name both: external = [\"PUBLIC/{a}\", \"PUBLIC/{b}\"]"
        ));
    }
    Ok(four)
}

/// The first address to listen on that is one of this host's, of the family of `alternate`, and
/// another.
fn primary(listen: &[SocketAddr], alternate: IpAddr) -> Result<SocketAddr, String> {
    let family = Family::of(alternate);
    let of_family = |address: &&SocketAddr| Family::of(address.ip()) == family;
    let is_single = |address: &&SocketAddr| !address.ip().is_unspecified();
    let mut candidates = listen.iter().filter(of_family);
    let found = candidates
        .clone()
        .find(|address| is_single(address) && address.ip() != alternate);
    found.copied().ok_or_else(|| {
        let (name, example) = match family {
            Family::V4 => ("IPv4", "ADDRESS:3478"),
            Family::V6 => ("IPv6", "[ADDRESS]:3478"),
        };
        let now = match candidates.any(|address| address.ip().is_unspecified()) {
            true => ", and clients reach all of them now",
            false => "",
        };
        format!(
            "needs another single {name} address in server.listen{now}; write: listen = [\"{example}\"]"
        )
    })
}
