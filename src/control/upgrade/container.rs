//! Whether a container ends with this process: nobody can take over from it there.

use std::env::var_os;
use std::fs::{read_link, read_to_string};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process;

/// The process namespace of every Linux host (`PROC_PID_INIT_INO`).
const OF_THE_HOST: &str = "pid:[4026531836]";
/// First processes that outlive what they start. Others, such as tini and a shell, are there for the one
/// program that they start, and end with it.
const SERVICE_MANAGERS: [&str; 6] = ["systemd", "init", "openrc-init", "dinit", "finit", "procd"];

/// How this process stands to the first one of its namespace.
#[derive(Clone, Debug)]
pub(in crate::control) struct Ancestry {
    pid: u32,
    /// Who started it.
    parent: u32,
    /// Its namespace is the host's.
    on_host: bool,
    /// A service manager wants to hear of it.
    is_service: bool,
    /// What the first process is called; none when that is not to be known.
    first: Option<String>,
}

impl Ancestry {
    /// That of this process, which has just been started and can still read everything.
    pub(in crate::control) fn own() -> Self {
        let name = read_to_string("/proc/1/comm").ok();
        Self {
            pid: process::id(),
            parent: parent_id(),
            on_host: read_link("/proc/self/ns/pid").is_ok_and(|it| it == Path::new(OF_THE_HOST)),
            is_service: var_os("NOTIFY_SOCKET").is_some(),
            first: name.map(|name| name.trim_end().to_owned()),
        }
    }

    /// Why this process must stay; the orphan of another one is whatever that was not.
    pub(in crate::control) fn why_it_must_stay(&self, is_orphan: bool) -> Option<&'static str> {
        let outlives = |name: &String| SERVICE_MANAGERS.contains(&name.as_str());
        if self.pid == 1 {
            Some(
                "it is the first process of a container, which ends with it: replace the container \
                 instead",
            )
        } else if self.parent == 1
            && !is_orphan
            && !self.on_host
            && !self.is_service
            && !self.first.as_ref().is_some_and(outlives)
        {
            Some(
                "the first process of its container started it, and ends with it: replace the container \
                 instead",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child of `first`, which is the first process of a container.
    fn child_of(first: &str) -> Ancestry {
        Ancestry {
            pid: 7,
            parent: 1,
            on_host: false,
            is_service: false,
            first: Some(first.into()),
        }
    }

    #[track_caller]
    fn stays(ancestry: &Ancestry, why: &str) {
        let said = ancestry.why_it_must_stay(false);
        assert!(said.is_some_and(|said| said.contains(why)), "{said:?}");
    }

    #[test]
    fn a_container_ends_with_its_first_process_and_with_the_one_that_this_is_there_for() {
        let first = Ancestry {
            pid: 1,
            parent: 0,
            ..child_of("turnstone")
        };
        stays(&first, "it is the first process");
        for name in ["tini", "docker-init", "dumb-init", "podman-init", "sh"] {
            stays(&child_of(name), "started it");
        }
        let hidden = Ancestry {
            first: None,
            ..child_of("")
        };
        stays(&hidden, "started it");
    }

    #[test]
    fn others_are_free_to_go() {
        let tini = child_of("tini");
        let daemon_on_host = Ancestry {
            on_host: true,
            ..child_of("init")
        };
        let service = Ancestry {
            is_service: true,
            ..tini.clone()
        };
        let of_a_shell = Ancestry {
            parent: 6,
            ..tini.clone()
        };
        for free in [
            daemon_on_host,
            child_of("systemd"),
            child_of("init"),
            service,
            of_a_shell,
        ] {
            assert_eq!(free.why_it_must_stay(false), None, "{free:?}");
        }
        assert_eq!(tini.why_it_must_stay(true), None);
    }

    #[test]
    fn this_process_has_a_parent_and_a_namespace() {
        let own = Ancestry::own();
        assert_eq!((own.pid, own.parent), (process::id(), parent_id()));
        assert!(
            own.first
                .is_none_or(|name| !name.is_empty() && !name.ends_with('\n'))
        );
    }
}
