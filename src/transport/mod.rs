//! Sessions between a connection and the messages in it; no socket is touched here.

mod proxy_protocol;
mod stream;

pub use proxy_protocol::{MalformedProxyHeader, ProxyHeader};
pub use stream::{Frame, Framer, Garbled, LARGEST_FRAME};
