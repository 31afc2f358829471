//! What a probe found out about the NAT (RFC 4787 §4.1, §5).

use std::fmt;
use std::net::SocketAddr;

/// What a NAT looks at, when it chooses a mapping or lets a packet in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Not at the other end: one mapping for all, or everybody is let in.
    EndpointIndependent,
    /// At the address of the other end.
    AddressDependent,
    /// At the address and port of the other end.
    AddressAndPortDependent,
}

impl Behaviour {
    /// As RFC 4787 calls it, in lower case.
    pub const fn label(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What was found out against one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The server that was asked.
    pub server: SocketAddr,
    /// Its alternate address (OTHER-ADDRESS); without one the behaviour cannot be told.
    pub other: Option<SocketAddr>,
    /// Where the requests left from.
    pub local: SocketAddr,
    /// Where they seemed to come from.
    pub mapped: SocketAddr,
    /// How the NAT maps; none when that could not be told.
    pub mapping: Option<Behaviour>,
    /// How the NAT or a firewall filters; none when that could not be told.
    pub filtering: Option<Behaviour>,
    /// Whether hosts behind the NAT reach each other by its outside; none without a NAT.
    pub hairpinning: Option<bool>,
}

impl Findings {
    /// Whether an address was translated on the way.
    pub fn is_behind_nat(&self) -> bool {
        self.mapped != self.local
    }
}

/// Why nothing was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// The server never answered.
    Silent,
    /// The server answered with this error code.
    Refused(u16),
}
