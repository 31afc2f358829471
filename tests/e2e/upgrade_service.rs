//! The unit of `deploy/` under systemd: an upgrade is a reload.

use std::time::Duration;

use super::machine::Machine;
use super::process::until;
use super::succession::Pair;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn systemd_follows_the_service_from_one_process_to_the_next() {
    let test = "systemd_follows_the_service_from_one_process_to_the_next";
    let Some(machine) = Machine::boot(test) else {
        return;
    };
    machine.await_state("active");
    let first = machine.property("MainPID");
    let mut moves = Pair::udp(machine.address);
    let mut stays = Pair::tcp(machine.address);
    // The program is the same: it reads its configuration.
    machine.tell(&["reload", "turnstone"]).unwrap();
    assert_eq!(machine.property("MainPID"), first, "{}", machine.log());
    machine.install();
    machine.tell(&["reload", "turnstone"]).unwrap();
    let second = machine.property("MainPID");
    assert!(
        second != first && second != "0",
        "{second}: {}",
        machine.log()
    );
    assert_eq!(machine.property("ActiveState"), "active");
    moves.talks();
    stays.talks();
    let status = machine.property("StatusText");
    assert!(status.starts_with("serving "), "{status}");
    drop(stays);
    let left = until(LIMIT, || machine.log().contains("have left: stopping"));
    assert!(left, "{}", machine.log());
    moves.talks();
    assert_eq!(machine.property("MainPID"), second);
    assert_eq!(machine.property("NRestarts"), "0");
    // Were it not the new process that is watched, this would go unnoticed.
    let kill = [
        "kill",
        "--signal",
        "KILL",
        "--kill-whom",
        "main",
        "turnstone",
    ];
    machine.tell(&kill).unwrap();
    let again = || machine.property("NRestarts") == "1";
    assert!(until(LIMIT, again), "{}", machine.log());
    machine.await_state("active");
    Pair::udp(machine.address).talks();
    machine.tell(&["stop", "turnstone"]).unwrap();
    machine.await_state("inactive");
    assert_eq!(machine.property("Result"), "success", "{}", machine.log());
}
