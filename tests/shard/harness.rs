//! Shards on loopback, as control would start them.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part")]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Deref;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use turnstone::config::Upstream;
use turnstone::net::{BindOptions, BoundGroup, Clock, bind_group};
use turnstone::shard::{
    Bequest, DtlsSetup, Freezer, Give, HeldSockets, Inheritance, Mail, ShardHandle, ShardSetup,
    StreamLimits, spawn,
};
use turnstone::stun::ChannelRange;
use turnstone::transport::{DtlsIdentity, TlsServer};
use turnstone::turn::{
    Admission, Alternates, Bandwidth, Counter, Credentials, Direction, Handover, Lifetimes, Limits,
    Network, OwnHost, PeerFilter, Policy, Reason, RelayAddresses, RelaySource, Rule, RuleAction,
    Setup, Shared, Source, Stats, StoredKey,
};

pub const REALM: &str = "example.org";
pub const USER: &str = "alice";
pub const PASSWORD: &str = "wonderland";

/// How long a test waits for what must come. Only a test that fails waits for so long: a machine may leave a
/// thread alone for seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test takes.
pub const NEVER: Duration = Duration::from_secs(24 * 3600);

/// What a test may choose.
pub struct Options {
    pub listen: Vec<&'static str>,
    pub shards: usize,
    pub streams: StreamLimits,
    /// Networks of load balancers.
    pub proxy_protocol_from: Vec<Network>,
    pub upstreams: Vec<Upstream>,
    /// TLS has no listeners of its own, but is served at those of TCP.
    pub shared: bool,
    pub relay_ports: std::ops::RangeInclusive<u16>,
    /// The certificate, when DTLS is served; it may be missing.
    pub dtls: Option<Option<Arc<DtlsIdentity>>>,
    /// Nothing but DTLS is served over UDP.
    pub dtls_alone: bool,
    pub mobility: bool,
    /// Called on the shard's thread before the first counters are published.
    pub on_start: fn(),
    pub bandwidth: Bandwidth,
    /// Shard 1 waits for it whenever it publishes its counters.
    pub gate: Option<Arc<Mutex<()>>>,
    /// Serves TLS on addresses of its own.
    pub tls: Option<TlsServer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:0", "[::1]:0"],
            shards: 1,
            streams: patient_limits(),
            proxy_protocol_from: Vec::new(),
            upstreams: Vec::new(),
            shared: false,
            relay_ports: 20_000..=60_999,
            dtls: None,
            dtls_alone: false,
            mobility: false,
            on_start: || {},
            bandwidth: Bandwidth::default(),
            gate: None,
            tls: None,
        }
    }
}

/// Limits under which nobody has to do anything in time.
fn patient_limits() -> StreamLimits {
    StreamLimits {
        media_age: NEVER,
        silent_after: NEVER,
        idle_after: NEVER,
        ..StreamLimits::default()
    }
}

/// Running shards.
pub struct Shards {
    pub addresses: Vec<SocketAddr>,
    /// IPv4, then IPv6.
    pub tls_addresses: Vec<SocketAddr>,
    mail: Arc<Mail>,
    handles: Vec<ShardHandle>,
    published: Vec<Arc<Mutex<Published>>>,
}

#[derive(Default)]
pub struct Published {
    pub stats: Stats,
    pub times: usize,
}

pub fn start(options: &Options) -> Shards {
    start_with(options, Vec::new())
}

/// Shards that take the place of those of `old`, at addresses of their own. Relay sockets do not come along.
pub fn start_after(options: &Options, old: &Shards) -> Shards {
    let new = start_over(options, old);
    let freezer = old.freezer();
    freezer.hold().expect("all are there");
    freezer.release().expect("all let go");
    new
}

/// Likewise, but that the old ones stand still until they are released.
pub fn start_over(options: &Options, old: &Shards) -> Shards {
    let freezer = old.freezer();
    let lent = freezer.lend().expect("descriptors");
    let (bequests, inheritances): (Vec<_>, Vec<_>) = lent
        .into_iter()
        .map(|lent| Inheritance::expect(lent.ways))
        .unzip();
    let new = start_with(options, inheritances);
    freezer.freeze().expect("they settle");
    let (given, states) = channel();
    let give = || -> Give {
        let given = given.clone();
        Box::new(move |handover, _| given.send(handover.to_bytes()).map_err(io::Error::other))
    };
    freezer.export(give).expect("given");
    for (bequest, state) in bequests.iter().zip(states) {
        bequest.give(Some(Handover::from_bytes(&state).expect("a handover")));
    }
    for bequest in &bequests {
        bequest.imported().expect("taken in");
    }
    bequests.iter().for_each(Bequest::serve);
    new
}

fn start_with(options: &Options, inheritances: Vec<Inheritance>) -> Shards {
    let mut inheritances = inheritances.into_iter();
    // Many tests share the descriptors of the process.
    let _ = turnstone::net::raise_descriptor_limit();
    let server = STARTED.fetch_add(1, Ordering::Relaxed);
    let listen: Vec<_> = options.listen.iter().map(|a| at_home(server, a)).collect();
    let mut group =
        bind_group(&listen, options.shards, &BindOptions::default()).expect("free ports");
    let tls_addresses = bind_tls(options, server, &mut group);
    let policy = Arc::new(policy(options));
    let shared = Arc::new(Shared::default());
    let held = Arc::new(HeldSockets::default());
    let (sources, dtls_sources) = (Arc::default(), Arc::default());
    let clock = Clock::start();
    let (mail, boxes) = Mail::open(options.shards).expect("descriptors");
    let seed = seed(server);
    let mut shards = Shards {
        addresses: group.addresses,
        tls_addresses,
        mail: Arc::clone(&mail),
        handles: Vec::new(),
        published: Vec::new(),
    };
    for (index, (mut sockets, mailbox)) in group.shards.into_iter().zip(boxes).enumerate() {
        if options.dtls_alone {
            sockets.dtls = std::mem::take(&mut sockets.udp);
        }
        let published = Arc::new(Mutex::new(Published::default()));
        shards.published.push(Arc::clone(&published));
        let on_start = options.on_start;
        let gate = options.gate.clone().filter(|_| index == 1);
        let setup = ShardSetup {
            index,
            sockets,
            server: Setup {
                shard: u16::try_from(index).expect("a small number"),
                shards: u16::try_from(options.shards).expect("a small number"),
                seed: seed(index),
                nonce_key: [7; 32],
                policy: Arc::clone(&policy),
                shared: Arc::clone(&shared),
            },
            streams: options.streams,
            sources: Arc::clone(&sources),
            proxy_protocol_from: options.proxy_protocol_from.clone(),
            upstreams: options.upstreams.clone().into(),
            tls: options.tls.clone(),
            relay_buffer: 1 << 20,
            held: Arc::clone(&held),
            mail: Arc::clone(&mail),
            mailbox,
            dtls: options.dtls.clone().map(|identity| DtlsSetup {
                identity,
                cookie_key: [9; 32],
                sources: Arc::clone(&dtls_sources),
            }),
            publish: Box::new(move |stats| {
                if let Some(gate) = &gate {
                    drop(gate.lock().expect("no panic"));
                }
                let mut published = published.lock().expect("no panic");
                if published.times == 0 {
                    on_start();
                }
                published.stats.clone_from(stats);
                published.times += 1;
            }),
            clock,
            inheritance: inheritances.next(),
        };
        shards.handles.push(spawn(setup).expect("a thread"));
    }
    shards
}

/// Servers that were started.
static STARTED: AtomicU16 = AtomicU16::new(1);

/// The address, or instead of 127.0.0.1 one that only this server, its clients and its peers have: what one
/// still says to a client that has gone does not come to whoever has the port next.
fn at_home(server: u16, address: &str) -> SocketAddr {
    let mut address: SocketAddr = address.parse().expect("an address");
    if address.ip() == Ipv4Addr::LOCALHOST {
        let [high, low] = server.to_be_bytes();
        // In each process elsewhere.
        let process = u8::try_from(std::process::id() % 250).expect("a small number") + 1;
        address.set_ip(Ipv4Addr::new(127, process, high, low).into());
    }
    address
}

/// Seeds for the shards of one server. Those that run at the same time draw different relay ports: the ports
/// of one host are for all of them.
fn seed(server: u16) -> impl Fn(usize) -> [u8; 32] {
    let process = u64::from(std::process::id());
    move |shard| {
        let words = [process, server.into(), shard as u64, 0].map(u64::to_le_bytes);
        words.concat().try_into().expect("32 bytes")
    }
}

fn bind_tls(options: &Options, server: u16, group: &mut BoundGroup) -> Vec<SocketAddr> {
    if options.tls.is_none() {
        return Vec::new();
    }
    if options.shared {
        let addresses = group.addresses.clone();
        let all = group.shards.iter_mut();
        all.for_each(|sockets| sockets.share(&addresses));
        return addresses;
    }
    let listen = ["127.0.0.1:0", "[::1]:0"].map(|a| at_home(server, a));
    let over_tcp = BindOptions {
        udp: false,
        ..BindOptions::default()
    };
    let bound = bind_group(&listen, options.shards, &over_tcp).expect("free ports");
    for (sockets, tls) in group.shards.iter_mut().zip(bound.shards) {
        sockets.tls = tls.tcp;
    }
    bound.addresses
}

/// Loopback peers are allowed, or there would be none to test with.
pub fn policy(options: &Options) -> Policy {
    let mut credentials = Credentials::new(REALM);
    credentials.add_user(
        USER,
        StoredKey::derive(
            turnstone::stun::PasswordAlgorithm::Md5,
            USER,
            REALM,
            PASSWORD,
        ),
    );
    // ::1 reads as an IPv4-compatible address too.
    let loopback = ["127.0.0.0/8", "::1/128", "0.0.0.1/32"].map(|network| Rule {
        network: network.parse().expect("a network"),
        action: RuleAction::Allow,
    });
    let as_reached = RelaySource::AsReached { otherwise: None };
    Policy {
        realm: REALM.into(),
        software: None,
        credentials,
        security: turnstone::turn::Security::default(),
        lifetimes: Lifetimes::default(),
        relay: RelayAddresses {
            v4: as_reached.clone(),
            v6: as_reached,
            external: Vec::new(),
            ports: options.relay_ports.clone(),
            tcp: true,
        },
        peers: PeerFilter::new(&loopback, &OwnHost::default()),
        limits: Limits::default(),
        bandwidth: options.bandwidth,
        nat_discovery: None,
        mobility: options.mobility,
        oauth: None,
        rfc3489: false,
        channels: ChannelRange::Rfc8656,
        admission: Admission::Open,
        alternates: Alternates::default(),
    }
}

impl Shards {
    pub fn v4(&self) -> SocketAddr {
        self.find(SocketAddr::is_ipv4)
    }

    pub fn v6(&self) -> SocketAddr {
        self.find(SocketAddr::is_ipv6)
    }

    fn find(&self, family: fn(&SocketAddr) -> bool) -> SocketAddr {
        *self
            .addresses
            .iter()
            .find(|a| family(a))
            .expect("such a listener")
    }

    pub fn freezer(&self) -> Freezer {
        Freezer::new(Arc::clone(&self.mail))
    }

    pub fn handle(&self, shard: usize) -> &ShardHandle {
        &self.handles[shard]
    }

    pub fn published(&self, shard: usize) -> std::sync::MutexGuard<'_, Published> {
        self.published[shard].lock().expect("no panic")
    }

    /// The sum over all shards of what was last published.
    pub fn get(&self, counter: Counter) -> u64 {
        let value = |published: &Arc<Mutex<Published>>| {
            published.lock().expect("no panic").stats.get(counter)
        };
        self.published.iter().map(value).sum()
    }

    /// Waits until `counter` is `value`.
    #[track_caller]
    pub fn wait_for(&self, counter: Counter, value: u64) {
        let tell = || format!("{counter:?} is {}, not {value}", self.get(counter));
        wait_until(tell, || self.get(counter) == value);
    }

    /// Gives every shard other limits on stream clients. They hold for connections that come from now on, and
    /// for the others from the next that they say.
    pub fn limit(&self, change: impl FnOnce(&mut StreamLimits)) {
        let mut limits = patient_limits();
        change(&mut limits);
        let all = self.handles.iter();
        all.for_each(|handle| handle.set_streams(limits));
        self.heed();
    }

    /// Gives every shard what TLS sessions start from.
    pub fn set_tls(&self, tls: &TlsServer) {
        let all = self.handles.iter();
        all.for_each(|handle| handle.set_tls(tls.clone()));
        self.heed();
    }

    /// Has a shard publish its counters, and waits for that; how many passes it has made, this one included.
    pub fn passes(&self, shard: usize) -> u32 {
        let published = self.handles[shard].publish();
        published.recv_timeout(PATIENCE).expect("an answer")
    }

    /// Waits until every shard has read what was said to it up to now: it answers behind that.
    pub fn heed(&self) {
        let hold = || self.freezer().hold().map_err(|error| error.kind());
        let tell = || "a shard reads nothing".to_owned();
        // A shard that is not frozen has nothing to hold.
        wait_until(tell, || hold() == Err(ErrorKind::Other));
    }

    /// Stops all shards, checks that every packet had one outcome, and returns the last counters.
    pub fn stop(self) -> Vec<Stats> {
        self.handles.iter().for_each(ShardHandle::stop);
        let join = |handle: ShardHandle| handle.join().expect("a clean end");
        let stats: Vec<Stats> = self.handles.into_iter().map(join).collect();
        stats.iter().for_each(check_sum);
        stats
    }
}

/// received = relayed + answered + parked + dropped
fn check_sum(stats: &Stats) {
    let sum = |counters: &[Counter]| counters.iter().map(|c| stats.get(*c)).sum::<u64>();
    let received: Vec<_> = Source::ALL
        .iter()
        .map(|s| Counter::ReceivedPackets(*s))
        .collect();
    let relayed: Vec<_> = Direction::ALL
        .iter()
        .map(|d| Counter::RelayedPackets(*d))
        .collect();
    let dropped: Vec<_> = Reason::ALL.iter().map(|r| Counter::Dropped(*r)).collect();
    let others = [Counter::Answered, Counter::Parked];
    assert_eq!(
        sum(&received),
        sum(&relayed) + sum(&dropped) + sum(&others),
        "every packet has one outcome"
    );
}

/// Waits until `is_so`; what is not so is told by `tell`.
#[track_caller]
pub fn wait_until(tell: impl Fn() -> String, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{}", tell());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A peer on `ip` that waits patiently for a datagram.
pub fn peer(ip: IpAddr) -> Peer {
    let socket = UdpSocket::bind((ip, 0)).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Peer(socket)
}

/// The socket of a peer, which waits on when its process was stopped meanwhile.
pub struct Peer(UdpSocket);

impl Deref for Peer {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        &self.0
    }
}

impl Peer {
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.recv(buffer))
    }

    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        uninterrupted(|| self.0.recv_from(buffer))
    }
}

/// The outcome of a system call that is made again when a signal cut it short.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
