//! Two servers that answer to the same words: ours in its world, and `turn-server-proto`'s.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turn_server_proto::api::{TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::stun::agent::Transmit;
use turn_types::{AddressFamily, Instant, TransportType};
use turnstone::stun::{
    AttributeType, Class, Kind, Message, PasswordAlgorithm, TransactionId, classify,
};
use turnstone::turn::{Family, Icmp, Policy, Security, StoredKey};

use crate::common::{Out, PASSWORD, REALM, Response, USER, World, address, policy, udp};

/// Longer than a dialogue: theirs gives a client the same nonce until it expires, ours a fresh one with
/// every challenge, so that they grow stale at different times.
const NONCE: Duration = Duration::from_secs(1_000_000);

/// What a packet led to, as both servers can tell it. Relayed addresses are named by their client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A response: its error code, or none for success.
    Answer(Option<u16>),
    /// Data for the peer.
    ToPeer(SocketAddr, Vec<u8>),
    /// An indication for the client, without its header: everybody chooses his own transaction id, and
    /// IPv4 addresses do not depend on it.
    Indication(Vec<u8>),
    /// ChannelData for the client.
    Channel(Vec<u8>),
    Nothing,
}

pub(crate) trait TurnParty {
    fn client_sends(&mut self, client: SocketAddr, packet: &[u8]) -> (Outcome, Option<Response>);
    fn peer_sends(&mut self, client: SocketAddr, peer: SocketAddr, data: &[u8]) -> Outcome;
    fn pass(&mut self, time: Duration);
    /// A datagram from the client's relayed address to `peer` meets `error`.
    fn meets_icmp(&mut self, client: SocketAddr, peer: SocketAddr, error: Icmp) -> Outcome;
}

/// What a message to the client amounts to.
fn read(message: Vec<u8>) -> (Outcome, Option<Response>) {
    if classify(&message) == Kind::ChannelData {
        return (Outcome::Channel(message), None);
    }
    if Message::parse(&message).unwrap().class() == Class::Indication {
        return (Outcome::Indication(message[20..].to_vec()), None);
    }
    let response = Response(message);
    (Outcome::Answer(response.code()), Some(response))
}

/// The relayed addresses of clients by family.
type Relays = BTreeMap<(SocketAddr, Family), SocketAddr>;

pub(crate) struct Ours {
    world: World,
    relays: Relays,
}

impl Ours {
    pub(crate) fn new() -> Self {
        Self::with(policy())
    }

    /// With everything that RFC 8489 adds.
    pub(crate) fn modern() -> Self {
        let mut policy = policy();
        let both = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
        policy.security = Security::new(&both, true);
        for (name, password) in [(USER, PASSWORD), ("bob", "builder")] {
            let key = StoredKey::derive(PasswordAlgorithm::Sha256, name, REALM, password);
            policy.credentials.add_user(name, key);
        }
        Self::with(policy)
    }

    fn with(mut policy: Policy) -> Self {
        policy.lifetimes.nonce = NONCE;
        Self {
            world: World::new(policy),
            relays: Relays::new(),
        }
    }

    /// The open relay socket of `client` that sends to `peer`.
    fn relay(&self, client: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        let relay = self.relays.get(&(client, Family::of(peer.ip())));
        let is_open = |relay: &&SocketAddr| self.world.relays.contains_key(relay);
        relay.filter(is_open).copied()
    }
}

/// The relayed addresses that a response names.
fn relayed(response: &Response) -> Vec<SocketAddr> {
    let message = response.message();
    let attributes = message.attributes();
    let relayed = attributes.filter(|a| a.kind == AttributeType::XOR_RELAYED_ADDRESS);
    relayed
        .filter_map(|attribute| message.xor_address(&attribute).ok())
        .collect()
}

impl TurnParty for Ours {
    fn client_sends(&mut self, client: SocketAddr, packet: &[u8]) -> (Outcome, Option<Response>) {
        match self.world.send(udp(&client.to_string()), packet) {
            Out::ToPeer { peer, payload, .. } => (Outcome::ToPeer(peer, payload), None),
            Out::ToClient { message, .. } => {
                let (outcome, response) = read(message);
                for relay in response.iter().flat_map(relayed) {
                    let family = Family::of(relay.ip());
                    self.relays.insert((client, family), relay);
                }
                (outcome, response)
            }
            Out::ToRelay { .. } | Out::Nothing => (Outcome::Nothing, None),
        }
    }

    fn peer_sends(&mut self, client: SocketAddr, peer: SocketAddr, data: &[u8]) -> Outcome {
        let Some(relay) = self.relay(client, peer) else {
            return Outcome::Nothing;
        };
        match self.world.peer_sends(relay, peer, data) {
            Out::ToClient { message, .. } => read(message).0,
            Out::ToPeer { .. } | Out::ToRelay { .. } | Out::Nothing => Outcome::Nothing,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.pass(time);
    }

    fn meets_icmp(&mut self, client: SocketAddr, peer: SocketAddr, error: Icmp) -> Outcome {
        match self.relay(client, peer) {
            Some(relay) => match self.world.meets_icmp(relay, peer, error) {
                Out::ToClient { message, .. } => read(message).0,
                Out::ToPeer { .. } | Out::ToRelay { .. } | Out::Nothing => Outcome::Nothing,
            },
            None => Outcome::Nothing,
        }
    }
}

pub(crate) struct Theirs {
    server: TurnServer,
    now: Instant,
    relays: Relays,
    ports: u16,
}

impl Theirs {
    pub(crate) fn new() -> Self {
        let listen = address("192.0.2.10:3478");
        let mut server = TurnServer::new(TransportType::Udp, listen, REALM.into());
        server.add_user(USER.into(), PASSWORD.into());
        server.add_user("bob".into(), "builder".into());
        server.set_nonce_expiry_duration(NONCE);
        Self {
            server,
            now: Instant::ZERO,
            relays: Relays::new(),
            ports: 50_000,
        }
    }

    /// It offers everything that RFC 8489 adds anyway.
    pub(crate) fn modern() -> Self {
        Self::new()
    }

    /// Opens the sockets that the server asks for; the response that follows.
    fn open_sockets(&mut self) -> Option<Vec<u8>> {
        while let TurnServerPollRet::AllocateSocket {
            transport,
            listen_addr,
            client_addr,
            allocation_transport,
            family,
        } = self.server.poll(self.now)
        {
            self.ports += 1;
            let ip = match family {
                AddressFamily::IPV4 => "192.0.2.10",
                AddressFamily::IPV6 => "2001:db8::10",
            };
            let relay = SocketAddr::new(ip.parse().unwrap(), self.ports);
            let key = (client_addr, Family::of(relay.ip()));
            self.relays.insert(key, relay);
            let now = self.now;
            self.server.allocated_socket(
                transport,
                listen_addr,
                client_addr,
                allocation_transport,
                family,
                Ok(relay),
                now,
            );
        }
        self.server
            .poll_transmit(self.now)
            .map(|transmit| transmit.data)
    }

    fn receive(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
    ) -> Option<Transmit<Vec<u8>>> {
        let transmit = Transmit::new(data.to_vec(), TransportType::Udp, from, to);
        self.server
            .recv(transmit, self.now)
            .map(turn_types::transmit::TransmitBuild::build)
    }
}

impl TurnParty for Theirs {
    fn client_sends(&mut self, client: SocketAddr, packet: &[u8]) -> (Outcome, Option<Response>) {
        let listen = self.server.listen_address();
        match self.receive(client, listen, packet) {
            // Theirs hands a Binding response back with the two ends exchanged.
            Some(transmit) if transmit.to == client || transmit.to == listen => read(transmit.data),
            Some(transmit) => (Outcome::ToPeer(transmit.to, transmit.data), None),
            None => match self.open_sockets() {
                Some(message) => read(message),
                None => (Outcome::Nothing, None),
            },
        }
    }

    fn peer_sends(&mut self, client: SocketAddr, peer: SocketAddr, data: &[u8]) -> Outcome {
        let key = (client, Family::of(peer.ip()));
        let Some(relay) = self.relays.get(&key).copied() else {
            return Outcome::Nothing;
        };
        match self.receive(peer, relay, data) {
            Some(transmit) => read(transmit.data).0,
            None => Outcome::Nothing,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        assert_eq!(self.open_sockets(), None, "a response out of nowhere");
    }

    fn meets_icmp(&mut self, client: SocketAddr, peer: SocketAddr, error: Icmp) -> Outcome {
        let key = (client, Family::of(peer.ip()));
        let Some(relay) = self.relays.get(&key).copied() else {
            return Outcome::Nothing;
        };
        let (family, packet) = icmp_packet(relay, peer, error);
        match self.server.recv_icmp(family, packet, self.now) {
            Some(transmit) => read(transmit.data).0,
            None => Outcome::Nothing,
        }
    }
}

/// The ICMP message about a datagram from `relay` to `peer`, checksums left out.
fn icmp_packet(relay: SocketAddr, peer: SocketAddr, error: Icmp) -> (AddressFamily, Vec<u8>) {
    let mut packet = vec![error.kind, error.code, 0, 0];
    packet.extend_from_slice(&error.mtu.to_be_bytes());
    let family = match (relay.ip(), peer.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
            packet.extend_from_slice(&[from.octets(), to.octets()].concat());
            AddressFamily::IPV4
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 64]);
            packet.extend_from_slice(&[from.octets(), to.octets()].concat());
            AddressFamily::IPV6
        }
        _ => panic!("a relay does not send to the other family"),
    };
    let udp = [relay.port(), peer.port(), 8, 0];
    packet.extend(udp.iter().flat_map(|field| field.to_be_bytes()));
    (family, packet)
}

/// A transaction id that is the same for both servers.
pub(crate) fn transaction(number: u64) -> TransactionId {
    let mut id = [0; 12];
    id[4..].copy_from_slice(&number.to_be_bytes());
    TransactionId(id)
}
