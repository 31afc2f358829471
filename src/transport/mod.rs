//! Sessions between a connection and the messages in it; no socket is touched here.

mod dtls;
mod stream;

pub use dtls::{
    DtlsIdentity, DtlsKeyError, DtlsLimits, DtlsOutput, DtlsSessions, Heard, Unsent, is_dtls,
    is_hello,
};
pub use stream::{Frame, Framer, Garbled, LARGEST_FRAME};
