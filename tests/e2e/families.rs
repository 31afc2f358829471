//! IPv4 and IPv6 in every combination of client and relay.

use std::net::{SocketAddr, UdpSocket};

use turn::proto::reqfamily::{
    REQUESTED_FAMILY_IPV4, REQUESTED_FAMILY_IPV6, RequestedAddressFamily,
};

use super::dialogue::{Dialogue, channel_data};
use super::process::{LIMIT, uninterrupted};
use super::server::Server;

const CHANNEL: u16 = 0x4001;

#[test]
fn ipv4_client_on_an_ipv4_relay() {
    converses("127.0.0.1", Some(REQUESTED_FAMILY_IPV4), "127.0.0.1");
}

#[test]
fn ipv4_client_on_an_ipv6_relay() {
    converses("127.0.0.1", Some(REQUESTED_FAMILY_IPV6), "::1");
}

#[test]
fn ipv6_client_on_an_ipv4_relay() {
    converses("::1", Some(REQUESTED_FAMILY_IPV4), "127.0.0.1");
}

#[test]
fn ipv6_client_on_an_ipv6_relay() {
    converses("::1", Some(REQUESTED_FAMILY_IPV6), "::1");
}

#[test]
fn ipv6_client_that_names_no_family_gets_ipv4() {
    converses("::1", None, "127.0.0.1");
}

/// Over UDP and TCP, a client that reaches the server at `here` talks with a peer at `there`, in
/// indications and on a channel.
fn converses(here: &str, family: Option<RequestedAddressFamily>, there: &str) {
    let server = dual_stack(&[]);
    let address = server.address_at(here);
    let peer = UdpSocket::bind((there, 0)).unwrap();
    for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
        let family = family
            .as_ref()
            .map(|family| RequestedAddressFamily(family.0));
        let relayed = client.allocate(family).unwrap();
        assert_eq!(relayed.ip().to_string(), there);
        talks(&mut client, CHANNEL, relayed, &peer);
    }
    server.stop();
}

/// The client exchanges data with `peer` in both directions, by both ways.
pub(crate) fn talks(client: &mut Dialogue, channel: u16, relayed: SocketAddr, peer: &UdpSocket) {
    let at = peer.local_addr().unwrap();
    client.permit(at).unwrap();
    client.indicate(b"hear, hear", at);
    assert_eq!(heard(peer), (b"hear, hear".to_vec(), relayed));
    peer.send_to(b"and back", relayed).unwrap();
    assert_eq!(client.indicated(), (b"and back".to_vec(), at));

    client.bind(channel, at).unwrap();
    client
        .send(&channel_data(channel, b"on a channel"))
        .unwrap();
    assert_eq!(heard(peer), (b"on a channel".to_vec(), relayed));
    peer.send_to(b"back on it", relayed).unwrap();
    let header_and_payload = &channel_data(channel, b"back on it")[..4 + 10];
    assert_eq!(client.receive().unwrap(), header_and_payload);
}

pub(crate) fn heard(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let mut buffer = [0; 2048];
    let (length, from) = uninterrupted(|| peer.recv_from(&mut buffer)).unwrap();
    (buffer[..length].to_vec(), from)
}

/// A server on both loopback addresses that relays from both, to loopback peers too.
pub(crate) fn dual_stack(more: &[&str]) -> Server {
    dual_stack_with("", more)
}

/// The same, with more in the section on relaying.
pub(crate) fn dual_stack_with(relay: &str, more: &[&str]) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dual-stack.toml");
    let text = format!(
        "[relay]\naddresses = [\"127.0.0.1\", \"::1\"]\ntcp = true\n{relay}\
         [peers]\nallow = [\"127.0.0.1\", \"::1\"]\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let arguments = [&["--config", &file], more].concat();
    Server::listening(&["127.0.0.1", "::1"], &arguments)
}
