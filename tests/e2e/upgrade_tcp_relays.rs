//! TCP allocations (RFC 6062) that stay with the old process, and the data connections that their clients make
//! to the new one.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use stun::attributes::{AttrType, RawAttribute};
use stun::message::{
    Getter as _, METHOD_ALLOCATE, METHOD_CONNECT, METHOD_CONNECTION_ATTEMPT,
    METHOD_CONNECTION_BIND, Message, Setter,
};
use turn::proto::relayaddr::RelayedAddress;
use turn::proto::reqtrans::RequestedTransport;

use super::certificates::{Issuer, Kind};
use super::dialogue::{Dialogue, peer_address};
use super::server::free_port;
use super::succession::{LOOPBACK, Succession, ends};

const LIMIT: Duration = Duration::from_secs(30);
const CONNECTION_ID: AttrType = AttrType(0x002A);

/// A client with a TCP allocation.
struct Scene {
    control: Dialogue,
    relayed: SocketAddr,
}

impl Scene {
    fn of(mut control: Dialogue) -> Self {
        let transport = RequestedTransport {
            protocol: turn::proto::PROTO_TCP,
        };
        let response = control
            .request(METHOD_ALLOCATE, &[Box::new(transport)])
            .unwrap();
        let mut relayed = RelayedAddress::default();
        relayed.get_from(&response).unwrap();
        Self {
            control,
            relayed: SocketAddr::new(relayed.ip, relayed.port),
        }
    }

    /// The client connects to a peer: the id and the peer's end.
    fn connect(&mut self) -> (Vec<u8>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = peer_address(listener.local_addr().unwrap());
        let response = self.control.request(METHOD_CONNECT, &[Box::new(peer)]);
        let (stream, from) = listener.accept().unwrap();
        assert_eq!(from, self.relayed);
        (id(&response.unwrap()), patient(stream))
    }

    /// A peer connects to the relayed address, likewise.
    fn arrive(&mut self) -> (Vec<u8>, TcpStream) {
        self.control
            .permit((Ipv4Addr::LOCALHOST, 9).into())
            .unwrap();
        let stream = TcpStream::connect(self.relayed).unwrap();
        let mut attempt = Message::new();
        attempt.raw = self.control.receive().unwrap();
        attempt.decode().unwrap();
        assert_eq!(attempt.typ.method, METHOD_CONNECTION_ATTEMPT);
        (id(&attempt), patient(stream))
    }
}

fn id(message: &Message) -> Vec<u8> {
    message.get(CONNECTION_ID).unwrap()
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// The error code, unless `data` is bound.
fn bind(data: &mut Dialogue, id: &[u8]) -> Result<(), u16> {
    let attribute = RawAttribute {
        typ: CONNECTION_ID,
        length: 4,
        value: id.to_vec(),
    };
    let attributes: [Box<dyn Setter>; 1] = [Box::new(attribute)];
    data.request(METHOD_CONNECTION_BIND, &attributes).map(drop)
}

/// Both hear each other on connections that are joined.
#[track_caller]
fn speak(data: &mut Dialogue, peer: &mut TcpStream) {
    data.send(b"there").unwrap();
    let mut heard = [0; 5];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"there");
    peer.write_all(b"and back").unwrap();
    assert_eq!(data.receive_bytes(8).unwrap(), b"and back");
}

/// Binds over what `open` opens, for both who may have opened the peer data connection.
#[track_caller]
fn binds(scene: &mut Scene, open: impl Fn() -> Dialogue) {
    for (id, mut peer) in [scene.connect(), scene.arrive()] {
        let mut data = open();
        bind(&mut data, &id).unwrap();
        speak(&mut data, &mut peer);
    }
}

#[test]
fn a_tcp_allocation_that_stays_makes_further_data_connections() {
    let (issuer, tls) = (Issuer::new(), (Ipv4Addr::LOCALHOST, free_port()).into());
    let succession = Succession::new(&format!(
        "{LOOPBACK}[relay]\ntcp = true\n[process]\nseccomp = true\n\
         [tls]\nlisten = [\"{tls}\"]\n\
         [[tls.certificates]]\nchain = \"ec-chain.pem\"\nkey = \"ec-key.pem\"\n"
    ));
    let certificate = issuer.issue(Kind::Ec, &["127.0.0.1"]);
    certificate.write(&succession.path(""), "ec");
    let (address, config) = (succession.address(), issuer.client());
    let old = succession.start();
    let mut scene = Scene::of(Dialogue::tcp(address));
    let (early, mut early_peer) = scene.connect();
    let mut bound = Dialogue::tcp(address);
    bind(&mut bound, &early).unwrap();
    let (waiting, mut waiting_peer) = scene.arrive();

    let new = succession.succeed();
    speak(&mut bound, &mut early_peer);
    let mut late = Dialogue::tcp(address);
    bind(&mut late, &waiting).unwrap();
    speak(&mut late, &mut waiting_peer);
    // An id is good once.
    assert_eq!(bind(&mut Dialogue::tcp(address), &waiting), Err(400));
    binds(&mut scene, || Dialogue::tcp(address));
    binds(&mut scene, || Dialogue::tls(tls, &config));
    // Another user's is another user's.
    let (id, _peer) = scene.arrive();
    let mut stranger = Dialogue::tcp(address);
    stranger.become_user("mallory");
    assert_eq!(bind(&mut stranger, &id), Err(401));

    // Through a third process as well, and what is the second one's own comes back to that.
    let mut other = Scene::of(Dialogue::tcp(address));
    let last = succession.succeed();
    for scene in [&mut scene, &mut other] {
        binds(scene, || Dialogue::tcp(address));
        binds(scene, || Dialogue::tls(tls, &config));
    }
    // When the process has gone that has given it out, an id is nobody's.
    let (id, _peer) = scene.connect();
    drop((scene, stranger));
    ends(old);
    assert_eq!(bind(&mut Dialogue::tls(tls, &config), &id), Err(400));
    drop(other);
    ends(new);
    assert_eq!(bind(&mut Dialogue::tcp(address), &id), Err(400));
    last.stop();
}
