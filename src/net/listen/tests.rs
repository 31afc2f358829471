//! Tests of the listening sockets.

use super::*;
use crate::net::error::BindCause;

fn group(listen: &[&str], shards: usize) -> Result<BoundGroup, BindError> {
    let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
    bind_group(&listen, shards, &BindOptions::default())
}

#[test]
fn port_zero_is_one_port_for_both_protocols_and_all_shards() -> Result<(), BindError> {
    let bound = group(&["127.0.0.1:0", "[::1]:0"], 3)?;
    assert_eq!(bound.shards.len(), 3);
    for shard in &bound.shards {
        for (i, address) in bound.addresses.iter().enumerate() {
            assert_ne!(address.port(), 0);
            assert_eq!(shard.udp[i].address(), *address);
            assert_eq!(shard.udp[i].socket.local_addr().ok(), Some(*address));
            assert_eq!(shard.tcp[i].socket.local_addr().ok(), Some(*address));
        }
    }
    Ok(())
}

#[test]
fn a_group_is_not_joined_from_outside() -> Result<(), BindError> {
    for shards in [1, 2] {
        // Where no other test takes the port meanwhile.
        let first = group(&["127.0.0.5:0"], shards)?;
        let text = first.addresses[0].to_string();
        let error = group(&[&text], 2).expect_err("the port is taken");
        assert!(matches!(error.cause, BindCause::InUse));
        drop(first);
        group(&[&text], 2)?;
    }
    Ok(())
}

#[test]
fn a_taken_tcp_port_is_named() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let text = taken.local_addr().unwrap().to_string();
    let error = group(&[&text], 1).expect_err("the port is taken");
    assert_eq!(error.protocol, Protocol::Tcp);
    assert!(error.to_string().contains("ss -lntp"));
}

#[test]
fn a_foreign_address_is_named() {
    let error = group(&["192.0.2.1:3478"], 1).expect_err("not ours");
    assert!(matches!(error.cause, BindCause::NotLocal));
}

#[test]
fn an_address_is_bound_once_and_beside_the_wildcard() -> Result<(), BindError> {
    let at_both = |shards| {
        let port = group(&["127.0.0.1:0"], 1)?.addresses[0].port();
        let [any, one] = [format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}")];
        group(&[&any, &one, &one], shards)
    };
    for shards in [1, 2] {
        // Some other socket of the host may have the port on another address.
        let free = (0..50).map(|_| at_both(shards)).find(Result::is_ok);
        let bound = free.unwrap_or_else(|| at_both(shards))?;
        assert_eq!(bound.addresses.len(), 2);
    }
    Ok(())
}

#[test]
fn only_a_wildcard_reports_and_names_local_addresses() -> Result<(), BindError> {
    let bound = group(&["0.0.0.0:0", "127.0.0.1:0"], 1)?;
    let [any, one] = &bound.shards[0].udp[..] else {
        panic!("two listeners");
    };
    let ip: IpAddr = "127.0.0.2".parse().unwrap();
    assert!(any.serves(SocketAddr::new(ip, any.address().port())));
    assert!(!any.serves(SocketAddr::new(ip, 1)));
    assert!(!one.serves(SocketAddr::new(ip, one.address().port())));
    assert_eq!((any.source(ip), one.source(ip)), (Some(ip), None));
    Ok(())
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_reached() -> io::Result<()> {
    for (any, home) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
        let bound = group(&[any], 1).map_err(io::Error::other)?;
        let listener = &bound.shards[0].udp[0];
        let reached = SocketAddr::new(home.parse().unwrap(), listener.address().port());
        let client = UdpSocket::bind(SocketAddr::new(reached.ip(), 0))?;
        client.connect(reached)?;
        client.send(b"ping")?;
        // Loopback may take its time.
        while listener.socket.peek(&mut [0]).is_err() {
            std::thread::yield_now();
        }

        let mut memory = [0; 64];
        let mut batch = ReceiveBatch::default();
        listener.receive(&mut batch, std::iter::once(&mut memory[..]))?;
        let received = batch.get(0).expect("one datagram");
        assert_eq!(received.to, Some(reached.ip()));
        let answer = Outgoing {
            to: received.from,
            head: &[],
            source: listener.source(reached.ip()),
            bytes: b"pong",
        };
        let one = std::iter::once(answer);
        listener.send(&mut SendBatch::default(), one, |_, error| panic!("{error}"));
        // A connected socket takes datagrams from that address only.
        assert_eq!(client.recv(&mut memory)?, 4);
    }
    Ok(())
}

#[test]
fn a_socket_that_serves_elsewhere_keeps_its_buffers() -> std::io::Result<()> {
    let larger = BindOptions {
        receive_buffer: 65_536,
        send_buffer: 65_536,
        ..BindOptions::default()
    };
    let smaller = BindOptions {
        receive_buffer: 16_384,
        send_buffer: 16_384,
        ..larger
    };
    let serves = UdpListener::bind("127.0.0.1:0".parse().unwrap(), false, &larger)?;
    let address = serves.socket.local_addr()?;
    let copy = serves.socket.try_clone()?.into();
    UdpListener::adopt(copy, address, &smaller)?;
    assert_eq!(serves.shortfalls(&larger).count(), 0);
    Ok(())
}
