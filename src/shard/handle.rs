//! Starting a shard, and talking to it while it runs.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use super::event_loop::Shard;
use super::mailbox::{Mail, Message};
use super::token::Token;
use super::{ShardSetup, StreamLimits};
use crate::net::{Epoll, Interest};
use crate::transport::{DtlsIdentity, TlsServer};
use crate::turn::{Policy, Stats};

/// A shard that runs on its own thread.
#[derive(Debug)]
pub struct ShardHandle {
    index: usize,
    mail: Arc<Mail>,
    thread: JoinHandle<io::Result<Stats>>,
}

/// How a shard failed.
#[derive(Debug)]
pub enum ShardError {
    /// A mistake of ours; the text says where.
    Panicked(String),
    /// The poller failed.
    Io(io::Error),
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(text) => write!(f, "a shard panicked: {text}"),
            Self::Io(error) => write!(f, "a shard's poller failed: {error}"),
        }
    }
}

impl std::error::Error for ShardError {}

/// Starts a shard on a thread named `shard-N`.
///
/// # Errors
/// No thread or descriptor is left.
pub fn spawn(setup: ShardSetup) -> io::Result<ShardHandle> {
    let index = setup.index;
    let mail = Arc::clone(&setup.mail);
    let poller = Epoll::new()?;
    poller.add(
        &setup.mailbox.bell.waker,
        Token::Mailbox.to_bits(),
        Interest::Read,
    )?;
    watch_listeners(&poller, &setup)?;
    let thread = thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || run(setup, poller))?;
    Ok(ShardHandle {
        index,
        mail,
        thread,
    })
}

fn run(mut setup: ShardSetup, poller: Epoll) -> io::Result<Stats> {
    let inheritance = setup.inheritance.take();
    let mut shard = Shard::new(setup, poller);
    if let Some(inheritance) = inheritance
        && !shard.inherit(inheritance)
    {
        return Ok(Stats::default());
    }
    shard.run()
}

fn watch_listeners(poller: &Epoll, setup: &ShardSetup) -> io::Result<()> {
    let listeners = setup.sockets.udp.iter().chain(&setup.sockets.dtls);
    for (i, listener) in listeners.enumerate() {
        poller.add(listener, Token::Listener(i).to_bits(), Interest::Read)?;
    }
    for (i, listener) in setup.sockets.streams().enumerate() {
        poller.add(listener, Token::Acceptor(i).to_bits(), Interest::Read)?;
    }
    Ok(())
}

impl ShardHandle {
    /// Which shard this is.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Gives the shard a new snapshot of the operator's decisions.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.say(Message::SetPolicy(policy));
    }

    /// Gives the shard the certificate and key of the DTLS sessions that begin from now on.
    pub fn set_dtls_identity(&self, identity: Option<Arc<DtlsIdentity>>) {
        self.say(Message::SetDtlsIdentity(identity));
    }

    /// Gives the shard what TLS sessions start from, from now on.
    pub fn set_tls(&self, tls: TlsServer) {
        self.say(Message::SetTls(tls));
    }

    /// Gives the shard new limits on stream clients.
    pub fn set_streams(&self, limits: StreamLimits) {
        self.say(Message::SetStreams(limits));
    }

    /// Has the shard publish its counters, as they are when it has read all that was said to it before;
    /// hears how many passes of its loop it has made when it has, or that it has ended. One that stands still
    /// for another process says so when it goes on. The number starts anew after 2³² passes.
    pub fn publish(&self) -> Receiver<u32> {
        let (asker, published) = channel();
        self.say(Message::Publish(asker));
        published
    }

    /// Tells the shard to close its connections and end; [`join`](Self::join) waits for it.
    pub fn stop(&self) {
        self.say(Message::Stop);
    }

    fn say(&self, message: Message) {
        self.mail.send(self.index, message);
    }

    /// Whether the thread has ended, by [`stop`](Self::stop) or by a failure.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end and returns the last counters.
    ///
    /// # Errors
    /// How the shard failed.
    pub fn join(self) -> Result<Stats, ShardError> {
        match self.thread.join() {
            Ok(result) => result.map_err(ShardError::Io),
            Err(panic) => Err(ShardError::Panicked(panic_text(panic.as_ref()))),
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
