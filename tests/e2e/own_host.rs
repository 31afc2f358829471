//! The server's own host, which no client reaches through it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::dialogue::Dialogue;
use super::families::dual_stack;
use super::namespace::Namespace;
use super::process::{LIMIT, until};
use super::server::Server;
use turn::proto::reqfamily::REQUESTED_FAMILY_IPV6;

/// Requirement S1: an address that the host gets while the server runs is the host's own, and so are the
/// listeners there.
#[test]
fn an_address_that_comes_later_is_the_hosts_own() {
    let test = "an_address_that_comes_later_is_the_hosts_own";
    if Namespace::unavailable(test) {
        return;
    }
    let host = Arc::new(Namespace::new());
    let server = Server::on(&host, &["0.0.0.0"], &[]);
    let address = server.address_at("127.0.0.1");
    let public = SocketAddr::from(([9, 9, 9, 9], address.port()));
    let permit = || {
        host.inside(|| {
            let mut client = Dialogue::udp(address);
            client.allocate(None).unwrap();
            let permitted = client.permit(public);
            client.delete().unwrap();
            permitted
        })
    };
    assert_eq!(permit(), Ok(()));
    host.ip("address add 9.9.9.9/32 dev lo");
    assert!(until(LIMIT, || permit() == Err(403)), "{}", server.log());
    host.ip("address del 9.9.9.9/32 dev lo");
    assert!(until(LIMIT, || permit() == Ok(())), "{}", server.log());
    server.stop();
}

/// Requirement S1: not by another spelling either, when rules allow the address and the spelling.
#[test]
fn no_spelling_of_a_listener_is_reached() {
    let server = dual_stack(&[
        "--allow-peer",
        "127.0.0.1",
        "--allow-peer",
        "::ffff:0:0/96",
        "--allow-peer",
        "64:ff9b:1::/48",
    ]);
    let mut client = Dialogue::udp(server.address_at("::1"));
    client.allocate(Some(REQUESTED_FAMILY_IPV6)).unwrap();
    let port = server.address().port();
    for prefix in ["::ffff:", "64:ff9b::", "64:ff9b:1::"] {
        let at = |port: u16| format!("[{prefix}127.0.0.1]:{port}").parse().unwrap();
        client.permit(at(port)).unwrap();
        assert!(client.bind(0x4000, at(port)).is_err(), "{prefix}");
    }
    let refused = |metrics: &super::metrics::Metrics| {
        metrics.with("turnstone_refused_peers_total", "own_listener")
    };
    let metrics = server.metrics_when(|metrics| refused(metrics) >= 3.0);
    assert_eq!(refused(&metrics), 3.0);
    server.stop();
}
