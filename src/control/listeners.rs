//! The sockets that clients reach the server by.

use std::net::SocketAddr;

use tracing::{info, warn};

use crate::config::Config;
use crate::net::{
    self, BindCause, BindError, BindOptions, BoundGroup, BufferShortfall, Inherited,
    ListenerSockets,
};

/// What is bound for clients.
pub(super) struct Bound {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
    /// Of each shard.
    pub(super) sockets: Vec<ListenerSockets>,
}

/// Binds what `config` asks for, as far as another process does not hand it over.
pub(super) fn bind_clients(config: &Config, inherited: &mut Inherited) -> Result<Bound, BindError> {
    let plain = BindOptions {
        udp: config.udp,
        tcp: config.tcp,
        receive_buffer: config.buffers.listener,
        send_buffer: config.buffers.listener,
    };
    let over_tls = BindOptions {
        udp: false,
        tcp: true,
        ..plain
    };
    let shards = config.workers.get().into();
    let mut group = bind(config.endpoints(), shards, &plain, inherited)?;
    let is_shared = |address: &SocketAddr| config.tcp && group.addresses.contains(address);
    let (shared, apart): (Vec<_>, Vec<_>) = config.tls.listen.iter().copied().partition(is_shared);
    let mut tls = bind(apart, shards, &over_tls, inherited)?;
    for (sockets, of_tls) in group.shards.iter_mut().zip(tls.shards) {
        sockets.tls = of_tls.tcp;
        sockets.share(&shared);
    }
    tls.addresses.extend(shared);
    if config.tls.dtls {
        let over_dtls = BindOptions {
            udp: true,
            tcp: false,
            ..plain
        };
        let listen = beside(&tls.addresses, &group.addresses, config.udp);
        let dtls = bind(listen, shards, &over_dtls, inherited)?;
        for (sockets, of_dtls) in group.shards.iter_mut().zip(dtls.shards) {
            sockets.dtls = of_dtls.udp;
        }
    }
    Ok(Bound {
        listen: group.addresses,
        tls: tls.addresses,
        sockets: group.shards,
    })
}

/// Where DTLS needs sockets of its own: not where there are those of plain UDP, which serve it too.
fn beside(listen: &[SocketAddr], plain: &[SocketAddr], udp: bool) -> Vec<SocketAddr> {
    let covers = |plain: &SocketAddr, one: &SocketAddr| {
        let any = SocketAddr::new(plain.ip(), one.port());
        plain == one
            || plain == &any && plain.ip().is_unspecified() && plain.is_ipv4() == one.is_ipv4()
    };
    let is_served = |one: &SocketAddr| udp && plain.iter().any(|plain| covers(plain, one));
    let alone = listen.iter().filter(|one| !is_served(one));
    alone.copied().collect()
}

/// Binds `listen` for so many shards. All IPv6 addresses are none on a host without IPv6.
fn bind(
    mut listen: Vec<SocketAddr>,
    shards: usize,
    options: &BindOptions,
    inherited: &mut Inherited,
) -> Result<BoundGroup, BindError> {
    loop {
        match net::bind_group_beside(&listen, shards, options, inherited) {
            Err(error) if is_dispensable(&error, &listen) => {
                info!("this host has no IPv6: not listening on {}", error.address);
                listen.retain(|address| *address != error.address);
            }
            bound => return bound.inspect(|group| warn_of_shortfalls(&group.warnings)),
        }
    }
}

fn is_dispensable(error: &BindError, listen: &[SocketAddr]) -> bool {
    matches!(error.cause, BindCause::NoFamily)
        && error.address.ip().is_unspecified()
        && listen.contains(&error.address)
        && listen.iter().any(|address| *address != error.address)
}

/// Warns of buffers that the kernel made smaller than was asked for.
pub(super) fn warn_of_shortfalls(shortfalls: &[BufferShortfall]) {
    for shortfall in shortfalls {
        warn!("{shortfall}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    #[test]
    fn dtls_has_no_second_socket_where_plain_udp_is_served() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            let parse = |text: &&str| text.parse().expect("address");
            texts.iter().map(parse).collect()
        };
        let listen = addresses(&["0.0.0.0:5349", "127.0.0.1:3478", "[::1]:3478", "[::]:443"]);
        let plain = addresses(&["0.0.0.0:3478", "[::]:443", "127.0.0.1:5349"]);
        assert_eq!(beside(&listen, &plain, false), listen);
        let left = addresses(&["0.0.0.0:5349", "[::1]:3478"]);
        assert_eq!(beside(&listen, &plain, true), left);
    }

    #[test]
    fn only_all_ipv6_addresses_are_dispensable() {
        let listen = ["0.0.0.0:3478", "[::]:3478", "[::1]:3478"];
        let listen = listen.map(|text| text.parse().expect("address"));
        let error = |address, cause| BindError {
            address,
            protocol: Protocol::Udp,
            cause,
        };
        assert!(is_dispensable(
            &error(listen[1], BindCause::NoFamily),
            &listen
        ));
        assert!(!is_dispensable(
            &error(listen[1], BindCause::NoFamily),
            &listen[1..2]
        ));
        assert!(!is_dispensable(
            &error(listen[2], BindCause::NoFamily),
            &listen
        ));
        assert!(!is_dispensable(
            &error(listen[1], BindCause::InUse),
            &listen
        ));
    }
}
