//! Why the gate for peers refuses one.

/// Why a peer may not be relayed to (requirement S4). A closed set: each is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRefusal {
    /// It is, or is an encoding of, an address of a special-purpose block, and no rule allows it.
    SpecialPurpose,
    /// It is an address of this host or of a network that the host is in, and neither a live relay nor
    /// allowed by a rule.
    OwnHost,
    /// The server listens there.
    OwnListener,
    /// A rule of the operator denies it.
    OperatorRule,
}

impl PeerRefusal {
    /// Every value, in label order.
    pub const ALL: &'static [Self] = &[
        Self::SpecialPurpose,
        Self::OwnHost,
        Self::OwnListener,
        Self::OperatorRule,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SpecialPurpose => "special_purpose",
            Self::OwnHost => "own_host",
            Self::OwnListener => "own_listener",
            Self::OperatorRule => "operator_rule",
        }
    }
}
