//! A request under way and its retransmissions (RFC 8489 §6.2.1, §6.2.2).

use std::time::Duration;

use turnstone::stun::TransactionId;
use turnstone::time::Instant;
use turnstone::turn::Transport;

/// The first retransmission timeout; each next one is twice as long.
const RTO: Duration = Duration::from_millis(500);
/// How often a request is sent.
const RC: u32 = 7;
/// How many first timeouts the last one waits.
const RM: u32 = 16;
/// How long a request over a stream waits.
const TI: Duration = Duration::from_millis(39_500);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Binding,
    Allocate,
    /// Refresh for so many seconds.
    Refresh(u32),
    /// CreatePermission for the target with this place.
    Permit(usize),
    /// ChannelBind for the target with this place.
    Bind(usize),
}

/// A request that waits for its response.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) id: TransactionId,
    pub(crate) ask: Ask,
    message: Vec<u8>,
    is_stream: bool,
    sent: u32,
    timeout: Duration,
    due: Instant,
}

impl Transaction {
    /// A request that is sent at `now` for the first time.
    pub(crate) fn new(
        now: Instant,
        id: TransactionId,
        ask: Ask,
        message: Vec<u8>,
        transport: Transport,
    ) -> Self {
        let is_stream = transport.is_stream();
        let timeout = if is_stream { TI } else { RTO };
        Self {
            id,
            ask,
            message,
            is_stream,
            sent: 1,
            timeout,
            due: now + timeout,
        }
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// When due: the message to send again, or none when it is time to give up.
    pub(crate) fn again(&mut self) -> Option<&[u8]> {
        if self.is_stream || self.sent == RC {
            return None;
        }
        self.sent += 1;
        self.timeout = if self.sent == RC {
            RTO * RM
        } else {
            self.timeout * 2
        };
        self.due = self.due + self.timeout;
        Some(&self.message)
    }
}

#[test]
fn requests_are_sent_at_the_times_of_the_rfc() {
    let id = TransactionId([0; 12]);
    let mut request = Transaction::new(
        Instant::ZERO,
        id,
        Ask::Binding,
        b"request".to_vec(),
        Transport::Udp,
    );
    let mut times = Vec::new();
    loop {
        times.push(request.due().as_nanos() / 1_000_000);
        if request.again().is_none() {
            break;
        }
    }
    assert_eq!(times, [500, 1500, 3500, 7500, 15_500, 31_500, 39_500]);
}
