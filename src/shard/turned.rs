//! What a client's connection becomes by its request.

/// From here on its bytes are no messages for this server.
#[derive(Debug)]
pub(super) enum Turned {
    /// It is joined with a peer's.
    Joined,
    /// The request is for the process from which this one took over.
    Formers(Box<[u8]>),
}
