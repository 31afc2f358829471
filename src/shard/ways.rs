//! The ways between a shard and the one that takes its place in another process, for clients that stay.

use std::io;
use std::os::fd::OwnedFd;

use super::bind_way::BindWay;
use super::record_way::RecordWay;

/// The ends of the new process, on their way to it.
#[derive(Debug, Default)]
pub struct Ways {
    /// Where to pass on the records of DTLS sessions that stay; none without DTLS.
    pub records: Option<OwnedFd>,
    /// Where to hand back the data connections of TCP allocations that stay.
    pub binds: Option<OwnedFd>,
}

/// One end of each.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) records: Option<RecordWay>,
    pub(super) binds: Option<BindWay>,
}

impl Ends {
    /// The ends of both processes; those for records only with DTLS.
    pub(super) fn pair(with_dtls: bool) -> io::Result<(Ways, Self)> {
        let records = with_dtls.then(RecordWay::pair).transpose()?.unzip();
        let (new, old) = BindWay::pair()?;
        let ways = Ways {
            records: records.0,
            binds: Some(new),
        };
        let ends = Self {
            records: records.1,
            binds: Some(old),
        };
        Ok((ways, ends))
    }
}

impl From<Ways> for Ends {
    fn from(ways: Ways) -> Self {
        Self {
            records: ways.records.map(RecordWay::new),
            binds: ways.binds.map(BindWay::new),
        }
    }
}
