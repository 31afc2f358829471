//! TCP allocations (RFC 6062) with coturn's client: each of four connects to all that come after it.

use super::coturn_tools::{Tally, account};
use super::families::dual_stack;
use super::metrics::Metrics;
use super::process::lacks;
use super::server::Server;
use super::tls::Secured;

const CLIENTS: &str = "-T -m 4 -n 5";
const MESSAGES: u32 = 20;

#[test]
fn uclients_meet_at_tcp_relays_of_both_families() {
    let test = "uclients_meet_at_tcp_relays_of_both_families";
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let server = dual_stack(&["--workers", "2"]);
    for (here, family) in [("127.0.0.1", ""), ("::1", "-x"), ("127.0.0.1", "-x")] {
        let flags = format!("{CLIENTS} {family} {}", account());
        Tally::at(server.address_at(here), &flags).check(MESSAGES);
    }
    // Three times six connections, each with two ends at the server.
    let all_ended = |metrics: &Metrics| {
        let count = |name: &str| metrics.sum(&format!("turnstone_{name}"));
        count("relay_ports") == 0.0
            && count("peer_connections") == 0.0
            && count("peer_connections_opened_total") == 36.0
            && count("peer_connections_ended_total") == 36.0
    };
    let metrics = server.metrics_when(all_ended);
    assert!(all_ended(&metrics), "{metrics:#?}");
    server.stop();
}

#[test]
fn uclients_meet_at_tcp_relays_over_tls() {
    let test = "uclients_meet_at_tcp_relays_over_tls";
    if lacks(test, &["turnutils_uclient"]) {
        return;
    }
    let secured = Secured::start(&["--workers", "2", "--allow-peer", "127.0.0.1"]);
    let issuer = secured.issuer.file(secured.directory.path());
    // Two only: the client takes one record for one message, and with more of them the server has several
    // to say at a time.
    let trust = format!("-S -E {}", issuer.display());
    let flags = format!("-T -m 2 -n 10 {trust} {}", account());
    Tally::at(secured.tls, &flags).check(MESSAGES);
    secured.server.stop();
}

#[test]
fn tcp_relays_are_off_unless_asked_for() {
    if lacks(
        "tcp_relays_are_off_unless_asked_for",
        &["turnutils_uclient"],
    ) {
        return;
    }
    let server = Server::start(&[]);
    let refused = Tally::of(&server, &format!("{CLIENTS} {}", account()));
    let output = &refused.output;
    assert_eq!((refused.sent, refused.received), (0, 0), "{output}");
    assert!(output.contains("error 442"), "{output}");
    server.stop();
}
