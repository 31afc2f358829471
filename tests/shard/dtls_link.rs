//! DTLS on a UDP socket, by the library that the server uses too.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part")]

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// How long it waits for what must come; a machine may leave a thread alone for seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look at the socket takes at most.
const LOOK: Duration = Duration::from_millis(100);

/// What a client speaks.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    Dtls12,
    Dtls13,
}

/// A certificate and its key in DER form.
pub fn certificate() -> (Vec<u8>, Vec<u8>) {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let make = || {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        (cert.der().to_vec(), signing_key.serialize_der())
    };
    MADE.get_or_init(make).clone()
}

pub struct DtlsLink {
    pub socket: UdpSocket,
    dtls: Dtls,
    heard: VecDeque<Vec<u8>>,
    /// It has sent its second ClientHello.
    pub returned_cookie: bool,
    pub connected: bool,
    pub closed: bool,
    /// Why the handshake has failed.
    pub failure: Option<dimpl::Error>,
}

impl DtlsLink {
    /// An endpoint that has sent its first ClientHello.
    pub fn open(socket: UdpSocket, version: Version) -> Self {
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let (certificate, private_key) = certificate();
        let own = DtlsCertificate {
            certificate,
            private_key,
        };
        static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
        let config = Arc::clone(CONFIG.get_or_init(Arc::default));
        let mut dtls = match version {
            Version::Dtls12 => Dtls::new_12(config, own, Instant::now()),
            Version::Dtls13 => Dtls::new_13(config, own, Instant::now()),
        };
        dtls.set_active(true);
        dtls.handle_timeout(Instant::now()).expect("a beginning");
        let mut link = Self {
            socket,
            dtls,
            heard: VecDeque::new(),
            returned_cookie: false,
            connected: false,
            closed: false,
            failure: None,
        };
        link.drain();
        link
    }

    /// An endpoint that is connected to `server`.
    pub fn connect(server: SocketAddr, version: Version) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a port");
        socket.connect(server).expect("a route");
        let mut link = Self::open(socket, version);
        assert!(link.shake_hands(), "{version:?}: {:?}", link.failure);
        link
    }

    /// Waits for the end of the handshake.
    pub fn shake_hands(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.connected && self.failure.is_none() && Instant::now() < deadline {
            self.look();
        }
        self.connected
    }

    pub fn send(&mut self, message: &[u8]) {
        self.dtls.send_application_data(message).expect("a session");
        self.drain();
    }

    /// The next message; none when patience ends, or when the server has closed.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(message) = self.heard.pop_front() {
                return Some(message);
            }
            if self.closed || Instant::now() > deadline {
                return None;
            }
            self.look();
        }
    }

    pub fn close(&mut self) {
        self.dtls.close().expect("a session");
        self.drain();
    }

    /// Hears what comes within a moment, and answers it.
    pub fn look(&mut self) {
        let mut datagram = vec![0; 65_536];
        let length = self.socket.recv(&mut datagram);
        let timed = self.dtls.handle_timeout(Instant::now());
        let handled = match length {
            Ok(length) => timed.and_then(|()| self.dtls.handle_packet(&datagram[..length])),
            Err(_) => timed,
        };
        assert!(!self.connected || handled.is_ok(), "{handled:?}");
        self.failure = self.failure.take().or(handled.err());
        if self.failure.is_none() {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let mut room = vec![0; 65_536];
        loop {
            match self.dtls.poll_output(&mut room) {
                Output::Packet(bytes) => {
                    self.socket.send(bytes).expect("sent");
                    self.returned_cookie |= has_second_hello(bytes);
                }
                Output::ApplicationData(bytes) => self.heard.push_back(bytes.to_vec()),
                Output::Connected => self.connected = true,
                Output::CloseNotify => self.closed = true,
                Output::Timeout(_) => return,
                _ => {}
            }
        }
    }
}

/// Whether there is a ClientHello that is not the first among the records of a datagram in the clear (RFC 6347
/// §4.2.2: the message's number stands behind its type and length). A first that is repeated may be before it.
fn has_second_hello(mut datagram: &[u8]) -> bool {
    const HEADER: usize = 13;
    while let Some((header, rest)) = datagram.split_at_checked(HEADER) {
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let Some((message, behind)) = rest.split_at_checked(length) else {
            return false;
        };
        let is_clear = header[0] == 22 && header[3..5] == [0, 0];
        if is_clear && matches!(message, [1, _, _, _, high, low, ..] if (high, low) != (&0, &0)) {
            return true;
        }
        datagram = behind;
    }
    false
}
