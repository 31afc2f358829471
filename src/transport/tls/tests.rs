//! Sessions with the TLS library's own client at the other end.

use std::io::{IoSlice, Read, Write};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::transport::Certificate;
use crate::turn::HandshakeFailure;

const NAME: &str = "turn.example.org";

/// A server with one certificate, and what a client must trust.
fn server() -> (TlsServer, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let pem = (certificate.pem(), key.serialize_pem());
    let certificate = Certificate::from_pem(pem.0.as_bytes(), pem.1.as_bytes()).unwrap();
    (TlsServer::new(&[certificate]).unwrap(), roots)
}

fn client(
    roots: RootCertStore,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config = config
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap()
}

/// Both ends, and the room of the server's shard.
struct Pair {
    client: ClientConnection,
    server: TlsSession,
    scratch: TlsScratch,
    room: Vec<u8>,
    /// The server reads at most so much at a time.
    step: usize,
    /// Plaintext that the server received.
    heard: Vec<u8>,
    last: Received,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion, alpn: &[&str]) -> Self {
        let (server, roots) = server();
        Self::over(&server, client(roots, version, alpn))
    }

    fn over(server: &TlsServer, client: ClientConnection) -> Self {
        Self {
            client,
            server: TlsSession::new(server).unwrap(),
            scratch: TlsScratch::default(),
            room: vec![0; TlsSession::LEAST_ROOM],
            step: usize::MAX,
            heard: Vec::new(),
            last: Received::default(),
        }
    }

    fn established(version: &'static SupportedProtocolVersion) -> Self {
        let mut pair = Self::new(version, &[]);
        pair.exchange();
        assert!(pair.server.is_established() && !pair.client.is_handshaking());
        pair
    }

    /// Carries bytes until neither has anything to say.
    fn exchange(&mut self) {
        loop {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
            self.give_server(&bytes);
            let answer = self.server.outgoing().to_vec();
            self.server.advance(answer.len());
            self.give_client(&answer);
            if bytes.is_empty() && answer.is_empty() {
                return;
            }
        }
    }

    fn give_server(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.last.failure.is_none() {
            let room = self.server.room(&mut self.room);
            let length = bytes.len().min(self.step).min(room.len());
            room[..length].copy_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            self.last = self.server.receive(&mut self.room, length);
            self.heard.extend(&self.room[..self.last.plaintext]);
        }
    }

    fn give_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            // What the client makes of an alert is not the matter here.
            let _ = self.client.process_new_packets();
        }
    }

    fn seal(&mut self, messages: &[&[u8]]) -> Option<(usize, Vec<u8>)> {
        let slices: Vec<_> = messages.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let sealed = self.server.seal(&slices, &mut self.scratch).unwrap()?;
        Some((sealed.plaintext, sealed.ciphertext.to_vec()))
    }

    fn client_hears(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        // It ends in WouldBlock.
        let _ = self.client.reader().read_to_end(&mut heard);
        heard
    }
}

#[test]
fn plaintext_arrives_whole_however_the_bytes_are_cut() {
    for version in [&TLS12, &TLS13] {
        for step in [1, 2, 7, 100, 5000, usize::MAX] {
            let mut pair = Pair::new(version, &["stun.turn"]);
            pair.step = step;
            pair.exchange();
            assert!(pair.server.is_established(), "step {step}");
            let mut sent = Vec::new();
            for length in [1, 20, 1200, 16_384, 40_000] {
                let message = vec![u8::try_from(length % 251).unwrap(); length];
                pair.client.writer().write_all(&message).unwrap();
                sent.extend(message);
                pair.exchange();
            }
            assert!(pair.heard == sent, "step {step}");
        }
    }
}

#[test]
fn each_message_is_a_record_and_several_go_at_once() {
    let mut pair = Pair::established(&TLS13);
    let long = vec![9; crate::transport::LARGEST_FRAME];
    let messages: [&[u8]; 5] = [b"one", b"", b"three", &[3; 16_000], &long];
    let (plaintext, mut records) = pair.seal(&messages).unwrap();
    assert_eq!(plaintext, 8 + 16_000);
    for message in messages
        .into_iter()
        .take(4)
        .filter(|bytes| !bytes.is_empty())
    {
        let length = u16::from_be_bytes([records[3], records[4]]);
        let rest = records.split_off(5 + usize::from(length));
        pair.give_client(&records);
        assert_eq!(pair.client_hears(), message);
        records = rest;
    }
    assert!(records.is_empty());
    let (plaintext, records) = pair.seal(&[&long, b"more"]).unwrap();
    assert_eq!(plaintext, long.len());
    let mut heard = Vec::new();
    // The client holds no more than it likes.
    for piece in records.chunks(10_000) {
        pair.give_client(piece);
        heard.extend(pair.client_hears());
    }
    assert!(heard == long);
}

#[test]
fn what_found_no_room_goes_before_the_next_record() {
    let mut pair = Pair::established(&TLS13);
    let (_, record) = pair.seal(&[b"first"]).unwrap();
    pair.server.keep(&record[3..]);
    assert_eq!(pair.seal(&[b"second"]), None);
    let rest = pair.server.outgoing().to_vec();
    pair.server.advance(rest.len());
    let (_, second) = pair.seal(&[b"second"]).unwrap();
    pair.give_client(&[&record[..3], &rest, &second].concat());
    assert_eq!(pair.client_hears(), b"firstsecond");
}

/// The key update that a client asks for goes before the record of the new key.
#[test]
fn a_key_update_is_answered_in_order() {
    let mut pair = Pair::established(&TLS13);
    for i in 0..5_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"mine").unwrap();
        let mut bytes = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut bytes).unwrap();
        }
        pair.give_server(&bytes);
        let (_, record) = pair.seal(&[&[i; 3]]).unwrap();
        let outgoing = pair.server.outgoing().to_vec();
        pair.server.advance(outgoing.len());
        pair.give_client(&[outgoing, record].concat());
        assert_eq!(pair.client_hears(), [i; 3]);
    }
    assert_eq!(pair.heard, b"mine".repeat(5));
}

/// A message of the handshake protocol that came in part is remembered while something is sent.
#[test]
fn sending_amid_half_a_record_is_no_harm() {
    let mut pair = Pair::established(&TLS13);
    for cut in 1..20 {
        pair.client.refresh_traffic_keys().unwrap();
        let mut bytes = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut bytes).unwrap();
        }
        pair.give_server(&bytes[..cut]);
        let (_, record) = pair.seal(&[b"meanwhile"]).unwrap();
        pair.give_client(&record);
        assert_eq!(pair.client_hears(), b"meanwhile");
        pair.give_server(&bytes[cut..]);
        assert_eq!(pair.last.failure, None);
    }
}

#[test]
fn each_end_says_goodbye() {
    let mut pair = Pair::established(&TLS13);
    pair.client.writer().write_all(b"last words").unwrap();
    pair.client.send_close_notify();
    pair.exchange();
    assert!(pair.last.ended && pair.last.failure.is_none());
    assert_eq!(pair.heard, b"last words");
    pair.server.close();
    pair.exchange();
    let end = pair.client.reader().read(&mut [0; 8]);
    assert_eq!(end.unwrap(), 0, "close_notify, and no error");
}

#[test]
fn the_established_moment_is_told_once() {
    let mut pair = Pair::new(&TLS13, &[]);
    let mut times = 0;
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut bytes).unwrap();
        }
        for byte in bytes {
            pair.give_server(&[byte]);
            times += usize::from(pair.last.established);
        }
        let answer = pair.server.outgoing().to_vec();
        pair.server.advance(answer.len());
        pair.give_client(&answer);
    }
    assert_eq!(times, 1);
}

fn failure(pair: &Pair) -> Option<HandshakeFailure> {
    match pair.last.failure? {
        TlsFailure::Handshake(failure) => Some(failure),
        TlsFailure::Session => None,
    }
}

#[test]
fn a_foreign_protocol_is_refused_with_its_alert() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::new(version, &["h2", "http/1.1"]);
        pair.exchange();
        assert_eq!(failure(&pair), Some(HandshakeFailure::Alpn));
        let alert = pair.client.process_new_packets().unwrap_err();
        let expected = rustls::AlertDescription::NoApplicationProtocol;
        assert_eq!(alert, rustls::Error::AlertReceived(expected));
        for ours in ["stun.turn", "stun.nat-discovery"] {
            let mut pair = Pair::new(version, &["h2", ours]);
            pair.exchange();
            assert_eq!(pair.client.alpn_protocol(), Some(ours.as_bytes()));
        }
    }
}

#[test]
fn what_is_not_tls_is_told_apart() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42],
    ] {
        let mut pair = Pair::new(&TLS13, &[]);
        pair.give_server(bytes);
        assert_eq!(failure(&pair), Some(HandshakeFailure::NotTls));
    }
}

#[test]
fn a_broken_record_ends_the_session() {
    let mut pair = Pair::established(&TLS13);
    pair.client.writer().write_all(b"whole").unwrap();
    let mut bytes = Vec::new();
    pair.client.write_tls(&mut bytes).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    pair.give_server(&bytes);
    assert_eq!(pair.last.failure, Some(TlsFailure::Session));
    assert!(!pair.server.outgoing().is_empty(), "an alert");
}

#[test]
fn an_endless_handshake_message_is_bounded() {
    let mut pair = Pair::new(&TLS13, &[]);
    // A ClientHello of 60 000 bytes, in records of a thousand.
    let mut message = vec![1, 0, 0xEA, 0x60];
    message.resize(40_000, 0);
    for piece in message.chunks(1000) {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        pair.give_server(&[&[22, 3, 1], &length[..], piece].concat());
        if pair.last.failure.is_some() {
            return;
        }
    }
    panic!("it was all kept");
}

/// Requirement S11: whatever comes, and however it is cut, the session ends or goes on.
#[test]
fn hostile_bytes_end_in_a_failure_or_in_nothing() {
    let mut state = 1_u64;
    let mut below = move |limit: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % limit
    };
    let (server, roots) = server();
    for round in 0..500 {
        let version = [&TLS12, &TLS13][round % 2];
        let mut pair = Pair::over(&server, client(roots.clone(), version, &[]));
        if round % 4 < 2 {
            pair.exchange();
            pair.client.writer().write_all(&[7; 300]).unwrap();
        }
        let mut bytes = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut bytes).unwrap();
        }
        for _ in 0..below(4) {
            let at = below(bytes.len());
            match below(3) {
                0 => bytes[at] = bytes[at].wrapping_add(1),
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at + 1),
            }
        }
        pair.step = 1 + below(400);
        pair.give_server(&bytes);
        let sealed = pair
            .server
            .seal(&[IoSlice::new(b"data")], &mut pair.scratch);
        assert!(sealed.is_ok() || pair.last.failure.is_some());
        pair.server.close();
    }
}
