//! Any bytes as a header of the PROXY protocol.

use turnstone::transport::{MalformedProxyHeader, ProxyHeader};

/// One input; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    let read = ProxyHeader::parse(data);
    for cut in 0..data.len() {
        check_beginning(ProxyHeader::parse(&data[..cut]), read, cut);
    }
    if let Ok(Some((header, length))) = read {
        assert!(length <= data.len());
        write_again(header);
    }
}

/// What is known of a beginning stays so, whatever follows it.
fn check_beginning(
    beginning: Result<Option<(ProxyHeader, usize)>, MalformedProxyHeader>,
    whole: Result<Option<(ProxyHeader, usize)>, MalformedProxyHeader>,
    cut: usize,
) {
    match beginning {
        Ok(None) => assert!(
            whole.is_err()
                || whole.is_ok_and(|whole| { whole.is_none_or(|(_, length)| length > cut) })
        ),
        known => assert_eq!(known, whole),
    }
}

/// A header that says the same reads the same.
fn write_again(header: ProxyHeader) {
    let bytes = header.to_bytes();
    assert_eq!(ProxyHeader::parse(&bytes), Ok(Some((header, bytes.len()))));
}
