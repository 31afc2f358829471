//! Access tokens (RFC 7635), with coturn's `turnutils_oauth` as the authorization server.
//!
//! `turnutils_uclient -J` cannot stand for the client: of the 20 bytes of the token's key it signs with
//! the first 16.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use stun::attributes::ATTR_LIFETIME;
use stun::integrity::MessageIntegrity;
use stun::message::{Getter, METHOD_ALLOCATE, METHOD_REFRESH, Message, Setter};
use turn::proto::PROTO_UDP;
use turn::proto::relayaddr::RelayedAddress;
use turn::proto::reqtrans::RequestedTransport;

use super::dialogue::{Bearer, Dialogue};
use super::families::talks;
use super::process::{LIMIT, lacks, run};
use super::server::{Server, binary, free_port};

const SERVER_NAME: &str = "blackdow.carleon.gov";
const MAC_KEY: &str = "ZksjpweoixXmvn67534m";
/// Key ids, algorithms and keys.
const KEYS: [[&str; 3]; 2] = [
    ["north", "A256GCM", "HGkj32KJGiuy098sdfaqbNjOiaz71923"],
    ["union", "A128GCM", "HGkj32KJGiuy098s"],
];

/// The configuration of a server that lets nobody in but holders of tokens.
fn file(listen: SocketAddr, metrics: SocketAddr) -> String {
    let keys = KEYS.map(|[id, algorithm, key]| {
        let key = BASE64_STANDARD.encode(key);
        format!("[[auth.oauth_keys]]\nid = {id:?}\nkey = {key:?}\nalgorithm = {algorithm:?}\n")
    });
    format!(
        "[server]\nlisten = [\"{listen}\"]\n[metrics]\nlisten = \"{metrics}\"\n\
         [peers]\nallow = [\"127.0.0.1\"]\n\
         [auth]\noauth_server_name = {SERVER_NAME:?}\n{}",
        keys.concat()
    )
}

/// What `turnutils_oauth` prints about tokens of a key.
fn turnutils_oauth([id, algorithm, key]: [&str; 3], arguments: &[&str]) -> String {
    let mut command = Command::new("turnutils_oauth");
    command
        .args(["-i", SERVER_NAME, "-j", id, "-n", algorithm])
        .args(["-k", &BASE64_STANDARD.encode(key)])
        .args(["-l", "1700000000", "-m", "4000000000"])
        .args(arguments);
    let (status, stdout, stderr) = run(&mut command, LIMIT);
    assert!(status.success(), "{stdout}{stderr}");
    stdout
}

/// A token for ten minutes that `turnutils_oauth` sealed.
fn bearer(key: [&str; 3]) -> Bearer {
    let mac_key = BASE64_STANDARD.encode(MAC_KEY);
    let printed = turnutils_oauth(key, &["-e", "-p", &mac_key, "-r", "600"]);
    let token: Value = serde_json::from_str(&printed).unwrap();
    let token = token["access_token"].as_str().unwrap();
    Bearer {
        id: key[0].to_owned(),
        token: BASE64_STANDARD.decode(token).unwrap(),
        mac_key: MAC_KEY.to_owned(),
    }
}

fn allocate(client: &mut Dialogue) -> Message {
    let transport = RequestedTransport {
        protocol: PROTO_UDP,
    };
    let attributes: [Box<dyn Setter>; 1] = [Box::new(transport)];
    client.request(METHOD_ALLOCATE, &attributes).unwrap()
}

fn relayed(response: &Message) -> SocketAddr {
    let mut relayed = RelayedAddress::default();
    relayed.get_from(response).unwrap();
    SocketAddr::new(relayed.ip, relayed.port)
}

fn lifetime(response: &Message) -> u32 {
    let value = response.get(ATTR_LIFETIME).unwrap();
    u32::from_be_bytes(value.try_into().unwrap())
}

#[test]
fn tokens_of_turnutils_oauth_let_clients_in() {
    let test = "tokens_of_turnutils_oauth_let_clients_in";
    if lacks(test, &["turnutils_oauth"]) {
        return;
    }
    let [address, metrics] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnserver.toml");
    std::fs::write(&path, file(address, metrics)).unwrap();
    let mut command = Command::new(binary());
    let mut server = Server::from_command(command.arg("--config").arg(&path), address, metrics);
    for (index, key) in KEYS.into_iter().enumerate() {
        for mut client in [Dialogue::udp(address), Dialogue::tcp(address)] {
            let sealed = Instant::now();
            client.bear(bearer(key));
            let response = allocate(&mut client);
            // What is left of ten minutes; the token counts whole seconds.
            let left = |response: &Message| {
                let least = 598_u64.saturating_sub(sealed.elapsed().as_secs());
                assert!((least..=600).contains(&lifetime(response).into()));
            };
            left(&response);
            let integrity = MessageIntegrity(MAC_KEY.into());
            integrity.check(&mut response.clone()).unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            talks(&mut client, 0x4000, relayed(&response), &peer);
            // The next token may come under another id.
            client.bear(bearer(KEYS[1 - index]));
            let refreshed = client.request(METHOD_REFRESH, &[]).unwrap();
            left(&refreshed);
            client.permit(peer.local_addr().unwrap()).unwrap();
        }
    }
    let mut guest = Dialogue::udp(address);
    assert_eq!(guest.allocate(None), Err(401));
    let mut thief = Dialogue::udp(address);
    thief.bear(Bearer {
        mac_key: MAC_KEY[..16].to_owned(),
        ..bearer(KEYS[0])
    });
    assert_eq!(thief.allocate(None), Err(401));
    let printed = server.log() + &server.running().stdout();
    assert!(
        !printed.contains("iceServers"),
        "no user was made: {printed}"
    );
    assert!(!printed.contains(MAC_KEY), "{printed}");
    server.stop();
}

#[test]
fn turnutils_oauth_opens_our_tokens() {
    if lacks("turnutils_oauth_opens_our_tokens", &["turnutils_oauth"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let somewhere = SocketAddr::from(([127, 0, 0, 1], 10));
    let path = directory.path().join("turnserver.toml");
    std::fs::write(path, file(nowhere, somewhere)).unwrap();
    for key in KEYS {
        let mut command = Command::new(binary());
        command
            .args(["credential", "--oauth", "--json", "--ttl", "77"])
            .args(["--user", key[0]])
            .current_dir(&directory);
        let (_, stdout, stderr) = run(&mut command, LIMIT);
        let printed: Value = serde_json::from_str(&stdout).expect(&stderr);
        let token = printed["credential"]["accessToken"].as_str().unwrap();
        let opened = turnutils_oauth(key, &["-v", "-d", "-t", token]);
        for line in ["-=Valid token!=-", "mac key length: 20", "lifetime: 77"] {
            assert!(opened.contains(line), "{opened}");
        }
        let expires = printed["expires"].as_u64().unwrap();
        let issued = format!("unixtime: {} ", expires - 77);
        assert!(opened.contains(&issued), "{opened}");
    }
}
