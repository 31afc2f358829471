use std::iter;
use std::net::UdpSocket;

use super::super::receiving::{ReceiveBatch, Received, take_in_trains, takes_in_trains};
use super::*;
use crate::net::linux::{force_buffer, report_local_address};
use crate::turn::Family;

fn outgoing(to: SocketAddr, bytes: &[u8]) -> Outgoing<'_> {
    Outgoing {
        to,
        source: None,
        head: &[],
        bytes,
    }
}

fn bind(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
    force_buffer(socket.as_fd(), true, 1 << 20).ok();
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    socket
}

/// A socket at `ip` that takes in trains.
fn bind_for_trains(ip: &str) -> UdpSocket {
    let socket = bind(ip);
    assert!(!takes_in_trains(&socket));
    take_in_trains(&socket).unwrap();
    assert!(takes_in_trains(&socket));
    socket
}

/// Sends `texts` to `to`, all of which go.
fn send(batch: &mut SendBatch, from: &UdpSocket, to: SocketAddr, texts: &[&[u8]]) {
    let messages = texts.iter().map(|text| outgoing(to, text));
    batch.send_from(from, messages, |i, error| panic!("{i}: {error}"));
}

/// The next message.
fn receive(socket: &UdpSocket, room: &mut [u8]) -> Received {
    socket.peek(&mut [0]).expect("a message");
    let mut batch = ReceiveBatch::default();
    let count = batch.receive(socket.as_fd(), iter::once(room), true);
    assert_eq!(count.unwrap(), 1);
    batch.get(0).expect("a message")
}

fn recv(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).expect("a datagram");
    buffer.truncate(length);
    buffer
}

#[test]
fn a_batch_arrives_in_order_with_its_addresses() -> io::Result<()> {
    let (receiver, sender) = (bind("127.0.0.1"), bind("127.0.0.1"));
    let to = receiver.local_addr()?;
    let texts: Vec<_> = (0..40_u8).map(|i| [i; 5]).collect();
    let messages = texts.iter().map(|text| outgoing(to, text));
    SendBatch::default().send_from(&sender, messages, |_, error| panic!("{error}"));

    let mut memory = vec![0; 64 * 100];
    let mut batch = ReceiveBatch::default();
    let mut seen = Vec::new();
    while seen.len() < 40 {
        // Loopback may take its time.
        receiver.peek(&mut [0])?;
        let count = batch.receive(receiver.as_fd(), memory.chunks_mut(100), false)?;
        for i in 0..count {
            let received = batch.get(i).expect("an address");
            assert_eq!(received.from, sender.local_addr()?);
            assert_eq!((received.length, received.to), (5, None));
            seen.push(memory[i * 100]);
        }
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    let none = batch.receive(receiver.as_fd(), memory.chunks_mut(100), false);
    assert_eq!(none.map_err(|e| e.kind()), Err(io::ErrorKind::WouldBlock));
    assert_eq!(batch.get(0), None);
    Ok(())
}

#[test]
fn a_refused_datagram_does_not_stop_those_behind_it() -> io::Result<()> {
    let (receiver, sender) = (bind("127.0.0.1"), bind("127.0.0.1"));
    let to = receiver.local_addr()?;
    let too_large = vec![0; 65_520];
    let texts: [&[u8]; 5] = [b"a", &too_large, b"b", b"c", &too_large];
    let mut failed = Vec::new();
    let messages = texts.iter().map(|text| outgoing(to, text));
    SendBatch::default().send_from(&sender, messages, |i, error| {
        failed.push((i, error.raw_os_error()));
    });
    let refused = Some(libc::EMSGSIZE);
    assert_eq!(failed, [(1, refused), (4, refused)]);
    for text in [b"a", b"b", b"c"] {
        let mut buffer = [0; 8];
        assert_eq!(receiver.recv(&mut buffer)?, 1);
        assert_eq!(&buffer[..1], text);
    }
    Ok(())
}

#[test]
fn an_error_left_by_an_earlier_datagram_loses_none() -> io::Result<()> {
    let closed = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(closed)?;
    sender.send(b"answered by ICMP")?;
    let mut failed = 0;
    let one = iter::once(outgoing(closed, b"x"));
    SendBatch::default().send_from(&sender, one, |_, _| failed += 1);
    assert_eq!(failed, 0);
    Ok(())
}
#[test]
fn datagrams_of_one_length_to_one_place_leave_as_one_message() {
    for ip in ["127.0.0.1", "::1"] {
        let (from, receiver) = (bind(ip), bind_for_trains(ip));
        let to = receiver.local_addr().unwrap();
        let texts: [&[u8]; 6] = [b"abc", b"def", b"ghi", b"j", b"klm", b"nop"];
        send(&mut SendBatch::default(), &from, to, &texts);
        let mut room = [0; 64];
        let first = receive(&receiver, &mut room);
        assert_eq!((first.length, first.segment), (10, 3));
        assert_eq!(first.from, from.local_addr().unwrap());
        let parts: Vec<_> = first.datagrams().map(|part| &room[part]).collect();
        assert_eq!(parts, texts[..4]);
        let second = receive(&receiver, &mut room);
        let parts: Vec<_> = second.datagrams().map(|part| &room[part]).collect();
        assert_eq!(parts, texts[4..]);
    }
}

#[test]
fn datagrams_of_any_length_arrive_as_they_were_and_in_order() {
    let lengths = [4, 4, 2, 4, 4, 0, 0, 5, 5, 5, 1, 1, 9, 0, 9, 9, 3, 3, 3, 7];
    let texts: Vec<Vec<u8>> = (1_u8..)
        .zip(lengths)
        .map(|(i, length)| vec![i; length])
        .collect();
    let receivers = [bind("127.0.0.1"), bind("127.0.0.1")];
    let to = receivers.each_ref().map(|one| one.local_addr().unwrap());
    let messages = texts.iter().flat_map(|text| {
        // Two of each to the one, one to the other.
        [
            outgoing(to[0], text),
            outgoing(to[0], text),
            outgoing(to[1], text),
        ]
    });
    let refused = |i, error| panic!("{i}: {error}");
    SendBatch::default().send_from(bind("127.0.0.1"), messages, refused);
    for text in &texts {
        assert_eq!(&recv(&receivers[0]), text);
        assert_eq!(&recv(&receivers[0]), text);
        assert_eq!(&recv(&receivers[1]), text);
    }
}

#[test]
fn a_head_that_lies_apart_is_sent_before_the_rest() {
    let (from, receiver) = (bind("127.0.0.1"), bind("127.0.0.1"));
    let to = receiver.local_addr().unwrap();
    let texts: [(&[u8], &[u8]); 5] = [
        (b"h1", b"abc"),
        (b"", b"defgh"),
        (b"h2", b"ijk"),
        (b"h3", b""),
        (b"h4", b"xyz"),
    ];
    let messages = texts.iter().map(|(head, bytes)| Outgoing {
        head,
        ..outgoing(to, bytes)
    });
    SendBatch::default().send_from(&from, messages, |i, error| panic!("{i}: {error}"));
    for (head, bytes) in texts {
        assert_eq!(recv(&receiver), [head, bytes].concat());
    }
}

#[test]
fn long_runs_become_several_trains() {
    let (from, receiver) = (bind("127.0.0.1"), bind_for_trains("127.0.0.1"));
    let to = receiver.local_addr().unwrap();
    for (length, expected) in [(10, [64, 64, 22]), (1200, [54, 54, 42])] {
        let texts: Vec<Vec<u8>> = (0..150_u8).map(|i| vec![i; length]).collect();
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        send(&mut SendBatch::default(), &from, to, &texts);
        let mut room = vec![0; 65_536];
        let mut rest = texts.iter();
        for count in expected {
            let train = receive(&receiver, &mut room);
            assert_eq!((train.datagrams().count(), train.count()), (count, count));
            let same = train
                .datagrams()
                .all(|part| rest.next() == Some(&&room[part]));
            assert!(same, "{length}");
        }
    }
}

#[test]
fn a_train_that_is_refused_goes_as_single_datagrams() {
    let (from, receiver) = (bind("::1"), bind_for_trains("::1"));
    let to = receiver.local_addr().unwrap();
    // What is longer goes in fragments, of which the kernel makes no trains.
    options::set(from.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU, 1280).unwrap();
    let mut batch = SendBatch::default();
    let mut room = vec![0; 65_536];
    let texts: Vec<Vec<u8>> = (1..)
        .zip([1300, 1300, 1250, 1301, 2, 1250, 1300])
        .map(|(i, length)| vec![i; length])
        .collect();
    for _ in 0..3 {
        let messages = texts.iter().map(|text| Outgoing {
            head: &text[..1],
            ..outgoing(to, &text[1..])
        });
        batch.send_from(&from, messages, |i, error| panic!("{i}: {error}"));
        for text in &texts {
            let received = receive(&receiver, &mut room);
            assert!(room[..received.length] == text[..]);
            assert_eq!(received.segment, text.len());
        }
        assert!(!batch.refusals.allow(to.ip(), 1300));
    }
    let short = [0; 1200];
    send(&mut batch, &from, to, &[&short, &short]);
    assert_eq!(receive(&receiver, &mut room).segment, 1200);
}

#[test]
fn single_datagrams_of_a_refused_train_leave_from_the_named_address() {
    let (from, receiver) = (bind("::"), bind_for_trains("::"));
    report_local_address(receiver.as_fd(), Family::V6).unwrap();
    let home = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
    let to = SocketAddr::new(home, receiver.local_addr().unwrap().port());
    options::set(from.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU, 1280).unwrap();
    let (long, short) = ([1; 1300], [2; 600]);
    let texts: [&[u8]; 5] = [&long, &long, &[3; 20], &short, &short];
    let messages = texts.iter().map(|text| Outgoing {
        source: Some(home),
        ..outgoing(to, text)
    });
    let mut batch = SendBatch::default();
    batch.send_from(&from, messages, |i, error| panic!("{i}: {error}"));
    let mut room = vec![0; 4096];
    let mut lengths = Vec::new();
    for _ in 0..4 {
        let received = receive(&receiver, &mut room);
        assert_eq!((received.from.ip(), received.to), (home, Some(home)));
        assert_eq!(received.count(), received.datagrams().count());
        lengths.push((received.length, received.segment));
    }
    assert_eq!(lengths, [(1300, 1300), (1300, 1300), (20, 20), (1200, 600)]);
    assert!(!batch.refusals.allow(home, 1300));
}

#[test]
fn a_train_to_port_zero_is_no_reason_to_send_none_to_the_host() {
    let (from, receiver) = (bind("127.0.0.1"), bind_for_trains("127.0.0.1"));
    let to = receiver.local_addr().unwrap();
    let mut batch = SendBatch::default();
    for _ in 0..100 {
        let messages = [b"x", b"y"].map(|text| outgoing(SocketAddr::new(to.ip(), 0), text));
        let mut failed = Vec::new();
        batch.send_from(&from, messages.into_iter(), |i, error| {
            failed.push((i, error.raw_os_error()));
        });
        assert_eq!(failed, [0, 1].map(|i| (i, Some(libc::EINVAL))));
    }
    send(&mut batch, &from, to, &[b"abc", b"def"]);
    let train = receive(&receiver, &mut [0; 64]);
    assert_eq!((train.length, train.segment), (6, 3));
}

#[test]
fn every_datagram_of_a_train_that_fails_is_told_of() {
    let (from, receiver) = (bind("127.0.0.1"), bind("127.0.0.1"));
    let to = receiver.local_addr().unwrap();
    let nobody = SocketAddr::from(([255; 4], 9));
    let places = [to, nobody, nobody, nobody, to, nobody];
    let messages = places.iter().map(|to| outgoing(*to, b"text"));
    let mut failed = Vec::new();
    let mut batch = SendBatch::default();
    batch.send_from(&from, messages, |i, error| {
        failed.push((i, error.raw_os_error()))
    });
    let refused = Some(libc::EACCES);
    assert_eq!(failed, [1, 2, 3, 5].map(|i| (i, refused)));
    assert_eq!([recv(&receiver), recv(&receiver)], [b"text", b"text"]);
    assert!(batch.refusals.allow(nobody.ip(), 4));
}

#[test]
fn a_train_leaves_from_and_arrives_at_the_named_address() {
    for (any, home, family) in [
        ("0.0.0.0", "127.0.0.2", Family::V4),
        ("::", "::1", Family::V6),
    ] {
        let home: IpAddr = home.parse().unwrap();
        let (from, receiver) = (bind(any), bind_for_trains(any));
        report_local_address(receiver.as_fd(), family).unwrap();
        let to = SocketAddr::new(home, receiver.local_addr().unwrap().port());
        let texts = [b"abc", b"def"];
        let messages = texts.iter().map(|text| Outgoing {
            source: Some(home),
            ..outgoing(to, *text)
        });
        SendBatch::default().send_from(&from, messages, |i, error| panic!("{i}: {error}"));
        let train = receive(&receiver, &mut [0; 64]);
        assert_eq!((train.length, train.segment), (6, 3));
        assert_eq!((train.from.ip(), train.to), (home, Some(home)));
    }
}

#[test]
fn of_a_train_that_is_cut_off_whole_datagrams_remain() {
    let (from, receiver) = (bind("127.0.0.1"), bind_for_trains("127.0.0.1"));
    let to = receiver.local_addr().unwrap();
    for (room, length) in [(12, 12), (11, 8), (10, 8), (8, 8), (5, 4), (4, 4)] {
        send(
            &mut SendBatch::default(),
            &from,
            to,
            &[b"abcd", b"efgh", b"ijkl"],
        );
        let train = receive(&receiver, &mut vec![0; room]);
        let cut = train.datagrams().map(|part| part.len()).sum::<usize>();
        assert_eq!((train.length, cut), (length, length), "{room}");
    }
    send(
        &mut SendBatch::default(),
        &from,
        to,
        &[b"abcd", b"efgh", b"ijkl"],
    );
    let mut batch = ReceiveBatch::default();
    let room = &mut [0; 3][..];
    receiver.peek(&mut [0]).unwrap();
    assert_eq!(
        batch.receive(receiver.as_fd(), iter::once(room), true).ok(),
        Some(1)
    );
    assert_eq!(batch.get(0), None);
}

#[test]
fn a_datagram_without_bytes_is_one() {
    let from = SocketAddr::from(([127, 0, 0, 1], 9));
    let empty = Received::single(0, from);
    assert_eq!(empty.count(), 1);
    assert_eq!(
        empty.datagrams().collect::<Vec<_>>(),
        iter::once(0..0).collect::<Vec<_>>()
    );
}
