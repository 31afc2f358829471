//! `turnstone nat`: how the NAT between here and a server behaves.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::args::NatArgs;
use super::{Failure, nat_text, output, server_address};
use crate::net::{Clock, Epoll, Events, Interest};
use crate::probe::{Findings, NatProbe, ProbeError, Setup, Via};

const DEFAULT_PORT: u16 = 3478;
/// The longest datagram there is.
const LONGEST: usize = 65_536;
/// All that RFC 8489 §6.2.1 waits for one answer.
const PATIENCE: Duration = Duration::from_millis(39_500);

/// Prints what the NAT does, or fails when that cannot be told.
pub(super) fn nat(args: &NatArgs) -> Result<(), Failure> {
    let server = server_address::resolve(&args.server, DEFAULT_PORT)?;
    let patience = args.timeout.unwrap_or(PATIENCE);
    let outcome =
        probe(server, patience).map_err(|error| format!("cannot ask {server}: {error}"))?;
    let findings = outcome.map_err(|error| nothing_found(server, error))?;
    let text = if args.json {
        nat_text::json(&findings)
    } else {
        nat_text::words(&findings)
    };
    output::say(&text)?;
    missing(&findings).map_or(Ok(()), Err)
}

/// The two sockets of a probe, and the clock that it runs by.
struct Sockets {
    main: UdpSocket,
    second: UdpSocket,
    poller: Epoll,
    clock: Clock,
}

impl Sockets {
    /// Both on the address that packets to `server` leave from.
    fn open(server: SocketAddr) -> io::Result<Self> {
        let unspecified = match server {
            SocketAddr::V4(_) => IpAddr::from([0; 4]),
            SocketAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let route = UdpSocket::bind((unspecified, 0))?;
        route.connect(server)?;
        let local = route.local_addr()?.ip();
        let socket = || {
            let socket = UdpSocket::bind((local, 0))?;
            socket.set_nonblocking(true).map(|()| socket)
        };
        let sockets = Self {
            main: socket()?,
            second: socket()?,
            poller: Epoll::new()?,
            clock: Clock::start(),
        };
        for via in [Via::Main, Via::Second] {
            let socket = sockets.of(via);
            sockets.poller.add(socket, via as u64, Interest::Read)?;
        }
        Ok(sockets)
    }

    const fn of(&self, via: Via) -> &UdpSocket {
        match via {
            Via::Main => &self.main,
            Via::Second => &self.second,
        }
    }

    /// Sends what is due. What cannot be sent is as good as lost, but for the way to the server.
    fn send(&self, probe: &mut NatProbe, server: SocketAddr) -> io::Result<()> {
        while let Some(request) = probe.poll_transmit(self.clock.now().instant) {
            let sent = self.of(request.via).send_to(&request.bytes, request.to);
            if request.to == server && request.via == Via::Main {
                sent?;
            }
        }
        Ok(())
    }

    /// Takes in everything that has come.
    fn receive(&self, probe: &mut NatProbe, buffer: &mut [u8]) {
        for via in [Via::Main, Via::Second] {
            while let Ok((length, from)) = self.of(via).recv_from(buffer) {
                let now = self.clock.now().instant;
                probe.handle_packet(now, via, from, &buffer[..length]);
            }
        }
    }
}

fn probe(server: SocketAddr, patience: Duration) -> io::Result<Result<Findings, ProbeError>> {
    let sockets = Sockets::open(server)?;
    let mut seed = [0; 12];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let setup = Setup {
        server,
        local: sockets.main.local_addr()?,
        seed,
        patience,
    };
    let mut probe = NatProbe::new(setup, sockets.clock.now().instant);
    let mut events = Events::with_capacity(2);
    let mut buffer = vec![0; LONGEST];
    loop {
        sockets.send(&mut probe, server)?;
        if let Some(outcome) = probe.outcome() {
            return Ok(outcome);
        }
        let now = sockets.clock.now().instant;
        let wait = probe.poll_timeout().map(|due| due.since(now));
        sockets.poller.wait(&mut events, wait)?;
        sockets.receive(&mut probe, &mut buffer);
    }
}

fn nothing_found(server: SocketAddr, error: ProbeError) -> Failure {
    match error {
        ProbeError::Silent => format!(
            "no answer from {server}: UDP is blocked on the way, or no STUN server listens there"
        ),
        ProbeError::Refused(code) => {
            format!(
                "{server} refuses a plain Binding request with error {code}; try another server"
            )
        }
    }
}

/// Why not everything could be told, if so.
fn missing(findings: &Findings) -> Option<Failure> {
    let server = findings.server;
    if findings.other.is_none() {
        return Some(format!(
            "{server} has no alternate address (RFC 5780), so it cannot tell how the NAT behaves; \
             try another server"
        ));
    }
    if findings.filtering.is_none() {
        return Some(format!(
            "{server} does not answer from its alternate address when asked to (CHANGE-REQUEST), so \
             filtering is not known"
        ));
    }
    findings.mapping.is_none().then(|| {
        format!("the alternate address of {server} does not answer, so mapping is not known")
    })
}
