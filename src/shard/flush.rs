//! Sending what is queued.

use std::io;

use super::connection::drop_relayed;
use super::connections::Connections;
use super::event_loop::Shard;
use super::failure::reason;
use super::outbox::{Group, Message};
use super::token::{ConnectionId, Token};
use crate::net::{Buffers, Epoll, Interest, Outgoing};
use crate::time::Instant;
use crate::transport::TlsScratch;
use crate::turn::{ConnectionEnd, Counter, Stats};

impl Shard {
    /// Sends every queued message, socket by socket, and forgets them and the copies among them.
    pub(super) fn flush(&mut self) {
        if self.outbox.is_empty() {
            self.buffers.reset_copies();
            return;
        }
        self.outbox.sort();
        let Self {
            outbox,
            buffers,
            intakes,
            relays,
            connections,
            sending,
            tls_scratch,
            server,
            doomed,
            poller,
            now,
            ..
        } = self;
        let now = now.instant;
        let stats = server.stats_mut();
        for (via, group) in outbox.groups() {
            let datagrams = group.iter().map(|message| outgoing(message, buffers));
            let failed = |i, error: io::Error| count_failure(group.get(i), &error, stats);
            match via {
                Token::Listener(i) => intakes[i].listener.send(sending, datagrams, failed),
                Token::Relay(key, family) => match relays.get(key, family) {
                    Some(relay) => sending.send_from(relay, datagrams, failed),
                    None => count_failures(group, &io::ErrorKind::NotConnected.into(), stats),
                },
                Token::Connection(id) => {
                    let room = (&*buffers, &mut *tls_scratch);
                    let written = write(connections, poller, id, group, room, now, stats);
                    if let Err(end) = written {
                        doomed.push((id, end));
                    }
                }
                Token::Acceptor(_)
                | Token::Far(_)
                | Token::Tcp(_)
                | Token::Successor
                | Token::Bindings
                | Token::Mailbox => {}
            }
        }
        outbox.clear();
        buffers.reset_copies();
    }
}

fn outgoing<'a>(message: &Message, buffers: &'a Buffers) -> Outgoing<'a> {
    Outgoing {
        to: message.to,
        source: message.source,
        head: buffers.bytes(message.head),
        bytes: buffers.bytes(message.span),
    }
}

fn write(
    connections: &mut Connections,
    poller: &Epoll,
    id: ConnectionId,
    group: Group<'_>,
    (buffers, scratch): (&Buffers, &mut TlsScratch),
    now: Instant,
    stats: &mut Stats,
) -> Result<(), ConnectionEnd> {
    let Some(connection) = connections.get(id) else {
        group
            .iter()
            .for_each(|message| drop_relayed(message, stats));
        return Ok(());
    };
    let sent = connection.send(group, buffers, scratch, now, stats);
    let transport = connection.five_tuple.transport;
    stats.add(Counter::ConnectionBytes(transport), connection.take_sent());
    sent?;
    update_interest(connection, poller, id)
}

/// Has the poller tell of room to write while something waits for it, and only then.
pub(super) fn update_interest(
    connection: &mut super::connection::Connection,
    poller: &Epoll,
    id: ConnectionId,
) -> Result<(), ConnectionEnd> {
    let Some(awaits_room) = connection.changes_interest() else {
        return Ok(());
    };
    let interest = if awaits_room {
        Interest::ReadWrite
    } else {
        Interest::Read
    };
    let token = Token::Connection(id).to_bits();
    poller
        .modify(&*connection, token, interest)
        .map_err(|_| ConnectionEnd::Closed)
}

/// Takes back that a packet was relayed. A lost answer is not counted: the client asks again.
fn count_failures(group: Group<'_>, error: &io::Error, stats: &mut Stats) {
    group
        .iter()
        .for_each(|message| count_failure(message, error, stats));
}

fn count_failure(message: &Message, error: &io::Error, stats: &mut Stats) {
    tracing::trace!(to = %message.to, %error, "not sent");
    if let Some(relayed) = message.relayed {
        stats.relay_failed(relayed.direction, relayed.bytes, reason(error));
    }
}
