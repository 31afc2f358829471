//! A worker's clients, the peers that they talk to, and the flows between them.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;

use super::caller::{Account, Caller};
use super::datagrams::unspecified;
use super::enrol::{Enrolment, Script};
use super::error::LoadError;
use super::family::Family;
use super::intake::receive_whole;
use super::link::Opener;
use super::plan::{Carrier, Plan, Traffic, Workload};
use super::progress::Progress;
use super::shape::Shape;
use super::stamp::Origin;
use super::wire::Step;
use crate::net::{Epoll, Interest, open_datagrams};

/// Bytes of a client's socket buffers.
const CLIENT_BUFFER: usize = 512 * 1024;
/// Bytes of a peer's.
const PEER_BUFFER: usize = 8 << 20;
/// Clients with a request under way at a time.
const AT_ONCE: usize = 64;
/// The token of the peer's socket; clients have their number.
pub(super) const PEER: u64 = u64::MAX;

/// Clients of one worker, and their peer.
pub(super) struct Fleet {
    pub(super) plan: Plan,
    account: Account,
    opener: Opener,
    pub(super) callers: Vec<Caller>,
    pub(super) poller: Epoll,
    pub(super) peer: Option<UdpSocket>,
    pub(super) origin: Origin,
    /// One client's failure is nobody else's.
    lenient: bool,
}

/// Where packets of a flow come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This client.
    Client(usize),
    /// The peer, by way of this client's relayed transport address.
    Peer(usize),
}

/// Packets from one end to another.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) shape: Shape,
    /// Of the next packet.
    pub(super) sequence: u16,
    /// Of the latest packet that came.
    pub(super) latest: Option<u16>,
}

impl Flow {
    const fn new(from: End, to: End, shape: Shape) -> Self {
        Self {
            from,
            to,
            shape,
            sequence: 0,
            latest: None,
        }
    }
}

impl Fleet {
    /// Opens the sockets of `clients` clients and of their peer.
    pub(super) fn open(
        plan: &Plan,
        clients: usize,
        origin: Origin,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Self, LoadError> {
        let target = &plan.target;
        let poller = Epoll::new()?;
        let peer = match plan.workload {
            Workload::Relay(_) | Workload::Cycle => Some(open_peer(plan)?),
            _ => None,
        };
        if let Some(peer) = &peer {
            poller.add(peer, PEER, Interest::Read)?;
        }
        let mut opener = Opener::new(target.clone(), CLIENT_BUFFER, plan.workload.gro());
        let mut callers = Vec::with_capacity(clients);
        for number in 0..clients {
            if stop.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            let link = opener.open()?;
            progress.connected(target.transport);
            poller.add(&link, number as u64, Interest::Read)?;
            callers.push(Caller::new(link));
        }
        Ok(Self {
            plan: plan.clone(),
            account: Account::new(target.login.clone(), target.realm.clone()),
            opener,
            callers,
            poller,
            peer,
            origin,
            lenient: false,
        })
    }

    /// Makes what the workload needs of allocations, permissions and channels for these clients, among
    /// whom pairs are together; `made` counts along.
    pub(super) fn enrol(
        &mut self,
        clients: &Range<usize>,
        stop: &AtomicBool,
        made: &AtomicU64,
    ) -> Result<(), LoadError> {
        let first = match self.plan.workload {
            Workload::Binding(_) => Step::Bind,
            // One by one from the start, so that refusals are found before the load begins.
            Workload::Cycle if clients.contains(&0) => return self.try_cycle(stop),
            Workload::Cycle => return Ok(()),
            _ => Step::Allocate(self.plan.target.relayed()),
        };
        self.perform(stop, &mut |client, done| {
            made.fetch_add(u64::from(done.is_some()), Ordering::Relaxed);
            (done.is_none() && clients.contains(&client)).then_some(first)
        })?;
        let introductions = self.introductions(clients)?;
        self.perform(stop, &mut |client, done| match done {
            None => introductions
                .get(client.checked_sub(clients.start)?)
                .copied(),
            Some(_) => None,
        })
    }

    /// A single allocation from its beginning to its end.
    fn try_cycle(&mut self, stop: &AtomicBool) -> Result<(), LoadError> {
        let peer = self.peer_address()?;
        self.perform(stop, &mut |client, done| {
            (client == 0 || done.is_some())
                .then(|| after(done, peer))
                .flatten()
        })
    }

    /// How each client makes its peer known to the server.
    fn introductions(&self, clients: &Range<usize>) -> Result<Vec<Step>, LoadError> {
        let step = |traffic: &Traffic, peer| match traffic.carrier {
            Carrier::Channel => Step::Channel(peer),
            Carrier::Indication => Step::Permit(peer),
        };
        match &self.plan.workload {
            Workload::Relay(traffic) => {
                let peer = self.peer_address()?;
                Ok(vec![step(traffic, peer); clients.len()])
            }
            Workload::Pair(traffic) => clients
                .clone()
                .map(|client| Ok(step(traffic, self.relayed(client ^ 1)?)))
                .collect(),
            _ => Ok(Vec::new()),
        }
    }

    /// Ends all allocations that there are, or that may be because their answer is still on its way.
    pub(super) fn release(&mut self, stop: &AtomicBool) -> Result<(), LoadError> {
        let held: Vec<bool> = self.callers.iter_mut().map(Caller::may_hold).collect();
        self.lenient = true;
        let released = self.perform(stop, &mut |client, done| {
            (done.is_none() && held[client]).then_some(Step::Release)
        });
        self.lenient = false;
        released
    }

    /// Has every client do what `script` says.
    pub(super) fn perform(
        &mut self,
        stop: &AtomicBool,
        script: &mut Script<'_>,
    ) -> Result<(), LoadError> {
        self.perform_and_count(stop, &Cell::new(0), script)
    }

    /// The same; nanoseconds in which there was nothing to do are added to `idle`.
    pub(super) fn perform_and_count(
        &mut self,
        stop: &AtomicBool,
        idle: &Cell<u64>,
        script: &mut Script<'_>,
    ) -> Result<(), LoadError> {
        Enrolment {
            target: &self.plan.target,
            account: &mut self.account,
            opener: &mut self.opener,
            callers: &mut self.callers,
            poller: &self.poller,
            origin: self.origin,
            stop,
            lenient: self.lenient,
            idle,
            at_once: match self.plan.workload {
                Workload::Cycle => usize::MAX,
                _ => AT_ONCE,
            },
            trains: self.plan.workload.gro(),
        }
        .perform(script)
    }

    /// How long the handshakes took that there were since the last call, in nanoseconds.
    pub(super) fn take_handshakes(&mut self) -> Option<Histogram<u64>> {
        self.opener.handshakes.take()
    }

    /// The peer's address.
    pub(super) fn peer_address(&self) -> Result<SocketAddr, LoadError> {
        let peer = self.peer.as_ref().ok_or(LoadError::Bug("no peer"))?;
        Ok(peer.local_addr()?)
    }

    /// The relayed transport address of a client.
    pub(super) fn relayed(&self, client: usize) -> Result<SocketAddr, LoadError> {
        let caller = self.callers.get(client);
        let relayed = caller.and_then(|caller| caller.relayed);
        relayed.ok_or(LoadError::Bug("a client without an allocation"))
    }

    /// The flows that `traffic` is made of.
    pub(super) fn flows(&self, traffic: &Traffic) -> Result<Vec<Flow>, LoadError> {
        let mut flows = Vec::new();
        for client in 0..self.callers.len() {
            let (here, peer) = (End::Client(client), End::Peer(client));
            match self.plan.workload {
                Workload::Binding(_) => flows.push(Flow::new(here, here, Shape::binding())),
                Workload::Pair(_) => {
                    let wanted = if client % 2 == 0 {
                        traffic.up
                    } else {
                        traffic.down
                    };
                    let shape = self.framed(traffic, self.relayed(client ^ 1)?);
                    let flow = Flow::new(here, End::Client(client ^ 1), shape);
                    flows.extend(wanted.then_some(flow));
                }
                _ => {
                    let up = Flow::new(here, peer, self.framed(traffic, self.peer_address()?));
                    let down = Flow::new(peer, here, Shape::bare(traffic.size));
                    flows.extend(traffic.up.then_some(up));
                    flows.extend(traffic.down.then_some(down));
                }
            }
        }
        Ok(flows)
    }

    fn framed(&self, traffic: &Traffic, peer: SocketAddr) -> Shape {
        let in_stream = self.plan.target.transport.is_stream();
        match traffic.carrier {
            Carrier::Channel => Shape::channel_data(traffic.size, in_stream),
            Carrier::Indication => Shape::indication(traffic.size, peer),
        }
    }
}

/// The step of a cycle behind `done`: challenge and Allocate are one step to the script.
pub(super) const fn after(done: Option<Step>, peer: SocketAddr) -> Option<Step> {
    match done {
        None => Some(Step::Allocate(Family::of(peer.ip()))),
        Some(Step::Allocate(_)) => Some(Step::Permit(peer)),
        Some(Step::Permit(_)) => Some(Step::Channel(peer)),
        Some(Step::Channel(_)) => Some(Step::Release),
        Some(Step::Release | Step::Bind) => None,
    }
}

/// A peer's socket where the server reaches it.
fn open_peer(plan: &Plan) -> Result<UdpSocket, LoadError> {
    let server = plan.target.server;
    let ip = match plan.target.peer {
        Some(ip) => ip,
        None => {
            let route = UdpSocket::bind(unspecified(server))?;
            route.connect(server)?;
            route.local_addr()?.ip()
        }
    };
    let peer = open_datagrams(SocketAddr::new(ip, 0), PEER_BUFFER);
    let peer = peer.map_err(|error| LoadError::unbound(error, ip))?;
    receive_whole(&peer, plan.workload.gro())?;
    Ok(peer)
}
