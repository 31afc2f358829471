//! A client, the sessions, and the network between them.

use std::sync::Arc;
use std::time::Duration;

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::time::Instant;
use crate::transport::dtls::{DtlsIdentity, DtlsLimits, DtlsOutput, DtlsSessions, Heard, Unsent};
use crate::turn::{ConnectionEnd, FiveTuple, HandshakeFailure, Transport};

/// A certificate and its key in DER form.
pub(super) fn certificate() -> (Vec<u8>, Vec<u8>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["turn.example.org".to_owned()]).expect("a certificate");
    (cert.der().to_vec(), signing_key.serialize_der())
}

pub(super) fn identity() -> Arc<DtlsIdentity> {
    let (certificate, key) = certificate();
    Arc::new(DtlsIdentity::new([&certificate[..]], &key).expect("a good key"))
}

pub(super) fn five_tuple(port: u16) -> FiveTuple {
    FiveTuple {
        transport: Transport::Dtls,
        client: ([192, 0, 2, 1], port).into(),
        server: ([198, 51, 100, 1], 3478).into(),
    }
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Dtls12,
    Dtls13,
    Both,
}

pub(super) const ALL: [Speaks; 3] = [Speaks::Dtls12, Speaks::Dtls13, Speaks::Both];

/// A client at a port.
pub(super) struct Client {
    pub(super) at: FiveTuple,
    dtls: Dtls,
    pub(super) connected: bool,
    pub(super) closed: bool,
    /// The server's certificate.
    pub(super) certificate: Vec<u8>,
    /// What it has heard.
    pub(super) heard: Vec<Vec<u8>>,
    /// What it has sent and nobody took yet.
    pub(super) sent: Vec<Vec<u8>>,
    /// When it wants to be woken.
    pub(super) timer: std::time::Instant,
}

impl Client {
    pub(super) fn new(port: u16, speaks: Speaks, world: &World) -> Self {
        let (certificate, private_key) = certificate();
        let own = DtlsCertificate {
            certificate,
            private_key,
        };
        let config = Arc::new(Config::builder().build().expect("a configuration"));
        let at = world.library_now();
        let mut dtls = match speaks {
            Speaks::Dtls12 => Dtls::new_12(config, own, at),
            Speaks::Dtls13 => Dtls::new_13(config, own, at),
            Speaks::Both => Dtls::new_auto(config, own, at),
        };
        dtls.set_active(true);
        let mut client = Self {
            at: five_tuple(port),
            dtls,
            connected: false,
            closed: false,
            certificate: Vec::new(),
            heard: Vec::new(),
            sent: Vec::new(),
            timer: at,
        };
        client.wake(world);
        client
    }

    pub(super) fn wake(&mut self, world: &World) {
        self.dtls
            .handle_timeout(world.library_now())
            .expect("patience");
        self.drain();
    }

    /// Hears a datagram; false when it has given up.
    pub(super) fn hear(&mut self, datagram: &[u8]) -> bool {
        let heard = self.dtls.handle_packet(datagram).is_ok();
        self.drain();
        heard
    }

    /// Looks at its timers, as it may have slept.
    pub(super) fn try_wake(&mut self, world: &World) -> Result<(), String> {
        let woken = self.dtls.handle_timeout(world.library_now());
        self.drain();
        woken.map_err(|error| error.to_string())
    }

    /// Hears a datagram after it has looked at its timers; what both make it say is sent together.
    pub(super) fn try_hear(&mut self, datagram: &[u8], world: &World) -> Result<(), String> {
        let woken = self.dtls.handle_timeout(world.library_now());
        let heard = woken.and_then(|()| self.dtls.handle_packet(datagram));
        self.drain();
        heard.map_err(|error| error.to_string())
    }

    pub(super) fn say(&mut self, message: &[u8]) {
        self.dtls.send_application_data(message).expect("a session");
        self.drain();
    }

    pub(super) fn close(&mut self) {
        self.dtls.close().expect("a session");
        self.drain();
    }

    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    fn drain(&mut self) {
        let mut room = vec![0; 70_000];
        loop {
            match self.dtls.poll_output(&mut room) {
                Output::Packet(bytes) => self.sent.push(bytes.to_vec()),
                Output::ApplicationData(bytes) => self.heard.push(bytes.to_vec()),
                Output::Connected => self.connected = true,
                Output::CloseNotify => self.closed = true,
                Output::PeerCert(bytes) => self.certificate = bytes.to_vec(),
                Output::Timeout(at) => {
                    self.timer = at;
                    return;
                }
                _ => {}
            }
        }
    }
}

/// An output of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Message(u16, Vec<u8>),
    Established(u16),
    Failed(u16, HandshakeFailure),
    Quiet(u16),
    Ended(u16, ConnectionEnd),
}

/// The sessions and what they have asked for.
pub(super) struct World {
    pub(super) sessions: DtlsSessions,
    pub(super) now: Instant,
    origin: std::time::Instant,
    /// Datagrams on their way to clients, by port.
    pub(super) sent: Vec<(u16, Vec<u8>)>,
    pub(super) told: Vec<Told>,
}

pub(super) const LIMITS: DtlsLimits = DtlsLimits {
    half_open: 100,
    sessions: 1000,
    sessions_per_source: 1000,
    idle_after: Duration::from_secs(60),
};

impl World {
    pub(super) fn new() -> Self {
        Self::with(LIMITS)
    }

    pub(super) fn with(limits: DtlsLimits) -> Self {
        let origin = std::time::Instant::now();
        Self {
            sessions: DtlsSessions::new(limits, Some(identity()), [7; 32], origin, Arc::default()),
            now: Instant::ZERO + Duration::from_secs(100),
            origin,
            sent: Vec::new(),
            told: Vec::new(),
        }
    }

    pub(super) fn library_now(&self) -> std::time::Instant {
        self.origin + Duration::from_nanos(self.now.as_nanos())
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.sessions.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn receive(&mut self, from: FiveTuple, datagram: &[u8]) -> Heard {
        let heard = self.sessions.receive(self.now, from, datagram);
        self.drain();
        heard
    }

    pub(super) fn send(&mut self, port: u16, message: &[u8]) -> Result<(), Unsent> {
        let sealed = self.sessions.seal(&five_tuple(port), message);
        let sealed = sealed.map(<[u8]>::to_vec);
        self.drain();
        sealed.map(|datagram| self.sent.push((port, datagram)))
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.sessions.poll() {
            match output {
                DtlsOutput::Send { to, bytes } => {
                    self.sent.push((to.client.port(), bytes.to_vec()));
                }
                DtlsOutput::Message { from, bytes } => self
                    .told
                    .push(Told::Message(from.client.port(), bytes.to_vec())),
                DtlsOutput::Established(who) => {
                    self.told.push(Told::Established(who.client.port()));
                }
                DtlsOutput::Failed(who, failure) => {
                    self.told.push(Told::Failed(who.client.port(), failure));
                }
                DtlsOutput::Quiet(who) => self.told.push(Told::Quiet(who.client.port())),
                DtlsOutput::Ended(who, end) => {
                    self.told.push(Told::Ended(who.client.port(), end));
                }
            }
        }
    }

    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        self.sent.drain(..).map(|(_, bytes)| bytes).collect()
    }

    pub(super) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Carries everything to and fro until nobody has anything to say.
    pub(super) fn settle(&mut self, client: &mut Client) {
        while !client.sent.is_empty() || !self.sent.is_empty() {
            for datagram in client.take_sent() {
                self.receive(client.at, &datagram);
            }
            for datagram in self.take_sent() {
                client.hear(&datagram);
            }
        }
    }

    /// A client with an established session.
    pub(super) fn connect(&mut self, port: u16, speaks: Speaks) -> Client {
        let mut client = Client::new(port, speaks, self);
        self.settle(&mut client);
        assert!(client.connected, "{speaks:?}");
        assert!(self.take_told().contains(&Told::Established(port)));
        client
    }

    /// The client's message arrives.
    pub(super) fn hears(&mut self, client: &mut Client, message: &[u8]) {
        client.say(message);
        for datagram in client.take_sent() {
            assert_eq!(self.receive(client.at, &datagram), Heard::Messages);
        }
        let told = self.take_told();
        assert_eq!(
            told,
            [Told::Message(client.at.client.port(), message.to_vec())]
        );
    }

    /// A message arrives at the client.
    pub(super) fn tells(&mut self, client: &mut Client, message: &[u8]) {
        let port = client.at.client.port();
        assert_eq!(self.send(port, message), Ok(()));
        for datagram in self.take_sent() {
            assert!(client.hear(&datagram));
        }
        assert_eq!(client.heard.pop().as_deref(), Some(message));
    }
}
