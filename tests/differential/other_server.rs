//! Two servers that answer to the same words: ours in its world, and `turn-server-proto`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use turn_server_proto::api::{TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::stun::agent::Transmit;
use turn_types::{Instant, TransportType};
use turnstone::stun::{Class, Kind, Message, TransactionId, classify};

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

pub(crate) struct Ours {
    world: World,
    relays: BTreeMap<SocketAddr, SocketAddr>,
}

impl Ours {
    pub(crate) fn new() -> Self {
        let relays = BTreeMap::new();
        let mut policy = policy();
        policy.lifetimes.nonce = NONCE;
        Self {
            world: World::new(policy),
            relays,
        }
    }
}

impl TurnParty for Ours {
    fn client_sends(&mut self, client: SocketAddr, packet: &[u8]) -> (Outcome, Option<Response>) {
        match self.world.send(udp(&client.to_string()), packet) {
            Out::ToPeer { peer, payload, .. } => (Outcome::ToPeer(peer, payload), None),
            Out::ToClient { message, .. } => {
                let (outcome, response) = read(message);
                let relayed = turnstone::stun::AttributeType::XOR_RELAYED_ADDRESS;
                let relay = response
                    .as_ref()
                    .and_then(|response| response.xor_address(relayed));
                self.relays.extend(relay.map(|relay| (client, relay)));
                (outcome, response)
            }
            Out::Nothing => (Outcome::Nothing, None),
        }
    }

    fn peer_sends(&mut self, client: SocketAddr, peer: SocketAddr, data: &[u8]) -> Outcome {
        let relay = self
            .relays
            .get(&client)
            .filter(|relay| self.world.relays.contains_key(relay));
        let Some(relay) = relay.copied() else {
            return Outcome::Nothing;
        };
        match self.world.peer_sends(relay, peer, data) {
            Out::ToClient { message, .. } => read(message).0,
            Out::ToPeer { .. } | Out::Nothing => Outcome::Nothing,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.pass(time);
    }
}

pub(crate) struct Theirs {
    server: TurnServer,
    now: Instant,
    relays: BTreeMap<SocketAddr, SocketAddr>,
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
            relays: BTreeMap::new(),
            ports: 50_000,
        }
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
                turn_types::AddressFamily::IPV4 => "192.0.2.10",
                turn_types::AddressFamily::IPV6 => "2001:db8::10",
            };
            let relay = SocketAddr::new(ip.parse().unwrap(), self.ports);
            self.relays.insert(client_addr, relay);
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
        let Some(relay) = self.relays.get(&client).copied() else {
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
}

/// A transaction id that is the same for both servers.
pub(crate) fn transaction(number: u64) -> TransactionId {
    let mut id = [0; 12];
    id[4..].copy_from_slice(&number.to_be_bytes());
    TransactionId(id)
}
