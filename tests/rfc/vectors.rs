//! The test vectors of RFC 5769 §2, RFC 7635 appendix A and RFC 8489 §9.2.2 and appendix B.1.

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use turnstone::stun::{
    Algorithm, AttributeType, Class, DecodeErrorKind, IntegrityError, Message, MessageBuilder,
    Method, TransactionId,
};
use turnstone::time::UnixTime;
use turnstone::turn::{AccessToken, StoredKey, TokenAlgorithm, TokenKey};

use crate::common::address;

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const MATRIX: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";

const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e20746573 7420636c69656e74
    00240004 6e0001ff
    80290008 932ff9b151263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
    80280004 e57a3bcf";

const IPV4_RESPONSE: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 7465737420766563746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
    80280004 c07d4c96";

const IPV6_RESPONSE: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 7465737420766563746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
    80280004 c8fb0b4c";

const LONG_TERM_REQUEST: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee38388e383aae38383e382afe382b9 0000
    0015001c 662f2f343939 6b393534 64364f4c3334 6f4c394653547679363473 41
    0014000b 6578616d706c652e6f7267 00
    00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666";

const SHA256_REQUEST: &str = "
    0001009c 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38fef6992bda952c6780417da0f 24819415569e60b205c46e41407f1704
    00150029 6f624d61744a6f7332414141 43662f2f3439396b393534643 64f4c33346f4c3946535476793634 7341 000000
    0014000b 6578616d706c652e6f7267 00
    001c0020 e4686c8f0edeb59013e07090010a93ef ccbccc544c0a45d9f830aa6d6f735a01";

const TOKEN_OF_256_BITS: &str = "
    000c 68346a336b326c326e346235
    617ef134a3d5e44e9a19cc7dc104b0c0 3d03b2a551d8fdf5cd3b6dca6f10cfb7 7e5b
    2ddec84d293a5c50499359f0c2e26f76";

const TOKEN_OF_128_BITS: &str = "
    000c 68346a336b326c326e346235
    7fb9e99f0827be3df1e1bd651493d303 1d36df57079784aee5eacb65fad4f27f ab1a
    3f97974b69f851b24bf5af09eda357e0";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
    digits.chunks_exact(2).map(byte).collect()
}

fn text(message: &Message<'_>, kind: AttributeType) -> String {
    let attribute = message.attribute(kind).unwrap();
    attribute.text(763).unwrap().to_owned()
}

/// RFC 5769 §2.1.
#[test]
fn sample_request() {
    let bytes = bytes(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.class(), Class::Request);
    assert_eq!(message.method(), Method::BINDING);
    assert_eq!(text(&message, AttributeType::SOFTWARE), "STUN test client");
    assert_eq!(text(&message, AttributeType::USERNAME), "evtj:h6vY");
    assert_eq!(message.check_integrity(Algorithm::Sha1, PASSWORD), Ok(()));
    assert!(message.has_fingerprint());
    let wrong = message.check_integrity(Algorithm::Sha1, b"another password");
    assert_eq!(wrong, Err(IntegrityError::Mismatch));
}

fn assert_response(hex: &str, mapped: &str) {
    let bytes = bytes(hex);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        (message.class(), message.method()),
        (Class::Success, Method::BINDING)
    );
    assert_eq!(text(&message, AttributeType::SOFTWARE), "test vector");
    let attribute = message
        .attribute(AttributeType::XOR_MAPPED_ADDRESS)
        .unwrap();
    assert_eq!(message.xor_address(&attribute), Ok(address(mapped)));
    assert_eq!(message.check_integrity(Algorithm::Sha1, PASSWORD), Ok(()));
    assert!(message.has_fingerprint());
}

/// RFC 5769 §2.2.
#[test]
fn sample_ipv4_response() {
    assert_response(IPV4_RESPONSE, "192.0.2.1:32853");
}

/// RFC 5769 §2.3.
#[test]
fn sample_ipv6_response() {
    assert_response(
        IPV6_RESPONSE,
        "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
    );
}

/// RFC 5769 §2.2, §2.3: what the builder writes is that, but for padding, which is zero today.
#[test]
fn the_builder_writes_the_sample_responses() {
    for (hex, mapped) in [
        (IPV4_RESPONSE, "192.0.2.1:32853"),
        (
            IPV6_RESPONSE,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let sample = bytes(hex);
        let id = Message::parse(&sample).unwrap().transaction();
        let written = response(id, address(mapped));
        let integrity = sample.len() - 32;
        assert_eq!(written[..35], sample[..35]);
        assert_eq!(written[36..integrity], sample[36..integrity]);
        assert_eq!(written.len(), sample.len());
    }
}

fn response(id: TransactionId, mapped: SocketAddr) -> Vec<u8> {
    let mut buffer = Vec::new();
    MessageBuilder::new(&mut buffer, Class::Success, Method::BINDING, id)
        .attribute(AttributeType::SOFTWARE, b"test vector")
        .xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped)
        .integrity(Algorithm::Sha1, PASSWORD)
        .fingerprint();
    buffer
}

/// RFC 5769 §2.4.
#[test]
fn sample_request_with_long_term_authentication() {
    let sample = bytes(LONG_TERM_REQUEST);
    let message = Message::parse(&sample).unwrap();
    assert_eq!(text(&message, AttributeType::USERNAME), MATRIX);
    assert_eq!(
        text(&message, AttributeType::NONCE),
        "f//499k954d6OL34oL9FSTvy64sA"
    );
    assert_eq!(text(&message, AttributeType::REALM), "example.org");
    let key = StoredKey::derive(
        turnstone::stun::PasswordAlgorithm::Md5,
        MATRIX,
        "example.org",
        "TheMatrIX",
    );
    assert_eq!(
        message.check_integrity(Algorithm::Sha1, key.as_bytes()),
        Ok(())
    );
    let mut written = Vec::new();
    MessageBuilder::new(
        &mut written,
        Class::Request,
        Method::BINDING,
        message.transaction(),
    )
    .attribute(AttributeType::USERNAME, MATRIX.as_bytes())
    .attribute(AttributeType::NONCE, b"f//499k954d6OL34oL9FSTvy64sA")
    .attribute(AttributeType::REALM, b"example.org")
    .integrity(Algorithm::Sha1, key.as_bytes());
    assert_eq!(written, sample);
}

/// RFC 8489 §9.2.2.
#[test]
fn sample_key() {
    let key = StoredKey::derive(
        turnstone::stun::PasswordAlgorithm::Md5,
        "user",
        "realm",
        "pass",
    );
    assert_eq!(key.to_hex(), "8493fbc53ba582fb4c044c456bdc40eb");
}

/// RFC 8489 appendix B.1: its length field counts the header too, against §5, and its HMAC was made
/// over that. What it shows all the same is the key and the hash.
#[test]
fn sample_request_with_sha256() {
    let sample = bytes(SHA256_REQUEST);
    let error = Message::parse(&sample).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::Truncated);
    let (signed, integrity) = sample.split_at(sample.len() - 36);
    let key = Sha256::digest(format!("{MATRIX}:example.org:TheMatrIX"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(signed);
    assert_eq!(mac.finalize().into_bytes()[..], integrity[4..]);
}

/// RFC 7635 appendix A: both samples, sealed and opened.
#[test]
fn access_tokens_of_rfc_7635_appendix_a() {
    let long_term = b"HGkj32KJGiuy098sdfaqbNjOiaz71923";
    let server = "blackdow.carleon.gov";
    let issued = UnixTime(92_470_300_704_768 >> 16);
    let expected = AccessToken::new(b"ZksjpweoixXmvn67534m", issued, 3600).unwrap();
    let samples = [
        (TokenAlgorithm::A256Gcm, TOKEN_OF_256_BITS),
        (TokenAlgorithm::A128Gcm, TOKEN_OF_128_BITS),
    ];
    for (algorithm, sample) in samples {
        let key = TokenKey::new(algorithm, &long_term[..algorithm.key_length()]).unwrap();
        let token = key.open(&bytes(sample), server).unwrap();
        assert_eq!(token, expected);
        let sealed = key.seal(&token, b"h4j3k2l2n4b5", server);
        assert_eq!(sealed, Some(bytes(sample)));
    }
}
