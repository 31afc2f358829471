//! What the two processes tell each other about themselves.

use std::fmt;
use std::fs::{metadata, read_to_string};
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use super::kin::Side;
use super::line::LineError;
use crate::control::VERSION;
use crate::turn::Handover;

/// The version of the conversation. Changes with its words and with what the sockets are set to. In every
/// version it begins with the same two lines, and with frames that hold at least a [`Speaker`].
pub(super) const PROTOCOL: u32 = 2;

/// What a process of any version says first.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Speaker {
    pub(super) protocol: u32,
    /// The version of the program.
    pub(super) version: String,
    /// The newest format of a state that it reads.
    #[serde(default)]
    pub(super) format: u32,
}

impl Speaker {
    /// The process on `side`, which has said `bytes`.
    ///
    /// # Errors
    /// Why it and this one do not understand each other.
    pub(super) fn heard(bytes: &[u8], side: Side) -> Result<Self, LineError> {
        let speaker: Self = read(bytes)?;
        let (old, new) = match side {
            Side::Older => (&*speaker.version, VERSION),
            Side::Newer => (VERSION, &*speaker.version),
        };
        let differ = if speaker.protocol != PROTOCOL {
            format!("they speak protocol {PROTOCOL} and {}", speaker.protocol)
        } else if side == Side::Newer && speaker.format < Handover::FORMAT {
            let (own, other) = (Handover::FORMAT, speaker.format);
            format!("the state is of format {own}, and the new one reads {other} at most")
        } else {
            return Ok(speaker);
        };
        Err(LineError::Refused(format!(
            "version {old} runs, and cannot hand over to version {new}: {differ}; stop the server and start \
             it anew"
        )))
    }
}

/// The first word of the new process.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// The version of the program.
    pub(super) version: &'static str,
    /// The newest format of a state that it reads.
    pub(super) format: u32,
}

impl Hello {
    /// That of this process.
    pub(super) const fn own() -> Self {
        Self {
            protocol: PROTOCOL,
            version: VERSION,
            format: Handover::FORMAT,
        }
    }
}

/// What the old process is, and the descriptors that come with it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) protocol: u32,
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) service: Option<Service>,
    pub(super) shards: u16,
    /// What each descriptor is, in their order.
    pub(super) descriptors: Vec<Offered>,
    /// A user whose password lives in the process only.
    pub(super) user: Option<OfferedUser>,
    /// Keys the cookies of DTLS.
    pub(super) cookie_key: [u8; 32],
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Offered {
    /// Listens for clients; those of one address come in the order of the shards.
    Clients,
    /// Takes the records of DTLS sessions that stay; one for each shard in their order, or none.
    Records,
    /// Takes data connections of TCP allocations that stay; likewise.
    Binds,
    /// Listens for metrics.
    Metrics,
    /// Listens for commands.
    Control,
    /// Tells the service manager.
    Manager,
    /// Takes the deed; one, the last.
    Claim,
}

/// A user whose password was made up.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct OfferedUser {
    pub(super) name: String,
    pub(super) password: String,
}

/// How the old process ended its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Farewell {
    /// Allocations that moved.
    pub(super) moved: usize,
    /// Allocations that stay.
    pub(super) stay: usize,
}

/// Which file a program is: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Binary(u64, u64);

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl Binary {
    /// That of this process.
    pub(in crate::control) fn own() -> Option<Self> {
        let file = metadata("/proc/self/exe").ok()?;
        Some(Self(file.dev(), file.ino()))
    }
}

/// Which service a process belongs to: its control groups, as the kernel lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Service(String);

impl Service {
    /// That of this process.
    pub(in crate::control) fn own() -> Option<Self> {
        read_to_string("/proc/self/cgroup").ok().map(Self)
    }

    /// Whether a process of `other` belongs to this service, or to a part of it.
    pub(super) fn has(&self, other: &Self) -> bool {
        let mut lines = self.0.lines().zip(other.0.lines());
        lines.all(|(one, other)| other.starts_with(one))
    }
}

pub(super) fn write(words: &impl Serialize) -> Vec<u8> {
    // Numbers, strings and lists cannot fail to be written to memory.
    serde_json::to_vec(words).unwrap_or_default()
}

pub(super) fn read<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, LineError> {
    serde_json::from_slice(bytes).map_err(|_| LineError::Confused)
}
