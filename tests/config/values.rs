//! Each key's value arrives (requirement S19).

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use turnstone::config::{
    Config, HostFacts, Level, LogFormat, Login, Overrides, Upstream, UpstreamAddress, UpstreamTls,
    UserFlag, keys,
};
use turnstone::stun::{ChannelRange, PasswordAlgorithm};
use turnstone::time::UnixTime;
use turnstone::turn::{
    AccessToken, Admission, Alternates, External, NatDiscovery, RelaySource, Security,
    TokenAlgorithm, TokenKey,
};

use super::{defaults, load, load_with};

type Check = fn(&Config) -> bool;

/// Two keys of access tokens, one of each algorithm.
const OAUTH: &str = "[auth]\noauth_server_name = \"turn.example.org\"\n\
    [[auth.oauth_keys]]\nid = \"a\"\nkey = \"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\"\n\
    [[auth.oauth_keys]]\nid = \"b\"\nkey = \"a2tra2tra2tra2tra2traw\"\nalgorithm = \"a128gcm\"";

/// A file that sets one key, and what is true with it and not without it.
const CASES: &[(&str, &str, Check)] = &[
    (
        "server.listen",
        "[server]\nlisten = [\"127.0.0.1:9\"]",
        |c| c.listen == [at("127.0.0.1:9")],
    ),
    ("server.udp", "[server]\nudp = false", |c| !c.udp),
    ("server.tcp", "[server]\ntcp = false", |c| !c.tcp),
    ("server.workers", "[server]\nworkers = 77", |c| {
        c.workers.get() == 77
    }),
    ("server.software", "[server]\nsoftware = \"\"", |c| {
        c.software.is_none()
    }),
    ("auth.realm", "[auth]\nrealm = \"example.org\"", |c| {
        c.realm == "example.org" && &*policy(c).realm == "example.org"
    }),
    (
        "auth.secrets",
        "[auth]\nsecrets = [\"north-wind-and-sun\"]",
        |c| c.secrets.len() == 1,
    ),
    (
        "auth.users",
        "[[auth.users]]\nname = \"a\"\npassword = \"b\"",
        |c| c.users.len() == 1,
    ),
    (
        "auth.users.name",
        "[[auth.users]]\nname = \"a\"\npassword = \"b\"",
        |c| c.users.iter().any(|user| user.name == "a"),
    ),
    (
        "auth.users.password",
        "[[auth.users]]\nname = \"a\"\npassword = \"b\"",
        |c| {
            c.users
                .iter()
                .any(|user| matches!(&user.login, Login::Password(word) if word == "b"))
        },
    ),
    (
        "auth.users.key",
        "[[auth.users]]\nname = \"a\"\nkey = \"0x000102030405060708090a0B0c0D0e0f\"",
        |c| {
            c.users
                .iter()
                .any(|user| user.keys(&c.realm)[0].to_hex() == "000102030405060708090a0b0c0d0e0f")
                && c.security == Security::new(&[PasswordAlgorithm::Md5], true)
        },
    ),
    (
        "auth.users.key_sha256",
        "[[auth.users]]\nname = \"a\"\nkey_sha256 = \"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\"",
        |c| {
            c.users
                .iter()
                .all(|user| user.has(PasswordAlgorithm::Sha256))
                && c.security == Security::new(&[PasswordAlgorithm::Sha256], true)
        },
    ),
    ("auth.algorithms", "[auth]\nalgorithms = [\"md5\"]", |c| {
        policy(c).security == Security::new(&[PasswordAlgorithm::Md5], true)
    }),
    ("auth.userhash", "[auth]\nuserhash = false", |c| {
        let both = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
        policy(c).security == Security::new(&both, false)
    }),
    ("auth.oauth_server_name", OAUTH, |c| {
        let oauth = policy(c).oauth;
        oauth.is_some_and(|oauth| oauth.server_name() == "turn.example.org")
    }),
    ("auth.oauth_keys", OAUTH, |c| {
        let oauth = policy(c).oauth;
        oauth.is_some_and(|oauth| oauth.ids().eq(["a", "b"])) && !c.needs_user()
    }),
    ("auth.oauth_keys.id", OAUTH, |c| key(c, "b").is_some()),
    ("auth.oauth_keys.key", OAUTH, |c| {
        let same = TokenKey::new(TokenAlgorithm::A256Gcm, &[b'k'; 32]);
        opens(key(c, "a"), same)
    }),
    ("auth.oauth_keys.algorithm", OAUTH, |c| {
        let same = TokenKey::new(TokenAlgorithm::A128Gcm, &[b'k'; 16]);
        opens(key(c, "b"), same)
    }),
    (
        "relay.addresses",
        "[relay]\naddresses = [\"192.0.2.1\"]",
        |c| {
            policy(c).relay.v4 == RelaySource::Fixed(vec![ip("192.0.2.1")])
                && policy(c).relay.v6 == RelaySource::Disabled
        },
    ),
    (
        "relay.external",
        "[relay]\nexternal = [\"203.0.113.5/10.0.0.5\"]",
        |c| policy(c).relay.public(ip("10.0.0.5")) == ip("203.0.113.5"),
    ),
    ("relay.ports", "[relay]\nports = \"5000-6000\"", |c| {
        policy(c).relay.ports == (5000..=6000)
    }),
    ("relay.ipv4", "[relay]\nipv4 = false", |c| {
        policy(c).relay.v4 == RelaySource::Disabled
    }),
    ("relay.ipv6", "[relay]\nipv6 = false", |c| {
        policy(c).relay.v6 == RelaySource::Disabled
    }),
    ("relay.tcp", "[relay]\ntcp = true", |c| policy(c).relay.tcp),
    ("peers.allow", "[peers]\nallow = [\"10.20.0.0/16\"]", |c| {
        c.rules.len() == 1
    }),
    ("peers.deny", "[peers]\ndeny = [\"198.51.100.1\"]", |c| {
        c.rules.len() == 1
    }),
    (
        "lifetimes.allocation",
        "[lifetimes]\nallocation = 300",
        |c| policy(c).lifetimes.allocation == secs(300),
    ),
    (
        "lifetimes.allocation_max",
        "[lifetimes]\nallocation_max = \"2h\"",
        |c| policy(c).lifetimes.allocation_max == secs(7200),
    ),
    ("lifetimes.permission", "[lifetimes]\npermission = 1", |c| {
        policy(c).lifetimes.permission == secs(1)
    }),
    ("lifetimes.channel", "[lifetimes]\nchannel = \"2s\"", |c| {
        policy(c).lifetimes.channel == secs(2)
    }),
    ("lifetimes.nonce", "[lifetimes]\nnonce = \"1h\"", |c| {
        policy(c).lifetimes.nonce == secs(3600)
    }),
    ("limits.allocations", "[limits]\nallocations = 7", |c| {
        policy(c).limits.allocations == 7
    }),
    (
        "limits.allocations_per_user",
        "[limits]\nallocations_per_user = 7",
        |c| policy(c).limits.allocations_per_user == 7,
    ),
    (
        "limits.allocations_per_source",
        "[limits]\nallocations_per_source = 7",
        |c| policy(c).limits.allocations_per_source == 7,
    ),
    (
        "limits.permissions_per_allocation",
        "[limits]\npermissions_per_allocation = 7",
        |c| policy(c).limits.permissions_per_allocation == 7,
    ),
    (
        "limits.channels_per_allocation",
        "[limits]\nchannels_per_allocation = 7",
        |c| policy(c).limits.channels_per_allocation == 7,
    ),
    (
        "limits.peer_connections_per_allocation",
        "[limits]\npeer_connections_per_allocation = 7",
        |c| policy(c).limits.peer_connections_per_allocation == 7,
    ),
    (
        "limits.reflection_bytes_per_second",
        "[limits]\nreflection_bytes_per_second = \"2KiB\"",
        |c| policy(c).limits.reflection_bytes_per_second == 2048,
    ),
    (
        "bandwidth.per_allocation",
        "[bandwidth]\nper_allocation = \"500kbit\"",
        |c| policy(c).bandwidth.per_allocation == NonZeroU64::new(500_000),
    ),
    (
        "bandwidth.per_user",
        "[bandwidth]\nper_user = \"2Mbit\"",
        |c| policy(c).bandwidth.per_user == NonZeroU64::new(2_000_000),
    ),
    ("bandwidth.total", "[bandwidth]\ntotal = 1000000000", |c| {
        policy(c).bandwidth.total == NonZeroU64::new(1_000_000_000)
    }),
    (
        "nat_discovery.alternate_address",
        "[server]\nlisten = [\"192.0.2.10:3478\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        |c| four(c).contains(&at("192.0.2.11:3479")) && c.endpoints().len() == 4,
    ),
    (
        "nat_discovery.alternate_port",
        "[server]\nlisten = [\"192.0.2.10:3478\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"\nalternate_port = 9",
        |c| four(c).contains(&at("192.0.2.10:9")),
    ),
    ("mobility.enabled", "[mobility]\nenabled = true", |c| {
        policy(c).mobility
    }),
    (
        "redirect.servers",
        "[redirect]\nservers = [\"198.51.100.7:3478\"]",
        |c| redirects(c, &Alternates::new(&[at("198.51.100.7:3478")], &[], None)),
    ),
    (
        "redirect.tls_servers",
        "[redirect]\ntls_servers = [\"198.51.100.7:5349\"]",
        |c| redirects(c, &Alternates::new(&[], &[at("198.51.100.7:5349")], None)),
    ),
    (
        "redirect.domain",
        "[redirect]\ntls_servers = [\"[2001:db8::7]:5349\"]\ndomain = \"turn2.example.org\"",
        |c| {
            let server = [at("[2001:db8::7]:5349")];
            redirects(c, &Alternates::new(&[], &server, Some("turn2.example.org")))
        },
    ),
    (
        "compatibility.rfc3489",
        "[compatibility]\nrfc3489 = false",
        |c| !policy(c).rfc3489,
    ),
    (
        "compatibility.rfc5766_channels",
        "[compatibility]\nrfc5766_channels = true",
        |c| policy(c).channels == ChannelRange::Rfc5766,
    ),
    ("streams.connections", "[streams]\nconnections = 7", |c| {
        c.streams.connections == 7
    }),
    (
        "streams.connections_per_source",
        "[streams]\nconnections_per_source = 7",
        |c| c.streams.connections_per_source == 7,
    ),
    ("streams.handshakes", "[streams]\nhandshakes = 7", |c| {
        c.streams.handshakes == 7
    }),
    (
        "streams.backlog_bytes",
        "[streams]\nbacklog_bytes = 65536",
        |c| c.streams.backlog_bytes == 65_536,
    ),
    (
        "streams.media_age",
        "[streams]\nmedia_age = \"40ms\"",
        |c| c.streams.media_age == Duration::from_millis(40),
    ),
    ("streams.pipe_bytes", "[streams]\npipe_bytes = 4096", |c| {
        c.streams.pipe_bytes == 4096
    }),
    ("streams.silent_after", "[streams]\nsilent_after = 3", |c| {
        c.streams.silent_after == secs(3)
    }),
    (
        "streams.idle_after",
        "[streams]\nidle_after = \"3m\"",
        |c| c.streams.idle_after == secs(180),
    ),
    (
        "streams.proxy_protocol_from",
        "[streams]\nproxy_protocol_from = [\"10.0.0.0/8\"]",
        |c| c.proxy_protocol_from.len() == 1,
    ),
    (
        "upstream.server_names",
        "[[upstream]]\nserver_names = [\"WWW.example.org\"]\nto = \"127.0.0.1:1\"\ntls = \"pass\"",
        |c| upstream(c, |u| u.server_names == ["www.example.org"]),
    ),
    (
        "upstream.to",
        "[[upstream]]\nto = \"unix:/run/x\"\ntls = \"off\"\nplain = true",
        |c| upstream(c, |u| u.to == UpstreamAddress::Unix("/run/x".into())),
    ),
    (
        "upstream.tls",
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nplain = true",
        |c| upstream(c, |u| u.tls == UpstreamTls::Off),
    ),
    (
        "upstream.plain",
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nplain = true",
        |c| upstream(c, |u| u.plain),
    ),
    (
        "upstream.proxy_protocol",
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nplain = true\nproxy_protocol = true",
        |c| upstream(c, |u| u.proxy_protocol),
    ),
    (
        "upstream.connect_timeout",
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nplain = true\nconnect_timeout = 9",
        |c| upstream(c, |u| u.connect_timeout == secs(9)),
    ),
    (
        "upstream.idle_after",
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nplain = true\nidle_after = 9",
        |c| upstream(c, |u| u.idle_after == secs(9)),
    ),
    ("buffers.listener", "[buffers]\nlistener = \"64MiB\"", |c| {
        c.buffers.listener == 64 << 20
    }),
    ("buffers.relay", "[buffers]\nrelay = \"64KiB\"", |c| {
        c.buffers.relay == 64 << 10
    }),
    ("drain.limit", "[drain]\nlimit = \"2h\"", |c| {
        c.drain.limit == secs(7200)
    }),
    ("drain.stop_limit", "[drain]\nstop_limit = 0", |c| {
        c.drain.stop_limit == secs(0)
    }),
    (
        "drain.upgrade_limit",
        "[drain]\nupgrade_limit = \"2d\"",
        |c| c.drain.upgrade_limit == secs(172_800),
    ),
    (
        "control.socket",
        "[control]\nsocket = \"/run/x.sock\"",
        |c| c.control.as_deref() == Some(std::path::Path::new("/run/x.sock")),
    ),
    ("process.user", "[process]\nuser = \"daemon\"", |c| {
        c.process.user.as_deref() == Some("daemon")
    }),
    ("process.landlock", "[process]\nlandlock = false", |c| {
        !c.process.landlock
    }),
    ("process.seccomp", "[process]\nseccomp = true", |c| {
        c.process.seccomp
    }),
    ("metrics.listen", "[metrics]\nlisten = \"off\"", |c| {
        c.metrics.is_none()
    }),
    ("log.level", "[log]\nlevel = \"trace\"", |c| {
        c.log.level == Level::TRACE
    }),
    ("log.format", "[log]\nformat = \"json\"", |c| {
        c.log.format == LogFormat::Json
    }),
];

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an endpoint")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn upstream(config: &Config, is_so: fn(&Upstream) -> bool) -> bool {
    config.upstreams.iter().any(is_so)
}

/// Whether clients are sent to `alternates`.
fn redirects(config: &Config, alternates: &Alternates) -> bool {
    let policy = policy(config);
    policy.admission == Admission::Elsewhere && policy.alternates == *alternates
}

/// The addresses of NAT discovery.
fn four(config: &Config) -> Vec<SocketAddr> {
    let four = policy(config).nat_discovery;
    four.iter().flat_map(NatDiscovery::addresses).collect()
}

fn policy(config: &Config) -> turnstone::turn::Policy {
    config.policy(&HostFacts::default())
}

#[test]
fn each_value_arrives() {
    for (key, file, check) in CASES {
        assert!(!check(&defaults()), "{key}: the case says nothing");
        let config = load(file.as_bytes()).unwrap_or_else(|report| panic!("{key}: {report}"));
        assert!(check(&config), "{key}");
    }
}

#[test]
fn each_key_has_a_case() {
    // Files with secrets and certificates need files: their cases are below and in tls.rs.
    let with_files = |key: &String| {
        let others = ["auth.secrets_files", "upstream.http2"];
        others.contains(&key.as_str()) || key.starts_with("tls.")
    };
    for key in keys().filter(|key| !with_files(key)) {
        assert!(CASES.iter().any(|(case, ..)| *case == key), "{key}");
    }
}

#[test]
fn secrets_come_from_files_beside_the_configuration() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a file in it");
    };
    write(
        "turn",
        "# rotated\r\nfirst-secret-of-them\r\n\r\n  second-secret-of-them \n",
    );
    write(
        "turnserver.toml",
        "[auth]\nsecrets = [\"inline-secret-here\"]\nsecrets_files = [\"turn\"]",
    );
    let path = directory.path().join("turnserver.toml");
    let config = Config::load(Some(&path), &Overrides::default()).expect("it is valid");
    let signed: Vec<_> = config
        .secrets
        .iter()
        .map(|secret| secret.password_for("x"))
        .collect();
    let expected = [
        "inline-secret-here",
        "first-secret-of-them",
        "second-secret-of-them",
    ]
    .map(|secret| turnstone::turn::SharedSecret::new(secret).password_for("x"));
    assert_eq!(signed, expected);
}

#[test]
fn without_addresses_clients_are_relayed_from_where_they_reached() {
    let facts = HostFacts {
        default_v4: Some(ip("192.0.2.9")),
        ..HostFacts::default()
    };
    let relay = defaults().policy(&facts).relay;
    let otherwise = Some(ip("192.0.2.9"));
    assert_eq!(relay.v4, RelaySource::AsReached { otherwise });
    assert_eq!(relay.v6, RelaySource::AsReached { otherwise: None });
}

#[test]
fn flags_go_over_the_file() {
    let file = b"[server]\nlisten = [\"127.0.0.1:1\"]\nworkers = 3\n[auth]\nrealm = \"file\"\nsecrets = [\"secret-of-the-file\"]\n\
        [relay]\nexternal = [\"203.0.113.5\"]\n[metrics]\nlisten = \"off\"\n[log]\nlevel = \"warn\"\n\
        [peers]\nallow = [\"10.0.0.0/8\"]";
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let overrides = Overrides {
        listen: texts(&["5000", "127.0.0.1:5001"]),
        external: texts(&["203.0.113.6"]),
        users: vec![UserFlag {
            name: "alice".to_owned(),
            password: "made-up".to_owned(),
            generated: true,
        }],
        secrets: texts(&["secret-of-the-flag"]),
        realm: Some("flag".to_owned()),
        allow: texts(&["10.1.0.0/16"]),
        deny: texts(&["10.2.0.0/16"]),
        workers: Some("2".to_owned()),
        metrics: Some("127.0.0.1:5002".to_owned()),
        log_level: Some("debug".to_owned()),
        log_format: Some("json".to_owned()),
    };
    let config = load_with(file, &overrides).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        config.listen,
        [at("0.0.0.0:5000"), at("[::]:5000"), at("127.0.0.1:5001")]
    );
    let public = ip("203.0.113.6");
    assert_eq!(
        config.external,
        [External {
            local: None,
            public
        }]
    );
    assert_eq!(
        (config.users.len(), config.secrets.len(), config.rules.len()),
        (1, 2, 3)
    );
    assert_eq!(
        config
            .zero_config_user
            .as_ref()
            .map(|user| user.password.as_str()),
        Some("made-up")
    );
    assert_eq!((config.realm.as_str(), config.workers.get()), ("flag", 2));
    assert_eq!(config.metrics, Some(at("127.0.0.1:5002")));
    assert_eq!(
        (config.log.level, config.log.format),
        (Level::DEBUG, LogFormat::Json)
    );
}

#[test]
fn the_defaults_are_those_of_the_issue() {
    let config = defaults();
    assert_eq!(config.listen, [at("0.0.0.0:3478"), at("[::]:3478")]);
    assert_eq!(config.metrics, Some(at("127.0.0.1:9641")));
    assert_eq!(config.relay.ports, 49_152..=65_535);
    assert!(config.udp && config.tcp && config.needs_user());
}

/// The key of access tokens with this id.
fn key(config: &Config, id: &str) -> Option<TokenKey> {
    policy(config).oauth?.key(id).cloned()
}

/// Whether `key` is the same as `sealing`.
fn opens(key: Option<TokenKey>, sealing: Option<TokenKey>) -> bool {
    let (Some(key), Some(sealing)) = (key, sealing) else {
        return false;
    };
    let token = AccessToken::new(b"mac key", UnixTime(0), 1).expect("seven bytes");
    let sealed = sealing.seal(&token, &[0; 12], "here");
    sealed.is_some_and(|sealed| key.open(&sealed, "here") == Ok(token))
}
