//! One Binding request and its retransmissions (RFC 8489 §6.2.1).

use std::net::SocketAddr;
use std::time::Duration;

use super::nat::Via;
use crate::stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};
use crate::time::Instant;

/// How often a request is sent.
const RC: u32 = 7;
/// How many RTOs the last one is waited for.
const RM: u32 = 16;

/// What a success response said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) mapped: SocketAddr,
    pub(super) other: Option<SocketAddr>,
    /// From the first request to the answer, if it was sent only once.
    pub(super) round_trip: Option<Duration>,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Answered(Answer),
    /// An error response, or one from where it was not to come from.
    Refused(u16),
    Silent,
}

/// One Binding request.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) via: Via,
    pub(super) to: SocketAddr,
    /// Where the answer is to come from.
    pub(super) expected: SocketAddr,
    pub(super) state: State,
    pub(super) request: Vec<u8>,
    id: TransactionId,
    rto: Duration,
    sent: u32,
    started: Instant,
    due: Instant,
    end: Instant,
}

/// When and how patiently a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) start: Instant,
    pub(super) rto: Duration,
    /// The whole transaction ends after this time at the latest.
    pub(super) patience: Duration,
}

impl Transaction {
    /// A request to `to` by `via`; `change` are the flags of CHANGE-REQUEST, none without it.
    pub(super) fn new(id: TransactionId, via: Via, to: SocketAddr, pace: Pace) -> Self {
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, Class::Request, Method::BINDING, id);
        Self {
            via,
            to,
            expected: to,
            state: State::Waiting,
            request,
            id,
            rto: pace.rto,
            sent: 0,
            started: pace.start,
            due: pace.start,
            end: pace.start + pace.patience,
        }
    }

    /// Asks for an answer from `expected`, which the `flags` of CHANGE-REQUEST stand for.
    pub(super) fn changed(mut self, flags: u32, expected: SocketAddr) -> Self {
        let mut request = Vec::new();
        MessageBuilder::new(&mut request, Class::Request, Method::BINDING, self.id)
            .u32(AttributeType::CHANGE_REQUEST, flags);
        self.request = request;
        self.expected = expected;
        self
    }

    /// When something is to be done, while it waits.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.state == State::Waiting).then(|| self.due.min(self.end))
    }

    /// Whether the request is to be sent now. Gives up when it was sent often enough.
    pub(super) fn is_to_be_sent(&mut self, now: Instant) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        if self.sent == RC || now >= self.end {
            self.state = State::Silent;
            return false;
        }
        let pause = if self.sent + 1 == RC {
            self.rto * RM
        } else {
            self.rto * (1 << self.sent)
        };
        self.sent += 1;
        self.due = now + pause;
        true
    }

    /// Whether `message` belongs to it.
    pub(super) fn owns(&self, message: &Message<'_>) -> bool {
        message.transaction() == self.id && message.method() == Method::BINDING
    }

    /// Takes the response `message` that came from `from`.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message<'_>,
    ) {
        if self.state != State::Waiting || from != self.expected && from != self.to {
            return;
        }
        match message.class() {
            Class::Error => self.state = State::Refused(error_code(message)),
            // The server has overlooked what it was asked for.
            Class::Success if from != self.expected => self.state = State::Refused(0),
            Class::Success => {
                if let Some(mapped) = mapped(message) {
                    let once = (self.sent == 1).then(|| now.since(self.started));
                    self.state = State::Answered(Answer {
                        mapped,
                        other: address(message, AttributeType::OTHER_ADDRESS),
                        round_trip: once,
                    });
                }
            }
            Class::Request | Class::Indication => {}
        }
    }
}

fn error_code(message: &Message<'_>) -> u16 {
    let value = message
        .attribute(AttributeType::ERROR_CODE)
        .map(|attribute| attribute.value);
    match value {
        Some([_, _, class, number, ..]) => u16::from(*class) * 100 + u16::from(*number),
        _ => 500,
    }
}

fn mapped(message: &Message<'_>) -> Option<SocketAddr> {
    let xored = message.attribute(AttributeType::XOR_MAPPED_ADDRESS);
    let xored = xored.and_then(|attribute| message.xor_address(&attribute).ok());
    xored.or_else(|| address(message, AttributeType::MAPPED_ADDRESS))
}

fn address(message: &Message<'_>, kind: AttributeType) -> Option<SocketAddr> {
    let attribute = message.attribute(kind)?;
    message.address(&attribute).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn transaction(patience: Duration) -> Transaction {
        let pace = Pace {
            start: Instant::ZERO,
            rto: Duration::from_millis(500),
            patience,
        };
        let id = TransactionId(*b"abcdefghijkl");
        Transaction::new(id, Via::Main, at("192.0.2.10:3478"), pace)
    }

    /// When it is sent, in milliseconds, and when it gives up.
    fn schedule(mut transaction: Transaction) -> (Vec<u64>, u64) {
        let mut sent = Vec::new();
        let mut last = 0;
        while let Some(due) = transaction.due() {
            last = due.as_nanos() / 1_000_000;
            if transaction.is_to_be_sent(due) {
                sent.push(last);
            }
        }
        assert_eq!(transaction.state, State::Silent);
        (sent, last)
    }

    /// RFC 8489 §6.2.1, its example.
    #[test]
    fn retransmissions_are_those_of_the_rfc() {
        let (sent, end) = schedule(transaction(Duration::from_secs(60)));
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
        assert_eq!(end, 39_500);
    }

    #[test]
    fn patience_ends_it_earlier() {
        let (sent, end) = schedule(transaction(Duration::from_secs(1)));
        assert_eq!((sent.as_slice(), end), (&[0, 500][..], 1000));
    }
}
