//! Where clients go in place of here: the alternate servers (RFC 8489 §10, RFC 8656 §7.2).

use std::net::SocketAddr;
use std::sync::Arc;

use super::five_tuple::{Family, FiveTuple, Transport};
use crate::stun::{AttributeType, MessageBuilder, TransactionId};

/// Whether new allocations are made here. Those that exist go on in any case, and Binding requests are
/// answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Here, all of them.
    #[default]
    Open,
    /// At an alternate server (300); here only for clients that no alternate serves.
    Elsewhere,
    /// Not here: at an alternate server (300), or nowhere (508).
    Closed,
}

/// The alternate servers, by what their clients speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alternates {
    plain: ByFamily,
    secure: ByFamily,
    domain: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ByFamily([Vec<SocketAddr>; 2]);

impl ByFamily {
    fn new(servers: &[SocketAddr]) -> Self {
        let of = |family| {
            let is_of_family = |server: &&SocketAddr| Family::of(server.ip()) == family;
            servers.iter().filter(is_of_family).copied().collect()
        };
        Self(Family::ALL.map(of))
    }

    fn pick(&self, family: Family, transaction: TransactionId) -> Option<SocketAddr> {
        let servers = &self.0[family as usize];
        let draw = transaction.0.iter();
        let draw = draw.fold(0, |draw, byte| draw << 8 | u128::from(*byte));
        let place = draw.checked_rem(servers.len() as u128)?;
        servers.get(usize::try_from(place).ok()?).copied()
    }
}

impl Alternates {
    /// The alternates `plain` for clients over UDP and TCP, `secure` for those over TLS and DTLS;
    /// `domain` is in the certificate of the latter, when it is not in ours (255 ASCII characters at
    /// most).
    pub fn new(plain: &[SocketAddr], secure: &[SocketAddr], domain: Option<&str>) -> Self {
        Self {
            plain: ByFamily::new(plain),
            secure: ByFamily::new(secure),
            domain: domain.map(Into::into),
        }
    }

    /// Where the client goes that asked by `from`, if any alternate has an address of its family. Among
    /// several the transaction id decides, which is random and the same in a retransmission.
    pub(super) fn pick(&self, from: &FiveTuple, transaction: TransactionId) -> Option<Alternate> {
        let is_secure = matches!(from.transport, Transport::Tls | Transport::Dtls);
        let servers = if is_secure { &self.secure } else { &self.plain };
        let (family, other) = match Family::of(from.client.ip()) {
            Family::V4 => (Family::V4, Family::V6),
            Family::V6 => (Family::V6, Family::V4),
        };
        Some(Alternate {
            server: servers.pick(family, transaction)?,
            other: servers.pick(other, transaction),
            domain: self.domain.clone().filter(|_| is_secure),
        })
    }
}

/// Where one client is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternate {
    /// Of the family that the client came by.
    server: SocketAddr,
    /// Of the other family.
    other: Option<SocketAddr>,
    domain: Option<Arc<str>>,
}

impl Alternate {
    /// ALTERNATE-SERVER once or twice, ALTERNATE-DOMAIN (RFC 8489 §14.15, §14.16).
    pub(super) fn write(&self, builder: &mut MessageBuilder<'_>) {
        for server in [Some(self.server), self.other].into_iter().flatten() {
            builder.address(AttributeType::ALTERNATE_SERVER, server);
        }
        if let Some(domain) = &self.domain {
            builder.attribute(AttributeType::ALTERNATE_DOMAIN, domain.as_bytes());
        }
    }
}
