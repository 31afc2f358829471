//! Sessions between a connection and the messages in it; no socket is touched here.

mod stream;

pub use stream::{Frame, Framer, Garbled, LARGEST_FRAME};
