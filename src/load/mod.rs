//! Load on any STUN or TURN server, and what became of it.
//!
//! Each worker is a thread with clients of its own. It makes their allocations, sends what a
//! [`Plan`] says and notes what comes back; nothing is shared between workers while packets flow.
//! Control messages are written and read by the crates `stun` and `turn`, so that a mistake of this
//! server's own codec cannot hide behind the same mistake in its load tester. Packets carry the time at
//! which they were due, not at which they were sent: a sender that falls behind makes latency worse,
//! not invisible.

mod caller;
mod datagrams;
mod drive;
mod dtls;
mod enrol;
mod error;
mod family;
mod fleet;
mod inbox;
mod intake;
mod link;
mod outbound;
mod plan;
mod progress;
mod report;
mod run;
mod schedule;
mod search;
mod shape;
mod shares;
mod stamp;
mod tally;
mod tls;
mod trial;
mod watch;
mod window;
mod wire;
mod worker;

pub use error::LoadError;
pub use plan::{Carrier, Login, Pace, Plan, Target, Traffic, Transport, Workload};
pub use progress::{Progress, Stage};
pub use report::{Report, Section, html};
pub use run::run;
pub use trial::{Handshakes, Latency, Moment, SetUp, Trial};
pub use watch::{CpuTime, Server};
