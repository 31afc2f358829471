//! The loop of a shard: wait, handle what is ready, send what came of it, end what has expired.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::ShardSetup;
use super::acceptors::Acceptors;
use super::connections::Connections;
use super::fair_turn::FairTurn;
use super::freeze::Frozen;
use super::held::HeldSockets;
use super::mailbox::{Mail, Mailbox, Message};
use super::outbox::Outbox;
use super::publisher::Publisher;
use super::relays::Relays;
use super::rings::Rings;
use super::tcp_relays::TcpRelays;
use super::token::{ConnectionId, Token};
use super::turned::Turned;
use super::upstreams::{TlsServers, Upstreams};
use super::ways::Ends;
use crate::net::{Buffers, Clock, Epoll, Events, Readiness, ReceiveBatch, SendBatch, UdpListener};
use crate::time::{Instant, Now, Throttle};
use crate::transport::{DtlsSessions, TlsScratch};
use crate::turn::{
    AllocationKey, ConnectionEnd, Event, Family, Network, PeerConnectionId, Server, Stats,
};

/// Events of one wait; the rest comes with the next, behind those that were served.
const EVENTS: usize = 256;
/// Quiet connections that one pass closes.
const CLOSED_PER_PASS: usize = 256;

/// One UDP listener and how many datagrams are expected of it at a time.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) listener: UdpListener,
    /// Clients may come without DTLS.
    pub(super) plain: bool,
    pub(super) expected: usize,
    pub(super) last_pass: u32,
}

impl Intake {
    fn new(listener: UdpListener, plain: bool) -> Self {
        Self {
            listener,
            plain,
            expected: 1,
            last_pass: 0,
        }
    }
}

/// One shard; lives on its thread.
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) poller: Epoll,
    pub(super) server: Server,
    /// The time of this pass.
    pub(super) now: Now,
    /// Counts passes.
    pub(super) pass: u32,
    pub(super) intakes: Vec<Intake>,
    /// How many of them it reads: all, or none when another process does.
    pub(super) listening: usize,
    pub(super) acceptors: Acceptors,
    /// What TLS sessions start from.
    pub(super) tls: Option<TlsServers>,
    pub(super) tls_scratch: TlsScratch,
    pub(super) upstreams: Upstreams,
    /// Whose connections begin with a header of the PROXY protocol.
    pub(super) balancers: Vec<Network>,
    pub(super) relays: Relays,
    pub(super) relay_buffer: usize,
    pub(super) tcp_relays: TcpRelays,
    pub(super) held: Arc<HeldSockets>,
    pub(super) mail: Arc<Mail>,
    pub(super) rings: Rings,
    /// How much of this pass sockets have had since the listeners had their turn.
    pub(super) turn: FairTurn,
    /// Relay sockets that were held, and in which something may have waited.
    pub(super) arrived: Vec<(AllocationKey, Family)>,
    pub(super) connections: Connections,
    /// The connections that are joined with peers'.
    pub(super) joined: HashMap<PeerConnectionId, ConnectionId>,
    /// What the connection of the request in hand has become.
    pub(super) turned: Option<Turned>,
    pub(super) dtls: Option<DtlsSessions>,
    /// Connections to close at the end of the pass, when their last answers are sent.
    pub(super) doomed: Vec<(ConnectionId, ConnectionEnd)>,
    pub(super) buffers: Buffers,
    pub(super) receiving: ReceiveBatch,
    pub(super) sending: SendBatch,
    pub(super) outbox: Outbox,
    pub(super) accept_warnings: Throttle,
    pub(super) relay_warnings: Throttle,
    pub(super) upstream_warnings: Throttle,
    publisher: Publisher,
    pub(super) mailbox: Mailbox,
    pub(super) clock: Clock,
    /// While another process takes over.
    pub(super) frozen: Option<Frozen>,
    /// The process that took over passes on what is of clients that stay here.
    pub(super) successor: Ends,
    /// Where to pass on what is of those that stay in the process from which this one took over.
    pub(super) former: Ends,
    stopping: bool,
}

impl Shard {
    pub(super) fn new(setup: ShardSetup, poller: Epoll) -> Self {
        let mut sockets = setup.sockets;
        let plain = mem::take(&mut sockets.udp).into_iter();
        let over_dtls = mem::take(&mut sockets.dtls).into_iter();
        let intakes: Vec<Intake> = (plain.map(|listener| Intake::new(listener, true)))
            .chain(over_dtls.map(|listener| Intake::new(listener, false)))
            .collect();
        Self {
            index: setup.index,
            poller,
            server: Server::new(setup.server),
            now: setup.clock.now(),
            pass: 0,
            listening: intakes.len(),
            intakes,
            acceptors: Acceptors::new(sockets),
            tls: setup.tls.map(TlsServers::new),
            upstreams: Upstreams::new(setup.upstreams),
            balancers: setup.proxy_protocol_from,
            tls_scratch: TlsScratch::default(),
            relays: Relays::default(),
            relay_buffer: setup.relay_buffer,
            tcp_relays: TcpRelays::default(),
            held: setup.held,
            rings: Rings::new(setup.mail.shards()),
            mail: setup.mail,
            turn: FairTurn::default(),
            arrived: Vec::new(),
            connections: Connections::new(setup.streams, setup.sources),
            joined: HashMap::new(),
            turned: None,
            dtls: (setup.dtls).map(|dtls| dtls.open(&setup.streams, setup.clock)),
            doomed: Vec::new(),
            buffers: Buffers::default(),
            receiving: ReceiveBatch::default(),
            sending: SendBatch::default(),
            outbox: Outbox::default(),
            accept_warnings: Throttle::default(),
            relay_warnings: Throttle::default(),
            upstream_warnings: Throttle::default(),
            publisher: Publisher::new(setup.publish),
            mailbox: setup.mailbox,
            clock: setup.clock,
            frozen: None,
            successor: Ends::default(),
            former: Ends::default(),
            stopping: false,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) -> io::Result<Stats> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopping {
            if self.frozen.is_some() {
                self.rest();
                continue;
            }
            let patience = self.lie_down();
            self.poller.wait(&mut events, patience)?;
            self.mailbox.bell.get_up();
            self.now = self.clock.now();
            self.pass = self.pass.wrapping_add(1);
            self.run_pass(&events);
        }
        self.shut_down();
        Ok(self.server.stats().clone())
    }

    fn run_pass(&mut self, events: &Events) {
        let expired = self.expire();
        let hopped = self.receive_hops();
        self.turn = FairTurn::default();
        for i in 0..events.len() {
            if let Some(ready) = events.get(i) {
                self.serve(ready);
            }
            if self.turn.is_over() {
                (0..self.listening).for_each(|intake| self.receive_from_clients(intake));
                self.receive_hops();
            }
        }
        self.catch_up();
        let closed = self.close_overdue() | self.serve_dtls();
        self.finish_pass();
        if expired || hopped || closed || !events.is_empty() {
            self.publisher.note_change();
        }
        self.publisher
            .publish_due(self.now.instant, self.pass, self.server.stats());
    }

    fn serve(&mut self, ready: Readiness) {
        match Token::from_bits(ready.token) {
            Token::Relay(key, family) => self.receive_from_peers(key, family),
            Token::Listener(i) => self.receive_from_clients(i),
            Token::Connection(id) => self.serve_connection(id, ready),
            Token::Far(id) => self.serve_far(id, ready),
            Token::Tcp(number) => self.serve_tcp_relay(number),
            Token::Acceptor(i) => self.accept_connections(i),
            Token::Successor => self.receive_passed(),
            Token::Bindings => self.take_back(),
            Token::Mailbox => self.read_mailbox(),
        }
    }

    fn read_mailbox(&mut self) {
        self.mailbox.bell.waker.clear();
        // What comes behind the word that freezes the shard is read by `rest`.
        while self.frozen.is_none()
            && let Some(message) = self.mailbox.next()
        {
            self.read_letter(message);
        }
    }

    /// Does what a letter says.
    pub(super) fn read_letter(&mut self, message: Message) {
        match message {
            Message::SetPolicy(policy) => {
                self.server.handle_event(self.now, Event::Policy(policy));
                self.drain();
            }
            Message::SetDtlsIdentity(identity) => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.set_identity(identity);
                }
            }
            Message::Letter(letter) => {
                // An allocation that goes to another shard hears first what has come for it here.
                self.receive_all_hops();
                self.server.handle_event(self.now, Event::Letter(letter));
                self.drain();
            }
            Message::Ring(reader) => self.rings.add(reader),
            Message::SetTls(tls) => self.tls = Some(TlsServers::new(tls)),
            Message::ClosePeer(id) => self.close_peer_here(id),
            Message::SetStreams(limits) => {
                self.connections.set_limits(limits);
                if let Some(dtls) = &mut self.dtls {
                    dtls.set_limits(limits.dtls());
                }
            }
            Message::Publish(asker) => self.publisher.ask(asker),
            Message::Freeze(word) => self.heed(word),
            Message::Stop => self.stopping = true,
        }
    }

    /// Ends what has expired, before a packet of this pass can meet it; tells whether anything had.
    fn expire(&mut self) -> bool {
        let due = self.server.poll_timeout();
        let is_due = due.is_some_and(|due| due <= self.now.instant);
        if is_due {
            self.server.handle_timeout(self.now);
            self.drain();
        }
        is_due
    }

    /// Closes connections that were quiet for too long, after what came of them was read; tells whether
    /// there was one.
    fn close_overdue(&mut self) -> bool {
        let now = self.now.instant;
        let mut any = false;
        for _ in 0..CLOSED_PER_PASS {
            let Some(id) = self.connections.overdue(now) else {
                break;
            };
            self.close_if_quiet(id);
            any = true;
        }
        self.resume_accepting();
        any
    }

    /// Sends what is queued and closes what is to be closed.
    pub(super) fn finish_pass(&mut self) {
        self.flush();
        while let Some((id, end)) = self.doomed.pop() {
            self.close(id, end);
            self.flush();
        }
        self.buffers.reset();
        self.ring_bells();
    }

    /// How long the poller may wait; for ever while nothing is due.
    pub(super) fn patience(&self) -> Option<Duration> {
        let dues = [
            self.server.poll_timeout(),
            self.connections.next_deadline(),
            self.acceptors.resumes_at(),
            self.dtls.as_ref().and_then(DtlsSessions::poll_timeout),
            self.publisher.deadline(),
        ];
        let first: Option<Instant> = dues.into_iter().flatten().min();
        first.map(|due| due.since(self.now.instant))
    }

    fn shut_down(&mut self) {
        while let Some(id) = self.connections.any() {
            self.close(id, ConnectionEnd::Shutdown);
        }
        self.close_dtls();
        self.finish_pass();
        self.publisher.publish_now(self.server.stats());
        tracing::debug!(shard = self.index, "the shard has stopped");
    }
}
