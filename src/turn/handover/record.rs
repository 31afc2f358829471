//! What is written of each thing that another process takes over.
//!
//! A reader ignores fields that it does not know. A field that an older writer does not write needs a
//! default. What an older reader would misread is a new [`FORMAT`]. Times are what is left of them: no
//! two processes count from the same zero.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;

/// The format of all records together.
pub(super) const FORMAT: u32 = 1;

/// The first line of a handover.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: u32,
    pub(super) shard: u16,
    pub(super) shards: u16,
    pub(super) nonces: NonceRecord,
    /// Mobile allocations are known by numbers below this one.
    #[serde(default)]
    pub(super) mobile_ids: u64,
    /// Which of the processes that took over from one another it is of, as far as a byte counts.
    #[serde(default)]
    pub(super) generation: u8,
    /// How many before it may still serve.
    #[serde(default)]
    pub(super) older: u8,
    /// The faces of relays, of all shards, now or earlier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) faces: Vec<FaceRecord>,
}

/// Only what every format has: which one it is.
#[derive(Deserialize)]
pub(super) struct FormatOnly {
    pub(super) format: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NonceRecord {
    pub(super) key: Bytes,
    /// What the clock of the nonces shows, in milliseconds.
    pub(super) clock_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FaceRecord {
    pub(super) public: IpAddr,
    pub(super) local: IpAddr,
}

/// Each further line of a handover.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Allocation(Box<AllocationRecord>),
    Reservation(ReservationRecord),
    Awaited(AwaitedRecord),
}

/// A client over plain UDP.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ClientRecord {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AllocationRecord {
    /// What the writer calls it.
    pub(super) token: u64,
    pub(super) from: ClientRecord,
    pub(super) owner: OwnerRecord,
    /// Whose quota it counts against; the owner's if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) person: Option<PersonRecord>,
    pub(super) origin: OriginRecord,
    /// One, or one of each family; the first is the one that responses name first.
    pub(super) relays: Vec<RelayRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) permissions: Vec<PermissionRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) channels: Vec<ChannelRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mobile: Option<MobileRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OwnerRecord {
    pub(super) username: String,
    pub(super) proof: ProofRecord,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProofRecord {
    Password {
        /// 16 bytes of MD5 or 32 of SHA-256.
        key: Bytes,
        /// Seconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    /// An access token as it is before it is sealed (RFC 7635 §6.2).
    Token(Bytes),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PersonRecord {
    User(String),
    Session(Bytes),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OriginRecord {
    pub(super) transaction: Bytes,
    #[serde(default)]
    pub(super) fingerprint: bool,
    /// The response is signed with HMAC-SHA256 instead of HMAC-SHA1.
    #[serde(default)]
    pub(super) sha256: bool,
    /// Seconds.
    pub(super) lifetime: u64,
    /// The token under which the port above was reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reserved: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<MissingRecord>,
    #[serde(default)]
    pub(super) mobile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FamilyRecord {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct MissingRecord {
    pub(super) family: FamilyRecord,
    #[serde(default)]
    pub(super) unsupported: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct RelayRecord {
    pub(super) local: IpAddr,
    pub(super) public: SocketAddr,
    /// Nanoseconds, as in all that follows.
    pub(super) left: u64,
}

impl RelayRecord {
    /// What the socket is bound to.
    pub(super) fn bind_address(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.public.port())
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PermissionRecord {
    pub(super) peer: IpAddr,
    pub(super) left: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ChannelRecord {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) left: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MobileRecord {
    /// What the writer calls it, for all of its shards.
    pub(super) id: u64,
    pub(super) ticket: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) offered: Option<Bytes>,
    /// Where its client is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<ClientRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReservationRecord {
    pub(super) token: Bytes,
    pub(super) relay: RelayRecord,
    pub(super) person: PersonRecord,
    pub(super) source: IpAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AwaitedRecord {
    pub(super) from: ClientRecord,
    pub(super) mobile: u64,
    pub(super) owner: OwnerRecord,
    pub(super) transaction: Bytes,
    /// Seconds.
    pub(super) lifetime: u64,
    pub(super) ticket: Bytes,
}
