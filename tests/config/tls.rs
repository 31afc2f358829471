//! TLS: where, with which certificates, and everything that can be wrong with them.

use std::net::SocketAddr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use turnstone::config::{Config, Overrides, Report, UpstreamTls};

use super::{defaults, shown};

const NAME: &str = "turn.example.org";

/// What an issuer has signed.
struct Issued {
    chain: String,
    leaf: String,
    issuer: String,
    key: String,
}

/// A certificate for `NAME`, good until `year`.
fn issue(year: i32) -> Issued {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "an issuer");
    let issuer_key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, issuer_key).expect("an issuer");
    let mut params = CertificateParams::new(vec![NAME.to_owned(), "192.0.2.1".to_owned()]);
    let params = params.as_mut().expect("names");
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let leaf = params
        .signed_by(&key, &issuer)
        .expect("a certificate")
        .pem();
    let issuer = issuer.pem();
    Issued {
        chain: format!("{leaf}{issuer}"),
        leaf,
        issuer,
        key: key.serialize_pem(),
    }
}

/// Writes a good certificate into the directory `at`.
pub(crate) fn write_certificate(at: &Path, chain: &str, key: &str) {
    let issued = issue(2100);
    write(at, chain, &issued.chain);
    write(at, key, &issued.key);
}

fn write(at: &Path, name: &str, text: &str) {
    std::fs::write(at.join(name), text).expect("a file");
}

const CERTIFICATE: &str = "[[tls.certificates]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n";

/// What `CERTIFICATE` and `rest` mean beside files with `chain` and `key`.
fn load(chain: &str, key: &str, rest: &str) -> Result<Config, Report> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), "chain.pem", chain);
    write(directory.path(), "key.pem", key);
    write(
        directory.path(),
        "turnserver.toml",
        &format!("{CERTIFICATE}{rest}"),
    );
    let path = directory.path().join("turnserver.toml");
    Config::load(Some(&path), &Overrides::default())
}

fn load_good(rest: &str) -> Config {
    let issued = issue(2100);
    load(&issued.chain, &issued.key, rest).unwrap_or_else(|report| panic!("{report}"))
}

fn at(texts: &[&str]) -> Vec<SocketAddr> {
    let parse = |text: &&str| text.parse().expect("an address");
    texts.iter().map(parse).collect()
}

#[test]
fn without_a_certificate_it_is_off() {
    let tls = defaults().tls;
    assert!(tls.listen.is_empty() && tls.certificates.is_empty() && tls.host().is_none());
}

#[test]
fn a_certificate_switches_it_on() {
    let config = load_good("");
    assert_eq!(config.tls.listen, at(&["0.0.0.0:5349", "[::]:5349"]));
    assert_eq!(config.tls.certificates.len(), 1);
    assert_eq!(config.tls.certificates[0].certificate.names(), [NAME]);
    assert_eq!(config.tls.host().as_deref(), Some(NAME));
    assert!(config.tls.covers("TURN.example.org") && !config.tls.covers("example.org"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn it_listens_where_it_is_told() {
    let config = load_good("[tls]\nlisten = [\"127.0.0.1:443\"]");
    assert_eq!(config.tls.listen, at(&["127.0.0.1:443"]));
}

#[test]
fn it_may_share_an_address_with_plain_tcp() {
    let config = load_good("[tls]\nlisten = [\"0.0.0.0:3478\"]");
    assert_eq!(config.tls.listen, at(&["0.0.0.0:3478"]));
    assert!(config.listen.contains(&config.tls.listen[0]));
}

#[test]
fn a_web_server_may_be_behind_it() {
    let config = load_good("[[upstream]]\nto = \"127.0.0.1:8080\"");
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.tls, UpstreamTls::Terminate);
    assert!(!upstream.http2 && !upstream.plain && upstream.server_names.is_empty());
    let config = load_good("[[upstream]]\nto = \"127.0.0.1:8080\"\nhttp2 = true");
    assert!(config.upstreams[0].http2);
    let issued = issue(2100);
    let twice = "[[upstream]]\nto = \"127.0.0.1:8080\"\n".repeat(2);
    let report = load(&issued.chain, &issued.key, &twice).expect_err("a problem");
    assert_eq!(
        shown(&report),
        [
            "turnserver.toml:6: upstream[1]: a second upstream without server_names; name what one of them serves"
        ]
    );
}

#[test]
fn tls_alone_may_be_served() {
    let config = load_good("[server]\nudp = false\ntcp = false\nlisten = [\"0.0.0.0:5349\"]");
    assert!(!config.udp && !config.tcp && !config.tls.listen.is_empty());
}

/// The texts of problems or warnings of key and chain, without places and paths.
fn texts(lines: &[String]) -> Vec<String> {
    let text = |line: &String| {
        let (_, text) = line.split_once(".pem: ").unwrap_or(("", line));
        text.to_owned()
    };
    lines.iter().map(text).collect()
}

#[track_caller]
fn refused(chain: &str, key: &str, part: &str, what: &str) {
    let report = load(chain, key, "").expect_err("a problem");
    let lines = shown(&report);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(&format!("tls.certificates[0].{part}: ")),
        "{lines:?}"
    );
    assert!(texts(&lines)[0].starts_with(what), "{lines:?}");
}

#[test]
fn chain_and_key_must_be_good_and_of_one_another() {
    let (one, other) = (issue(2100), issue(2100));
    let turned = format!("{}{}", one.issuer, one.leaf);
    let torn = one.chain.replace("-----END CERTIFICATE-----", "");
    let bent = format!(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
        one.leaf
    );
    let locked = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    refused(
        &one.chain,
        &other.key,
        "key",
        "the private key of another certificate",
    );
    refused(
        &turned,
        &one.key,
        "chain",
        "the private key is that of certificate 2",
    );
    refused(&torn, &one.key, "chain", "not sound PEM");
    refused(&bent, &one.key, "chain", "certificate 1 cannot be read");
    refused("", &one.key, "chain", "holds no certificate");
    refused(&one.key, &one.chain, "chain", "holds no certificate");
    refused(&one.chain, "", "key", "holds no private key");
    refused(&one.chain, &locked, "key", "the private key is encrypted");
    refused(
        &one.chain,
        no_key,
        "key",
        "not a private key that TLS can use",
    );
}

#[track_caller]
fn warned(chain: &str, key: &str, what: &str) {
    let config = load(chain, key, "").unwrap_or_else(|report| panic!("{report}"));
    let lines: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(": warning: tls.certificates[0].chain: "));
    assert!(texts(&lines)[0].starts_with(what), "{lines:?}");
}

#[test]
fn what_clients_will_refuse_is_a_warning() {
    let (good, old) = (issue(2100), issue(2020));
    warned(&good.leaf, &good.key, "lacks the certificate of its issuer");
    warned(&old.chain, &old.key, "the certificate expired ");
    let key = KeyPair::generate().expect("a key");
    let nameless = CertificateParams::default()
        .self_signed(&key)
        .expect("a certificate");
    let text = "the certificate names no host";
    warned(&nameless.pem(), &key.serialize_pem(), text);
}

#[test]
fn addresses_of_others_are_refused() {
    let issued = issue(2100);
    let problems = |rest: &str| {
        let report = load(&issued.chain, &issued.key, rest).expect_err("a problem");
        shown(&report)
    };
    assert_eq!(
        problems("[tls]\nlisten = [\"127.0.0.1:3478\"]"),
        [
            "turnserver.toml:5: tls.listen[0]: 127.0.0.1:3478 is where clients are served over TCP without TLS; take another port, or the same address as in server.listen to share it"
        ]
    );
    assert_eq!(
        problems("[tls]\nlisten = []"),
        [
            "turnserver.toml:5: tls.listen: no address to listen on; leave the key out for port 5349 of all addresses"
        ]
    );
    assert_eq!(
        problems("[metrics]\nlisten = \"127.0.0.1:5349\""),
        [
            "turnserver.toml:5: metrics.listen: 127.0.0.1:5349 is where clients are served over TCP; take another port"
        ]
    );
    assert_eq!(
        problems(CERTIFICATE),
        ["turnserver.toml:5: tls.certificates[1].chain: chain.pem stands twice; leave one"]
    );
}

#[test]
fn no_key_is_shown() {
    let issued = issue(2100);
    let secret = issued.key.lines().nth(1).expect("base64").to_owned();
    let config = load(&issued.chain, &issued.key, "").expect("it is valid");
    assert!(!format!("{config:?}{:?}", config.tls).contains(&secret));
    let report = load(&issued.key, &issued.key, "").expect_err("a problem");
    assert!(!format!("{report}{report:?}").contains(&secret));
}

/// Whether DTLS is served with a certificate whose key is of `kind`, and what is said of it.
fn dtls(kind: Option<&'static rcgen::SignatureAlgorithm>, rest: &str) -> Result<Config, String> {
    let key = match kind {
        Some(kind) => KeyPair::generate_for(kind),
        None => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
    };
    let key = key.expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let chain = params.self_signed(&key).expect("a certificate").pem();
    let config = load(&chain, &key.serialize_pem(), rest);
    config.map_err(|report| shown(&report).join("\n"))
}

#[test]
fn dtls_is_served_as_soon_as_a_key_can() {
    assert!(!defaults().tls.dtls);
    for kind in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        for rest in ["", "[tls]\ndtls = true"] {
            let config = dtls(Some(kind), rest).expect("it is valid");
            assert!(config.tls.dtls && config.warnings.is_empty());
        }
        let config = dtls(Some(kind), "[tls]\ndtls = false").expect("it is valid");
        assert!(!config.tls.dtls && config.warnings.is_empty());
    }
}

#[test]
fn a_key_that_dtls_cannot_use_is_told_of() {
    for kind in [None, Some(&rcgen::PKCS_ED25519)] {
        let config = dtls(kind, "").expect("it is valid");
        assert!(!config.tls.dtls);
        let lines: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        let expected = "key.pem: not a key on P-256 or P-384, so that DTLS is not served; add a \
                        [[tls.certificates]] with an ECDSA key (certbot: --key-type ecdsa), or write \
                        dtls = false in [tls]";
        assert!(
            matches!(&lines[..], [line] if line.ends_with(expected)),
            "{lines:?}"
        );
        assert!(lines[0].contains("turnserver.toml:3: warning: tls.certificates[0].key: "));
        let config = dtls(kind, "[tls]\ndtls = false").expect("it is valid");
        assert!(config.warnings.is_empty());
        assert_eq!(
            dtls(kind, "[tls]\ndtls = true").expect_err("a problem"),
            "turnserver.toml:5: tls.dtls: DTLS needs a key on P-256 or P-384, and no certificate has \
             one; add a [[tls.certificates]] with an ECDSA key (certbot: --key-type ecdsa)"
        );
    }
}

#[test]
fn a_second_certificate_may_serve_dtls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = directory.path();
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = key.expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let chain = params.self_signed(&key).expect("a certificate").pem();
    write(at, "chain.pem", &chain);
    write(at, "key.pem", &key.serialize_pem());
    write_certificate(at, "ec-chain.pem", "ec-key.pem");
    let second = CERTIFICATE
        .replace("\"chain", "\"ec-chain")
        .replace("\"key", "\"ec-key");
    write(at, "turnserver.toml", &format!("{CERTIFICATE}{second}"));
    let path = at.join("turnserver.toml");
    let config = Config::load(Some(&path), &Overrides::default()).expect("it is valid");
    assert!(config.tls.dtls && config.warnings.is_empty());
}

/// What a reload from `running` to `next` applies, and what needs a restart.
fn follow(running: Config, next: Config) -> (Config, Vec<&'static str>, Vec<&'static str>) {
    let (config, changes) = next.follow(&running);
    (config, changes.applied, changes.restart)
}

#[test]
fn a_reload_changes_certificates_and_no_address() {
    let running = load_good("");
    let next = load_good("[tls]\nlisten = [\"127.0.0.1:443\"]");
    let renewed = next.tls.certificates.clone();
    let listen = running.tls.listen.clone();
    let (config, applied, restart) = follow(running, next);
    assert_eq!(applied, ["tls.certificates"]);
    assert_eq!(restart, ["tls.listen"]);
    assert_eq!(config.tls.listen, listen);
    assert!(config.tls.certificates == renewed);
}

#[test]
fn a_reload_switches_tls_neither_on_nor_off() {
    let with_tls = load_good("").tls.certificates;
    let (config, applied, restart) = follow(defaults(), load_good(""));
    assert!(config.tls.certificates.is_empty() && config.tls.listen.is_empty());
    assert_eq!((applied.len(), restart), (0, vec!["tls.listen"]));
    let (config, applied, restart) = follow(load_good(""), defaults());
    assert_eq!(config.tls.certificates.len(), with_tls.len());
    assert_eq!((applied.len(), restart), (0, vec!["tls.listen"]));
}

#[test]
fn a_reload_switches_dtls_neither_on_nor_off() {
    let (on, off) = (load_good(""), load_good("[tls]\ndtls = false"));
    let (config, _, restart) = follow(on, off);
    assert!(config.tls.dtls);
    assert_eq!(restart, ["tls.dtls"]);
}
