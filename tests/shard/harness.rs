//! Shards on loopback, as control would start them.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part")]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
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
            streams: StreamLimits::default(),
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
    /// Where the kernel tells of the shard's thread.
    pub thread: std::path::PathBuf,
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
    let listen: Vec<SocketAddr> = options
        .listen
        .iter()
        .map(|a| a.parse().expect("an address"))
        .collect();
    let mut group =
        bind_group(&listen, options.shards, &BindOptions::default()).expect("free ports");
    let tls_addresses = bind_tls(options, &mut group);
    let policy = Arc::new(policy(options));
    let shared = Arc::new(Shared::default());
    let held = Arc::new(HeldSockets::default());
    let (sources, dtls_sources) = (Arc::default(), Arc::default());
    let clock = Clock::start();
    let (mail, boxes) = Mail::open(options.shards).expect("descriptors");
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
                seed: [u8::try_from(index).expect("a small number"); 32],
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
                    published.thread =
                        std::fs::canonicalize("/proc/thread-self").expect("a thread");
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

fn bind_tls(options: &Options, group: &mut BoundGroup) -> Vec<SocketAddr> {
    if options.tls.is_none() {
        return Vec::new();
    }
    if options.shared {
        let addresses = group.addresses.clone();
        let all = group.shards.iter_mut();
        all.for_each(|sockets| sockets.share(&addresses));
        return addresses;
    }
    let listen = ["127.0.0.1:0", "[::1]:0"].map(|a| a.parse().expect("an address"));
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
    pub fn wait_for(&self, counter: Counter, value: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.get(counter) != value {
            let now = self.get(counter);
            assert!(
                Instant::now() < deadline,
                "{counter:?} is {now}, not {value}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
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

/// A peer on `ip` that waits at most five seconds for a datagram.
pub fn peer(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).expect("a port");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    socket
}

/// Processor time in nanoseconds that a thread has used.
pub fn processor_time(thread: &std::path::Path) -> u64 {
    let text = std::fs::read_to_string(thread.join("schedstat")).expect("a thread");
    let first = text.split_whitespace().next().expect("a number");
    first.parse().expect("a number")
}
