//! How connections of clients and peers end, and what is lost with them: closed sets, each a metric label.

/// Why a stream connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The client closed it, or the network did.
    Closed,
    /// Its bytes are not STUN or ChannelData, or a longer message than a client without an allocation
    /// has to send.
    Garbled,
    /// It came from a load balancer and did not begin with a sound header of the PROXY protocol.
    ProxyHeader,
    /// It sent no whole message for too long.
    Silent,
    /// The TLS handshake failed.
    Handshake,
    /// The TLS session broke: a record that does not decrypt, or an alert.
    Session,
    /// The client has begun another session from the same address and port (RFC 6347 §4.2.8).
    Replaced,
    /// The client did not read what it was sent.
    Backlog,
    /// The upstream to which it was to go on is not there.
    Upstream,
    /// It is a data connection of the process from which this one took over, which has it now.
    HandedBack,
    /// A limit on connections was reached.
    Refused,
    /// It was a data connection, and the peer's ended.
    PeerGone,
    /// The server stopped.
    Shutdown,
}

/// Why a TLS or DTLS handshake failed. A closed set: each is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The bytes are not TLS.
    NotTls,
    /// The client offers no version that is safe.
    Version,
    /// No cipher suite, group or signature scheme in common.
    Cipher,
    /// The client wants another protocol than STUN or TURN (ALPN, RFC 7443).
    Alpn,
    /// The client does not trust the certificate.
    Certificate,
    /// The client ended it by another alert.
    Alert,
    /// It took too long.
    Timeout,
    /// The client closed the connection, or the network did.
    Closed,
    /// Too many others were going on.
    Refused,
    /// The client broke the rules.
    Protocol,
}

/// What became of a connection that was to go on to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassOutcome {
    /// The upstream accepted it.
    Connected,
    /// The upstream refused it or cannot be reached.
    Unreachable,
    /// The upstream did not answer in time.
    Timeout,
}

/// Why media left the backlog of a slow stream client unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// It had waited for too long.
    Age,
    /// Newer messages needed its room.
    Size,
    /// The connection closed.
    Closed,
}

/// Who opened a peer data connection (RFC 6062 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerOrigin {
    /// The server, for a client's Connect request.
    Connect,
    /// The peer, to the relayed transport address.
    Accept,
}

/// How a peer data connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// Both sides had said all, and all of it was delivered.
    Closed,
    /// The client's connection or the peer's broke.
    Reset,
    /// One side had ended and the other was silent for too long.
    Idle,
    /// No client bound it in time (RFC 6062 §5.2, §5.3).
    Unbound,
    /// The peer had no permission, or the allocation had its share of connections.
    Refused,
    /// The allocation ended.
    AllocationGone,
    /// The server stopped.
    Shutdown,
}
