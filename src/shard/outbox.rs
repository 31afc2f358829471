//! What is to be sent in this pass, by socket.

use std::net::{IpAddr, SocketAddr};

use super::token::Token;
use crate::net::Span;
use crate::turn::Direction;

/// The most messages of one pass; a flush comes before the next.
const CAPACITY: usize = 256;

/// One message to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// From which socket.
    pub(super) via: Token,
    /// To which address; a connection needs none.
    pub(super) to: SocketAddr,
    /// From which local address, where the socket has several.
    pub(super) source: Option<IpAddr>,
    /// Where its beginning lies, when that is apart from the rest: in datagrams only. Else empty.
    pub(super) head: Span,
    /// Where it lies.
    pub(super) span: Span,
    /// What is to be taken back if it is not sent; none for an answer.
    pub(super) relayed: Option<Relayed>,
}

/// Application data that the core has counted as relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) direction: Direction,
    /// Bytes of application data.
    pub(super) bytes: usize,
}

/// Messages in the order in which they came, and in the order in which they go: by socket, by destination, then
/// as they came, so that those of one destination can leave together. Its memory is reserved once.
#[derive(Debug)]
pub(super) struct Outbox {
    messages: Vec<Message>,
    order: Vec<(u64, Turn)>,
}

/// When a message goes among those of its socket: a number of its destination, which others may share,
/// and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(u64);

impl Turn {
    fn new(to: &SocketAddr, place: usize) -> Self {
        let ip = match to.ip() {
            IpAddr::V4(ip) => ip.to_bits(),
            #[expect(clippy::cast_possible_truncation, reason = "some of its bits")]
            IpAddr::V6(ip) => (ip.to_bits() ^ ip.to_bits() >> 64) as u32,
        };
        let destination = ip ^ u32::from(to.port()).rotate_left(16);
        Self(u64::from(destination) << 32 | place as u64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    const fn place(self) -> usize {
        self.0 as u32 as usize
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            messages: Vec::with_capacity(CAPACITY),
            order: Vec::with_capacity(CAPACITY),
        }
    }
}

impl Outbox {
    pub(super) fn push(&mut self, message: Message) {
        let turn = Turn::new(&message.to, self.messages.len());
        self.order.push((message.via.to_bits(), turn));
        self.messages.push(message);
    }

    /// Whether something is to go out by `via`.
    pub(super) fn has_from(&self, via: Token) -> bool {
        self.messages.iter().any(|message| message.via == via)
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= CAPACITY
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Brings the messages into the order in which they go.
    pub(super) fn sort(&mut self) {
        self.order.sort_unstable();
    }

    /// The messages of one socket after another.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Token, Group<'_>)> {
        let groups = self.order.chunk_by(|a, b| a.0 == b.0);
        groups.map(|places| {
            let group = Group {
                messages: &self.messages,
                places,
            };
            (Token::from_bits(places[0].0), group)
        })
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.order.clear();
    }
}

/// The messages of one socket, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    messages: &'a [Message],
    places: &'a [(u64, Turn)],
}

impl<'a> Group<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'a Message> {
        self.places
            .iter()
            .map(move |(_, turn)| &self.messages[turn.place()])
    }

    pub(super) fn len(self) -> usize {
        self.places.len()
    }

    /// The messages from the one at `start` on.
    pub(super) fn from(self, start: usize) -> Self {
        Self {
            places: &self.places[start..],
            ..self
        }
    }

    pub(super) fn get(self, i: usize) -> &'a Message {
        &self.messages[self.places[i].1.place()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(listener: usize, port: u16) -> Message {
        Message {
            via: Token::Listener(listener),
            to: SocketAddr::from(([127, 0, 0, 1], port)),
            source: None,
            head: Span::default(),
            span: Span::default(),
            relayed: None,
        }
    }

    #[test]
    fn messages_are_grouped_by_socket() {
        let mut outbox = Outbox::default();
        for (listener, port) in [(1, 10), (0, 11), (1, 12), (1, 13), (0, 14)] {
            outbox.push(message(listener, port));
        }
        assert!(outbox.has_from(Token::Listener(1)) && !outbox.has_from(Token::Listener(2)));
        outbox.sort();
        let groups: Vec<_> = outbox
            .groups()
            .map(|(via, group)| {
                let ports: Vec<_> = group.iter().map(|message| message.to.port()).collect();
                (via, ports, group.get(0).to.port())
            })
            .collect();
        assert_eq!(groups[0], (Token::Listener(0), vec![11, 14], 11));
        assert_eq!(groups[1], (Token::Listener(1), vec![10, 12, 13], 10));
        let (_, second) = outbox.groups().nth(1).expect("two groups");
        assert_eq!((second.len(), second.from(1).len()), (3, 2));
        assert_eq!(second.from(1).get(0).to.port(), 12);
        outbox.clear();
        assert!(outbox.is_empty() && outbox.groups().next().is_none());
    }
    #[test]
    fn messages_to_one_destination_go_together_and_stay_in_order() {
        let mut outbox = Outbox::default();
        for (i, port) in [7, 9, 7, 8, 9, 7].into_iter().enumerate() {
            let mut message = message(0, port);
            message.relayed = Some(Relayed {
                direction: Direction::ToClient,
                bytes: i,
            });
            outbox.push(message);
        }
        outbox.sort();
        let (_, group) = outbox.groups().next().expect("a group");
        let places = group.iter().map(|message| {
            let bytes = message.relayed.map(|relayed| relayed.bytes);
            (message.to.port(), bytes.expect("media"))
        });
        let expected = [(7, 0), (7, 2), (7, 5), (8, 3), (9, 1), (9, 4)];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }
}
