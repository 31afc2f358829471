//! Clients of RFC 8489 with both servers: SHA-256 and MD5 from the list, names and their hashes.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};
use turnstone::stun::{Algorithm, AttributeType, Class, MessageBuilder, Method, PasswordAlgorithm};
use turnstone::turn::StoredKey;

use crate::common::{
    Login, REALM, Response, address, lifetime, requested_transport, send_indication,
    xor_peer_address,
};
use crate::other_server::{Ours, Outcome, Theirs, TurnParty, transaction};

type Attributes = Vec<(AttributeType, Vec<u8>)>;

/// A client that takes the realm's features from the challenge.
struct Client<S> {
    server: S,
    address: SocketAddr,
    login: Login,
    choice: PasswordAlgorithm,
    hides_name: bool,
    nonce: Vec<u8>,
    list: Vec<u8>,
    transactions: u64,
}

impl<S: TurnParty> Client<S> {
    fn new(server: S, login: Login, choice: PasswordAlgorithm, hides_name: bool) -> Self {
        Self {
            server,
            address: address("203.0.113.7:4000"),
            login,
            choice,
            hides_name,
            nonce: Vec::new(),
            list: Vec::new(),
            transactions: 0,
        }
    }

    /// Takes the challenge, which must offer everything that this client may use.
    fn challenge(&mut self) {
        let id = transaction(0);
        let mut request = Vec::new();
        let (kind, value) = requested_transport(17);
        MessageBuilder::new(&mut request, Class::Request, Method::ALLOCATE, id)
            .attribute(kind, &value);
        let (outcome, response) = self.server.client_sends(self.address, &request);
        assert_eq!(outcome, Outcome::Answer(Some(401)));
        let response = response.unwrap();
        self.nonce = response.value(AttributeType::NONCE).unwrap();
        self.list = response.value(AttributeType::PASSWORD_ALGORITHMS).unwrap();
        assert!(self.nonce.starts_with(b"obMatJos2wAAA"), "both features");
        let entries: Vec<_> = self.list.chunks(4).collect();
        let both = [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256];
        assert!(both.iter().all(|one| entries.contains(&&one.entry()[..])));
    }

    fn ask(
        &mut self,
        method: Method,
        attributes: impl FnOnce(turnstone::stun::TransactionId) -> Attributes,
    ) -> Outcome {
        self.transactions += 1;
        let id = transaction(self.transactions);
        let mut request = Vec::new();
        let mut builder = MessageBuilder::new(&mut request, Class::Request, method, id);
        for (kind, value) in attributes(id) {
            builder.attribute(kind, &value);
        }
        let Login {
            username,
            realm,
            password,
            ..
        } = &self.login;
        let hash = Sha256::digest(format!("{username}:{REALM}"));
        match self.hides_name {
            true => builder.attribute(AttributeType::USERHASH, &hash),
            false => builder.attribute(AttributeType::USERNAME, username.as_bytes()),
        };
        let key = StoredKey::derive(self.choice, username, realm, password);
        builder
            .attribute(AttributeType::REALM, realm.as_bytes())
            .attribute(AttributeType::NONCE, &self.nonce)
            .attribute(AttributeType::PASSWORD_ALGORITHMS, &self.list)
            .attribute(AttributeType::PASSWORD_ALGORITHM, &self.choice.entry())
            .integrity(Algorithm::Sha256, key.as_bytes());
        let (outcome, response) = self.server.client_sends(self.address, &request);
        if outcome == Outcome::Answer(None) {
            assert!(is_signed(&response.unwrap(), &key), "{method:?}");
        }
        outcome
    }

    /// All that a client does from its challenge to its end.
    fn live(&mut self) -> Vec<Outcome> {
        let peer = address("198.51.100.1:9000");
        self.challenge();
        let mut outcomes = vec![
            self.ask(Method::ALLOCATE, |_| vec![requested_transport(17)]),
            self.ask(Method::CREATE_PERMISSION, |id| {
                vec![xor_peer_address(peer, id)]
            }),
            self.ask(Method::REFRESH, |_| vec![lifetime(900)]),
        ];
        let send = send_indication(peer, b"data");
        outcomes.push(self.server.client_sends(self.address, &send).0);
        outcomes.push(self.ask(Method::REFRESH, |_| vec![lifetime(0)]));
        outcomes
    }
}

fn is_signed(response: &Response, key: &StoredKey) -> bool {
    let message = response.message();
    message
        .check_integrity(Algorithm::Sha256, key.as_bytes())
        .is_ok()
}

/// What both make of a client.
fn live(login: &Login, choice: PasswordAlgorithm, hides_name: bool) -> [Vec<Outcome>; 2] {
    let mut ours = Client::new(Ours::modern(), login.clone(), choice, hides_name);
    let mut theirs = Client::new(Theirs::modern(), login.clone(), choice, hides_name);
    [ours.live(), theirs.live()]
}

const BOTH: [PasswordAlgorithm; 2] = [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256];

#[test]
fn a_client_with_sha256_is_served_alike() {
    let [ours, theirs] = live(&Login::alice(), PasswordAlgorithm::Sha256, false);
    assert_eq!(ours[0], Outcome::Answer(None));
    assert_eq!(ours, theirs);
}

#[test]
fn a_client_that_hides_its_name_is_served_alike() {
    let [ours, theirs] = live(&Login::alice(), PasswordAlgorithm::Sha256, true);
    assert_eq!(ours[0], Outcome::Answer(None));
    assert_eq!(ours, theirs);
}

/// RFC 8489 §9.2.3.2: whoever saw the list signs with MESSAGE-INTEGRITY-SHA256, whatever the key is made
/// with; theirs takes a key of MD5 with MESSAGE-INTEGRITY only.
#[test]
fn theirs_refuses_md5_from_the_list() {
    for hides_name in [false, true] {
        let [ours, theirs] = live(&Login::alice(), PasswordAlgorithm::Md5, hides_name);
        let answers = [ours, theirs].map(|outcomes| outcomes[0].clone());
        let expected = [None, Some(401)].map(Outcome::Answer);
        assert_eq!(answers, expected);
    }
}

#[test]
fn strangers_are_refused_alike() {
    for login in [Login::new("mallory", "x"), Login::new("alice", "x")] {
        for (choice, hides_name) in BOTH.into_iter().zip([true, false]) {
            let [ours, theirs] = live(&login, choice, hides_name);
            assert_eq!(ours[0], Outcome::Answer(Some(401)), "{login:?}");
            assert_eq!(ours, theirs, "{login:?} {choice:?}");
        }
    }
}

/// RFC 8489 §9.2.4: a list that is not the server's is a bad request.
#[test]
fn a_shortened_list_is_refused_alike() {
    fn code<S: TurnParty>(server: S) -> Outcome {
        let mut client = Client::new(server, Login::alice(), PasswordAlgorithm::Md5, false);
        client.challenge();
        client.list = PasswordAlgorithm::Md5.entry().into();
        client.ask(Method::ALLOCATE, |_| vec![requested_transport(17)])
    }
    assert_eq!(code(Ours::modern()), Outcome::Answer(Some(400)));
    assert_eq!(code(Theirs::modern()), Outcome::Answer(Some(400)));
}
