//! Which server a connection goes on to that is not TURN.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Upstream, UpstreamTls};
use crate::transport::{Hello, TlsServer, WebProtocols};
use crate::turn::Transport;

/// The servers to which connections go on that are not TURN, by what clients ask for.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    all: Arc<[Upstream]>,
    by_name: HashMap<String, usize>,
    /// For TLS connections whose name no other has.
    nameless: Option<usize>,
    /// For connections without TLS.
    plain: Option<usize>,
}

/// What a listener's connections may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Serves {
    pub(super) plain: bool,
    pub(super) tls: bool,
}

/// What becomes of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsWay {
    /// TLS ends here, and what is not TURN inside goes on to an upstream, if there is one.
    Here(Option<usize>),
    /// It goes on untouched.
    Pass(usize),
}

/// What TLS sessions start from, by what is behind the name that the client wants.
#[derive(Clone, Debug)]
pub(super) struct TlsServers {
    turn: TlsServer,
    http1: TlsServer,
    http2: TlsServer,
}

impl Upstreams {
    pub(super) fn new(all: Arc<[Upstream]>) -> Self {
        let place = |is_meant: fn(&Upstream) -> bool| all.iter().position(is_meant);
        let named = all.iter().enumerate().flat_map(|(i, upstream)| {
            let names = upstream.server_names.iter();
            names.map(move |name| (name.clone(), i))
        });
        Self {
            by_name: named.collect(),
            nameless: place(|one| one.server_names.is_empty() && one.tls == UpstreamTls::Terminate),
            plain: place(|one| one.plain),
            all,
        }
    }

    pub(super) fn get(&self, upstream: usize) -> Option<&Upstream> {
        self.all.get(upstream)
    }

    /// Whether a connection of such a listener can go on to one of them.
    pub(super) fn concern(&self, serves: Serves) -> bool {
        let passes = |one: &Upstream| one.tls == UpstreamTls::Pass;
        let ends = |one: &Upstream| one.tls == UpstreamTls::Terminate;
        serves.plain && self.plain.is_some()
            || self.all.iter().any(passes)
            || serves.tls && self.all.iter().any(ends)
    }

    /// Where a connection goes that is neither STUN nor TLS.
    pub(super) const fn for_plain(&self) -> Option<usize> {
        self.plain
    }

    /// Where a connection goes that begins with this ClientHello. Whoever asks for TURN by name of
    /// protocol gets it, whatever the name of the server.
    pub(super) fn for_tls(&self, hello: &Hello) -> TlsWay {
        if hello.wants_turn {
            return TlsWay::Here(None);
        }
        let named = hello.server_name.as_deref();
        let place = named.and_then(|name| self.find(name)).or(self.nameless);
        let passes = |place: usize| self.all[place].tls == UpstreamTls::Pass;
        match place {
            Some(place) if passes(place) => TlsWay::Pass(place),
            place => TlsWay::Here(place),
        }
    }

    /// The upstream of a name, or of its siblings.
    fn find(&self, name: &str) -> Option<usize> {
        let exact = self.by_name.get(name);
        let siblings = || {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        };
        exact.or_else(siblings).copied()
    }

    /// The settings of `servers` for a session behind which this upstream is.
    pub(super) fn settings<'s>(
        &self,
        upstream: Option<usize>,
        servers: &'s TlsServers,
    ) -> &'s TlsServer {
        match upstream.and_then(|place| self.get(place)) {
            Some(upstream) if upstream.http2 => &servers.http2,
            Some(_) => &servers.http1,
            None => &servers.turn,
        }
    }
}

impl TlsServers {
    pub(super) fn new(turn: TlsServer) -> Self {
        Self {
            http1: turn.with_web(WebProtocols::Http1),
            http2: turn.with_web(WebProtocols::Http2),
            turn,
        }
    }

    /// For TURN alone.
    pub(super) const fn turn(&self) -> &TlsServer {
        &self.turn
    }
}

impl Serves {
    pub(super) const PLAIN: Self = Self {
        plain: true,
        tls: false,
    };
    pub(super) const TLS: Self = Self {
        plain: false,
        tls: true,
    };
    pub(super) const BOTH: Self = Self {
        plain: true,
        tls: true,
    };

    /// What its connections are counted as while they have not said what they are.
    pub(super) const fn transport(self) -> Transport {
        if self.plain {
            Transport::Tcp
        } else {
            Transport::Tls
        }
    }

    pub(super) fn is_both(self) -> bool {
        self == Self::BOTH
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::UpstreamAddress;
    use std::time::Duration;

    pub(in crate::shard) fn upstream(names: &[&str], tls: UpstreamTls, plain: bool) -> Upstream {
        Upstream {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            to: UpstreamAddress::Tcp(([127, 0, 0, 1], 1).into()),
            tls,
            plain,
            http2: false,
            proxy_protocol: false,
            connect_timeout: Duration::from_secs(1),
            idle_after: Duration::from_secs(1),
        }
    }

    fn hello(name: &str) -> Hello {
        Hello {
            server_name: (!name.is_empty()).then(|| name.to_owned()),
            wants_turn: false,
        }
    }

    #[test]
    fn tls_goes_where_its_name_says() {
        let upstreams = Upstreams::new(Arc::new([
            upstream(&["a.example", "*.b.example"], UpstreamTls::Pass, false),
            upstream(&["c.b.example"], UpstreamTls::Terminate, false),
            upstream(&[], UpstreamTls::Terminate, true),
        ]));
        for (name, way) in [
            ("a.example", TlsWay::Pass(0)),
            ("x.b.example", TlsWay::Pass(0)),
            ("c.b.example", TlsWay::Here(Some(1))),
            ("b.example", TlsWay::Here(Some(2))),
            ("x.y.b.example", TlsWay::Here(Some(2))),
            ("", TlsWay::Here(Some(2))),
        ] {
            assert_eq!(upstreams.for_tls(&hello(name)), way, "{name}");
        }
        let turn = Hello {
            wants_turn: true,
            ..hello("a.example")
        };
        assert_eq!(upstreams.for_tls(&turn), TlsWay::Here(None));
        assert_eq!(upstreams.for_plain(), Some(2));
    }

    #[test]
    fn a_listener_without_upstream_is_left_alone() {
        let concern =
            |upstream: Upstream, serves| Upstreams::new(Arc::new([upstream])).concern(serves);
        let off = || upstream(&[], UpstreamTls::Off, true);
        assert!(concern(off(), Serves::PLAIN) && !concern(off(), Serves::TLS));
        let terminate = || upstream(&[], UpstreamTls::Terminate, false);
        assert!(!concern(terminate(), Serves::PLAIN) && concern(terminate(), Serves::TLS));
        let pass = || upstream(&["a.example"], UpstreamTls::Pass, false);
        assert!(concern(pass(), Serves::PLAIN) && concern(pass(), Serves::TLS));
        assert!(!Upstreams::default().concern(Serves::BOTH));
        assert_eq!(
            Upstreams::default().for_tls(&hello("a.example")),
            TlsWay::Here(None)
        );
    }
}
