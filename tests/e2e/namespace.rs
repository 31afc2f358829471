//! Hosts of our own: network namespaces that exist as long as the process that holds them open.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{self, LIMIT, Running, run, until};

/// One host: a network namespace without a name, so that nothing remains of it.
pub(crate) struct Namespace {
    holder: Running,
}

impl Namespace {
    /// A host with nothing but its loopback interface. To be called on the test's own thread: the
    /// namespace ends with the thread that made it, however that ends.
    pub(crate) fn new() -> Self {
        let holder = Running::start(Command::new("setpriv").args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "sleep",
            "1200",
        ]));
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let path = path(&holder);
        let apart = until(LIMIT, || {
            let sleeping = fs::read_to_string(format!("/proc/{}/comm", holder.pid()));
            fs::read_link(&path).is_ok_and(|link| link != own)
                && sleeping.is_ok_and(|name| name.trim() == "sleep")
        });
        assert!(apart, "no network namespace was made");
        let host = Self { holder };
        host.ip("link set lo up");
        host
    }

    /// Whether namespaces can be made here; says so when not.
    pub(crate) fn unavailable(test: &str) -> bool {
        if process::lacks(test, &["ip", "unshare", "nsenter", "setpriv"]) {
            return true;
        }
        let possible = process::root()
            && run(Command::new("unshare").args(["--net", "true"]), LIMIT)
                .0
                .success();
        if !possible {
            process::skip(test, "network namespaces need root");
        }
        !possible
    }

    /// Lays a cable to `other`: `here` and `there` are interface name, address with prefix length.
    pub(crate) fn connect(&self, here: (&str, &str), other: &Self, there: (&str, &str)) {
        let pid = other.holder.pid();
        let ((name, address), (far_name, far_address)) = (here, there);
        self.ip(&format!(
            "link add {name} type veth peer name {far_name} netns {pid}"
        ));
        for (host, name, address) in [(self, name, address), (other, far_name, far_address)] {
            host.ip(&format!("address add {address} dev {name}"));
            host.ip(&format!("link set {name} up"));
        }
    }

    /// Runs `ip` with `arguments` on this host; it must succeed.
    pub(crate) fn ip(&self, arguments: &str) {
        let mut command = self.command("ip");
        command.args(arguments.split(' '));
        let (status, _, stderr) = run(&mut command, LIMIT);
        assert!(status.success(), "ip {arguments}: {stderr}");
    }

    /// `program`, to be started on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", path(&self.holder)));
        command.arg(program);
        command
    }

    /// Does `work` on a thread that lives on this host; sockets that it makes stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(path(&self.holder)).unwrap();
        thread::scope(|scope| {
            let on_host = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            on_host.join().unwrap()
        })
    }
}

fn path(holder: &Running) -> String {
    format!("/proc/{}/ns/net", holder.pid())
}
