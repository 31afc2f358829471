//! Every metric family that a shard's counters make up, with its closed label sets.

use prometheus::proto::MetricType;

use crate::turn::{
    AllocationEnd, AuthFailure, ConnectionEnd, Counter, Direction, Eviction,
    Family as AddressFamily, HandshakeFailure, HopWay, PassOutcome, PeerEnd, PeerOrigin,
    PeerRefusal, Reason, RequestMethod, ResultCode, Source, Transport,
};

/// One metric family.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) labels: Vec<&'static str>,
    pub(super) samples: Vec<Sample>,
}

/// One series of a family.
pub(super) struct Sample {
    pub(super) counter: Counter,
    /// One value for each of the family's labels.
    pub(super) values: Vec<String>,
}

/// Every family; each [`Counter`] is in exactly one.
pub(super) fn families() -> Vec<Family> {
    [
        packets(),
        outcomes(),
        requests(),
        allocations(),
        connections(),
        dtls(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn packets() -> Vec<Family> {
    vec![
        counter(
            "turnstone_received_packets_total",
            "Packets received from clients and peers.",
        )
        .by(
            "source",
            Source::ALL,
            Source::label,
            Counter::ReceivedPackets,
        ),
        counter(
            "turnstone_received_bytes_total",
            "Bytes of the packets received from clients and peers.",
        )
        .by("source", Source::ALL, Source::label, Counter::ReceivedBytes),
        counter(
            "turnstone_relayed_packets_total",
            "Packets relayed between clients and peers.",
        )
        .by(
            "direction",
            Direction::ALL,
            Direction::label,
            Counter::RelayedPackets,
        ),
        counter(
            "turnstone_relayed_bytes_total",
            "Bytes of application data relayed between clients and peers.",
        )
        .by(
            "direction",
            Direction::ALL,
            Direction::label,
            Counter::RelayedBytes,
        ),
    ]
}

/// Of packets that are not relayed.
fn outcomes() -> Vec<Family> {
    vec![
        counter(
            "turnstone_relay_hops_total",
            "Packets from one allocation to another that did not leave the process, by the way that they took.",
        )
        .by("way", HopWay::ALL, HopWay::label, Counter::RelayHops),
        counter(
            "turnstone_answered_packets_total",
            "Packets answered at once.",
        )
        .one(Counter::Answered),
        counter(
            "turnstone_parked_packets_total",
            "Packets answered after something else was done first, or by the process before this one.",
        )
        .one(Counter::Parked),
        counter(
            "turnstone_dropped_packets_total",
            "Packets dropped, by reason.",
        )
        .by("reason", &Reason::ALL, Reason::label, Counter::Dropped),
    ]
}

fn requests() -> Vec<Family> {
    vec![
        counter("turnstone_requests_total", "Requests by method and result: success or the error code.")
            .by_two(
                ["method", "code"],
                RequestMethod::ALL.iter().map(|method| (*method, method.label().to_owned())),
                &ResultCode::ALL.iter().map(|code| (*code, code.label())).collect::<Vec<_>>(),
                Counter::Requests,
            ),
        counter("turnstone_auth_failures_total", "Requests that failed authentication, by reason; no_credentials is every client's ordinary first request.")
            .by("reason", AuthFailure::ALL, AuthFailure::label, Counter::AuthFailures),
        counter("turnstone_refused_peers_total", "Peers that a request named and that may not be relayed to, by reason.")
            .by("reason", PeerRefusal::ALL, PeerRefusal::label, Counter::RefusedPeers),
    ]
}

fn allocations() -> Vec<Family> {
    vec![
        gauge(
            "turnstone_allocations",
            "Allocations alive, by client transport and relay address family.",
        )
        .by_transport_and_family(Counter::Allocations),
        counter(
            "turnstone_allocations_created_total",
            "Allocations created, by client transport and relay address family.",
        )
        .by_transport_and_family(Counter::AllocationsCreated),
        counter(
            "turnstone_allocations_ended_total",
            "Allocations ended, by reason.",
        )
        .by(
            "reason",
            AllocationEnd::ALL,
            AllocationEnd::label,
            Counter::AllocationsEnded,
        ),
        counter(
            "turnstone_allocations_moved_total",
            "Moves of allocations to another five-tuple of their client.",
        )
        .one(Counter::AllocationsMoved),
        counter(
            "turnstone_allocations_taken_over_total",
            "Allocations taken over from the process that ran before.",
        )
        .one(Counter::AllocationsTakenOver),
        gauge("turnstone_permissions", "Permissions alive.").one(Counter::Permissions),
        gauge("turnstone_channels", "Channels bound.").one(Counter::Channels),
        gauge(
            "turnstone_relay_ports",
            "Relay ports of allocations; those held by a reservation are not among them.",
        )
        .one(Counter::RelayPorts),
        counter(
            "turnstone_relay_failures_total",
            "Relay sockets that could not be opened.",
        )
        .one(Counter::RelayFailures),
        counter(
            "turnstone_icmp_reports_total",
            "ICMP errors about relayed datagrams that clients were told of.",
        )
        .one(Counter::IcmpReports),
    ]
}

fn connections() -> Vec<Family> {
    vec![
        gauge("turnstone_connections", "Stream connections of clients open, by transport.")
            .by("transport", &Transport::STREAMS, transport_label, Counter::Connections),
        counter("turnstone_connections_accepted_total", "Stream connections of clients accepted, by transport.")
            .by("transport", &Transport::STREAMS, transport_label, Counter::ConnectionsAccepted),
        counter("turnstone_connections_closed_total", "Stream connections of clients closed, by transport and reason.")
            .by_two(
                ["transport", "reason"],
                Transport::STREAMS.iter().map(|transport| (*transport, transport_label(*transport).to_owned())),
                &ConnectionEnd::ALL.iter().map(|end| (*end, end.label().to_owned())).collect::<Vec<_>>(),
                Counter::ConnectionsClosed,
            ),
        counter("turnstone_connection_sent_bytes_total", "Bytes written to stream connections of clients, before encryption, by transport.")
            .by("transport", &Transport::STREAMS, transport_label, Counter::ConnectionBytes),
        gauge("turnstone_tls_handshaking", "TLS handshakes going on.")
            .one(Counter::TlsHandshaking),
        counter("turnstone_tls_handshakes_total", "TLS handshakes completed.")
            .one(Counter::TlsHandshakes),
        counter("turnstone_tls_handshakes_failed_total", "TLS handshakes that failed, by reason.")
            .by("reason", HandshakeFailure::ALL, HandshakeFailure::label, Counter::TlsHandshakesFailed),
        counter("turnstone_backlog_evicted_packets_total", "Packets that left the backlog of a slow stream client unsent after they were counted as relayed, by reason: too old, no room, connection closed.")
            .by("reason", Eviction::ALL, Eviction::label, Counter::BacklogEvicted),
        counter("turnstone_connections_passed_total", "Connections that are not TURN and were to go on to an upstream, by outcome.")
            .by("outcome", PassOutcome::ALL, PassOutcome::label, Counter::Passed),
        gauge("turnstone_connections_passing", "Connections that go on now to an upstream, or, as data connections over TLS, to the process before this one. A drain waits for them.")
            .one(Counter::Passing),
        gauge("turnstone_peer_connections", "Connections with peers of TCP allocations that are joined with a client's.")
            .one(Counter::PeerConnections),
        counter("turnstone_peer_connections_opened_total", "Connections with peers of TCP allocations opened, by who opened them.")
            .by("by", PeerOrigin::ALL, PeerOrigin::label, Counter::PeerConnectionsOpened),
        counter("turnstone_peer_connections_ended_total", "Connections with peers of TCP allocations ended, by reason.")
            .by("reason", PeerEnd::ALL, PeerEnd::label, Counter::PeerConnectionsEnded),
    ]
}

fn dtls() -> Vec<Family> {
    vec![
        gauge("turnstone_dtls_sessions", "DTLS sessions established.").one(Counter::DtlsSessions),
        counter(
            "turnstone_dtls_sessions_ended_total",
            "Established DTLS sessions that ended, by reason.",
        )
        .by(
            "reason",
            ConnectionEnd::ALL,
            ConnectionEnd::label,
            Counter::DtlsSessionsEnded,
        ),
        gauge(
            "turnstone_dtls_handshaking",
            "DTLS handshakes going on of clients that have returned their cookie.",
        )
        .one(Counter::DtlsHandshaking),
        counter(
            "turnstone_dtls_handshakes_total",
            "DTLS handshakes completed.",
        )
        .one(Counter::DtlsHandshakes),
        counter(
            "turnstone_dtls_handshakes_failed_total",
            "DTLS handshakes that failed, by reason.",
        )
        .by(
            "reason",
            HandshakeFailure::ALL,
            HandshakeFailure::label,
            Counter::DtlsHandshakesFailed,
        ),
    ]
}

fn counter(name: &'static str, help: &'static str) -> Family {
    family(name, help, MetricType::COUNTER)
}

fn gauge(name: &'static str, help: &'static str) -> Family {
    family(name, help, MetricType::GAUGE)
}

fn family(name: &'static str, help: &'static str, kind: MetricType) -> Family {
    Family {
        name,
        help,
        kind,
        labels: Vec::new(),
        samples: Vec::new(),
    }
}

impl Family {
    /// The family has one series, without labels.
    fn one(mut self, counter: Counter) -> Self {
        self.samples = vec![Sample {
            counter,
            values: Vec::new(),
        }];
        self
    }

    /// The family has one series for each of `all`.
    fn by<T: Copy>(
        mut self,
        name: &'static str,
        all: &[T],
        label: impl Fn(T) -> &'static str,
        counter: impl Fn(T) -> Counter,
    ) -> Self {
        self.samples = all
            .iter()
            .map(|value| Sample {
                counter: counter(*value),
                values: vec![label(*value).to_owned()],
            })
            .collect();
        self.labels = vec![name];
        self
    }

    /// The family has one series for each pair of values, which come with their labels.
    fn by_two<T: Copy, U: Copy>(
        mut self,
        names: [&'static str; 2],
        outer: impl Iterator<Item = (T, String)>,
        inner: &[(U, String)],
        counter: impl Fn(T, U) -> Counter,
    ) -> Self {
        for (one, one_label) in outer {
            self.samples
                .extend(inner.iter().map(|(two, two_label)| Sample {
                    counter: counter(one, *two),
                    values: vec![one_label.clone(), two_label.clone()],
                }));
        }
        self.labels = names.to_vec();
        self
    }

    fn by_transport_and_family(
        self,
        counter: impl Fn(Transport, AddressFamily) -> Counter,
    ) -> Self {
        let transports =
            Transport::ALL.map(|transport| (transport, transport_label(transport).to_owned()));
        let families = AddressFamily::ALL.map(|family| (family, family_label(family)));
        self.by_two(
            ["transport", "family"],
            transports.into_iter(),
            &families,
            counter,
        )
    }
}

fn transport_label(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Dtls => "dtls",
    }
}

fn family_label(family: AddressFamily) -> String {
    match family {
        AddressFamily::V4 => "ipv4",
        AddressFamily::V6 => "ipv6",
    }
    .to_owned()
}
