//! What a stranger is told: HelloVerifyRequest, HelloRetryRequest, an alert. Each is shorter than the
//! ClientHello that it answers.

use super::cookie::Cookie;
use super::hello::{HANDSHAKE, Hello, pairs};

const ALERT: u8 = 21;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const DTLS_1_0: [u8; 2] = [0xFE, 0xFF];
const DTLS_1_2: [u8; 2] = [0xFE, 0xFD];
const DTLS_1_3: [u8; 2] = [0xFE, 0xFC];
/// A ServerHello with this random is a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// The suites of DTLS 1.3: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
const SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
/// The groups in the library's order: X25519, P-256, P-384.
const GROUPS: [u16; 3] = [29, 23, 24];

/// handshake_failure: nothing in common.
pub(super) const HANDSHAKE_FAILURE: u8 = 40;
/// protocol_version: too old.
pub(super) const PROTOCOL_VERSION: u8 = 70;

/// A HelloVerifyRequest (RFC 6347 §4.2.1) with the record number of the ClientHello.
pub(super) fn verify_request(hello: &Hello<'_>, cookie: &Cookie, reply: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(64);
    body.extend(DTLS_1_0);
    body.push(32);
    body.extend(cookie);
    handshake(HELLO_VERIFY_REQUEST, hello, &body, reply);
}

/// A HelloRetryRequest (RFC 9147 §5.1), byte for byte what the library would send: it is hashed there.
/// False when nothing is in common.
pub(super) fn retry_request(hello: &Hello<'_>, cookie: &Cookie, reply: &mut Vec<u8>) -> bool {
    let Some(suite) = pairs(hello.suites).find(|suite| SUITES.contains(suite)) else {
        return false;
    };
    let has_share = hello.shared_groups().any(|group| GROUPS.contains(&group));
    let wanted = GROUPS
        .iter()
        .find(|group| pairs(hello.groups).any(|offered| offered == **group));
    let Some(wanted) = wanted
        .filter(|_| !has_share)
        .map(Some)
        .or(has_share.then_some(None))
    else {
        return false;
    };
    let mut extensions = vec![0, 43, 0, 2];
    extensions.extend(DTLS_1_3);
    if let Some(group) = wanted {
        extensions.extend([0, 51, 0, 2]);
        extensions.extend(group.to_be_bytes());
    }
    extensions.extend([0, 44, 0, 34, 0, 32]);
    extensions.extend(cookie);
    let mut body = Vec::with_capacity(128);
    body.extend(DTLS_1_2);
    body.extend(RETRY);
    body.push(0);
    body.extend(suite.to_be_bytes());
    body.push(0);
    body.extend(length(&extensions));
    body.extend(extensions);
    handshake(SERVER_HELLO, hello, &body, reply);
    true
}

/// A fatal alert in the clear.
pub(super) fn alert(description: u8, record_number: u64, reply: &mut Vec<u8>) {
    record(ALERT, record_number, &[2, description], reply);
}

fn handshake(kind: u8, hello: &Hello<'_>, body: &[u8], reply: &mut Vec<u8>) {
    let mut message = vec![kind, 0];
    message.extend(length(body));
    message.extend(hello.message_number.to_be_bytes());
    message.extend([0, 0, 0, 0]);
    message.extend(length(body));
    message.extend(body);
    record(HANDSHAKE, hello.record_number, &message, reply);
}

fn record(kind: u8, number: u64, content: &[u8], reply: &mut Vec<u8>) {
    reply.push(kind);
    reply.extend(DTLS_1_2);
    // Epoch 0, then the number in six bytes.
    reply.extend((number & 0xFFFF_FFFF_FFFF).to_be_bytes());
    reply.extend(length(content));
    reply.extend(content);
}

/// The length of what is written here, which is short.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred bytes")]
fn length(bytes: &[u8]) -> [u8; 2] {
    (bytes.len() as u16).to_be_bytes()
}
