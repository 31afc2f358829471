//! Any bytes as a ChannelData message.

use turnstone::stun::ChannelData;

/// One input; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    match ChannelData::parse(data) {
        Ok(message) => {
            let length = u16::try_from(message.payload.len()).expect("a length field's worth");
            assert_eq!(ChannelData::header(message.number, length), data[..4]);
            assert_eq!(message.payload, &data[4..4 + message.payload.len()]);
            assert!((0x4000..=0x4FFF).contains(&message.number.get()));
        }
        Err(error) => assert!(error.offset <= data.len(), "{error}"),
    }
}
