//! What a new connection is, told by its first bytes.

use std::net::SocketAddr;

use super::upstreams::{Serves, TlsWay, Upstreams};
use crate::transport::{HelloReader, ProxyHeader};

/// The most bytes that are kept of a connection that has not said what it is: more than the longest
/// ClientHello of an honest client, and than the longest header of the PROXY protocol.
const MOST: usize = 8 * 1024;
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
/// The first two bytes of every TLS connection: a handshake record, whatever the version.
const TLS: [u8; 2] = [0x16, 0x03];

/// A connection that has not said what it is: a header of the PROXY protocol that must come first, then
/// STUN, TLS or something else, then what is inside TLS.
#[derive(Debug)]
pub(super) struct Greeting {
    stage: Stage,
    serves: Serves,
    heard: Vec<u8>,
    /// The address that the client connected to, as the balancer names it.
    pub(super) reached: Option<SocketAddr>,
}

#[derive(Debug)]
enum Stage {
    Header,
    First,
    /// So much of what was heard has been read.
    Hello(Box<HelloReader>, usize),
    /// TLS ends here; what is not TURN inside goes on to this upstream.
    Inside(usize),
}

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Not enough.
    Nothing,
    /// Whose connection it is.
    Client(ProxyHeader),
    /// The header is missing or malformed.
    BadHeader,
    /// STUN comes, without TLS or inside it; or nothing that is understood.
    Turn,
    /// TLS comes, and ends here; what is not TURN inside may go on to an upstream.
    Tls(Option<usize>),
    /// It goes on to this upstream.
    PassOn(usize),
}

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unknown,
    Stun,
    Tls,
    Other,
}

impl Greeting {
    /// A connection of a listener that serves `serves`.
    pub(super) const fn new(serves: Serves, header_first: bool) -> Self {
        Self {
            stage: if header_first {
                Stage::Header
            } else {
                Stage::First
            },
            serves,
            heard: Vec::new(),
            reached: None,
        }
    }

    /// Takes what has arrived: from the connection, or once TLS ends here, from inside it.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
    }

    /// All that was heard behind the header of the PROXY protocol.
    pub(super) fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// Gives away what was heard.
    pub(super) fn take_heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }

    /// Whether it is not known yet whose connection it is.
    pub(super) const fn is_nameless(&self) -> bool {
        matches!(self.stage, Stage::Header)
    }

    /// From here on, what is heard comes from inside TLS.
    pub(super) fn enter_tls(&mut self, upstream: usize) {
        self.stage = Stage::Inside(upstream);
    }

    /// Goes one step on. `agreed` tells whether client and server agreed on a protocol inside TLS, and
    /// whether it is one of TURN's.
    pub(super) fn tell(&mut self, upstreams: &Upstreams, agreed: Option<bool>) -> Told {
        let told = match self.stage {
            Stage::Header => return self.tell_header(),
            Stage::First => self.tell_first(upstreams),
            Stage::Hello(..) => self.tell_hello(upstreams),
            Stage::Inside(upstream) => match (agreed, kind(&self.heard)) {
                (Some(true), _) | (None, Kind::Stun) => Told::Turn,
                (None, Kind::Unknown) => Told::Nothing,
                (Some(false), _) | (None, Kind::Tls | Kind::Other) => Told::PassOn(upstream),
            },
        };
        match told {
            Told::Nothing if self.heard.len() > MOST => self.nobodys(),
            told => told,
        }
    }

    fn tell_header(&mut self) -> Told {
        match ProxyHeader::parse(&self.heard) {
            Ok(None) => Told::Nothing,
            Ok(Some((header, length))) => {
                self.heard.drain(..length);
                self.stage = Stage::First;
                Told::Client(header)
            }
            Err(_) => Told::BadHeader,
        }
    }

    fn tell_first(&mut self, upstreams: &Upstreams) -> Told {
        if !self.serves.is_both() && !upstreams.concern(self.serves) {
            return self.nobodys();
        }
        match kind(&self.heard) {
            Kind::Unknown => Told::Nothing,
            Kind::Tls => {
                self.stage = Stage::Hello(Box::default(), 0);
                self.tell_hello(upstreams)
            }
            Kind::Other if self.serves.plain => {
                upstreams.for_plain().map_or(Told::Turn, Told::PassOn)
            }
            Kind::Stun if self.serves.plain => Told::Turn,
            Kind::Stun | Kind::Other => self.nobodys(),
        }
    }

    fn tell_hello(&mut self, upstreams: &Upstreams) -> Told {
        let Stage::Hello(reader, read) = &mut self.stage else {
            return Told::Nothing;
        };
        let hello = reader.read(&self.heard[*read..]);
        *read = self.heard.len();
        match hello {
            Ok(None) => Told::Nothing,
            Ok(Some(hello)) => match upstreams.for_tls(&hello) {
                TlsWay::Pass(upstream) => Told::PassOn(upstream),
                TlsWay::Here(upstream) if self.serves.tls => Told::Tls(upstream),
                TlsWay::Here(_) => Told::Turn,
            },
            // TLS knows the alert.
            Err(_) if self.serves.tls => Told::Tls(None),
            Err(_) => Told::Turn,
        }
    }

    /// Nobody else is there for it: what the listener is for, which may not understand it.
    const fn nobodys(&self) -> Told {
        if self.serves.plain {
            Told::Turn
        } else {
            Told::Tls(None)
        }
    }
}

fn kind(bytes: &[u8]) -> Kind {
    let begins = |bytes: &[u8], pattern: &[u8]| bytes.iter().zip(pattern).all(|(a, b)| a == b);
    match bytes {
        [] => Kind::Unknown,
        [0..=3, ..] => match bytes.get(4..) {
            Some(cookie) if !begins(cookie, &MAGIC_COOKIE) => Kind::Other,
            Some(cookie) if cookie.len() >= MAGIC_COOKIE.len() => Kind::Stun,
            _ => Kind::Unknown,
        },
        _ if !begins(bytes, &TLS) => Kind::Other,
        [_] => Kind::Unknown,
        _ => Kind::Tls,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::upstreams::tests::upstream;
    use super::*;
    use crate::config::UpstreamTls;

    const STUN: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];

    fn web() -> Upstreams {
        Upstreams::new(Arc::new([upstream(&[], UpstreamTls::Terminate, true)]))
    }

    /// Told byte for byte: the first thing that is known.
    fn first_told(serves: Serves, upstreams: &Upstreams, bytes: &[u8]) -> (Told, usize) {
        let mut greeting = Greeting::new(serves, false);
        for (i, byte) in bytes.iter().enumerate() {
            greeting.hear(&[*byte]);
            let told = greeting.tell(upstreams, None);
            if told != Told::Nothing {
                return (told, i + 1);
            }
        }
        (Told::Nothing, bytes.len())
    }

    #[test]
    fn stun_and_http_are_told_apart_as_early_as_can_be() {
        let told = |bytes| first_told(Serves::PLAIN, &web(), bytes);
        assert_eq!(told(&STUN), (Told::Turn, 8));
        assert_eq!(told(b"GET / HTTP/1.1\r\n"), (Told::PassOn(0), 1));
        assert_eq!(told(b"PRI * HTTP/2.0\r\n"), (Told::PassOn(0), 1));
        assert_eq!(told(&[0, 1, 0, 0, 0x21, 0x13]), (Told::PassOn(0), 6));
        assert_eq!(told(&[0x16, 0x47]), (Told::PassOn(0), 2));
    }

    #[test]
    fn a_listener_of_tls_passes_no_plain_text_on() {
        let told = |bytes| first_told(Serves::TLS, &web(), bytes);
        assert_eq!(told(b"GET / HTTP/1.1\r\n"), (Told::Tls(None), 1));
        assert_eq!(told(&STUN), (Told::Tls(None), 8));
    }

    #[test]
    fn without_upstreams_a_shared_listener_serves_both() {
        let told = |bytes| first_told(Serves::BOTH, &Upstreams::default(), bytes);
        assert_eq!(told(&STUN), (Told::Turn, 8));
        assert_eq!(told(b"GET"), (Told::Turn, 1));
        assert_eq!(told(&[0x16, 3, 1, 0, 4, 2, 0, 0, 0]).0, Told::Tls(None));
    }

    #[test]
    fn the_header_comes_first_and_then_the_rest() {
        let mut greeting = Greeting::new(Serves::PLAIN, true);
        greeting.hear(b"PROXY UNKNOWN\r");
        assert_eq!(greeting.tell(&web(), None), Told::Nothing);
        greeting.hear(b"\nGE");
        assert_eq!(
            greeting.tell(&web(), None),
            Told::Client(ProxyHeader::Local)
        );
        assert_eq!(greeting.tell(&web(), None), Told::PassOn(0));
        assert_eq!(greeting.heard(), b"GE");
        let mut greeting = Greeting::new(Serves::PLAIN, true);
        greeting.hear(&STUN);
        assert_eq!(greeting.tell(&web(), None), Told::BadHeader);
    }

    #[test]
    fn a_hello_without_end_is_not_kept() {
        let mut greeting = Greeting::new(Serves::TLS, false);
        let mut record = vec![0x16, 3, 1, 0x3F, 0xFF, 1, 0, 0xFF, 0xFF];
        record.resize(MOST, 0);
        greeting.hear(&record);
        assert_eq!(greeting.tell(&web(), None), Told::Nothing);
        greeting.hear(&[0]);
        assert_eq!(greeting.tell(&web(), None), Told::Tls(None));
    }

    #[test]
    fn inside_tls_the_first_bytes_decide() {
        let mut greeting = Greeting::new(Serves::TLS, false);
        greeting.enter_tls(0);
        assert_eq!(greeting.tell(&web(), None), Told::Nothing);
        greeting.hear(&STUN[..7]);
        assert_eq!(greeting.tell(&web(), None), Told::Nothing);
        greeting.hear(&STUN[7..]);
        assert_eq!(greeting.tell(&web(), None), Told::Turn);
        assert_eq!(greeting.take_heard(), STUN);
        greeting.hear(b"G");
        assert_eq!(greeting.tell(&web(), None), Told::PassOn(0));
    }

    #[test]
    fn what_was_agreed_on_decides_before_any_byte() {
        let mut greeting = Greeting::new(Serves::TLS, false);
        greeting.enter_tls(0);
        assert_eq!(greeting.tell(&web(), Some(true)), Told::Turn);
        assert_eq!(greeting.tell(&web(), Some(false)), Told::PassOn(0));
    }
}
