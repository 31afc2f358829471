//! What the process gives up once everything is open.

use super::draft::{DraftProcess, Located, or};
use super::report::Report;

/// What the process gives up once everything is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The user that a process of root becomes; none to stay who it is.
    pub user: Option<String>,
    /// Whether files out of the configuration's directories are out of reach, where the kernel has
    /// Landlock.
    pub landlock: bool,
    /// Whether the kernel refuses every system call that the server never makes.
    pub seccomp: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            user: None,
            landlock: true,
            seccomp: false,
        }
    }
}

pub(super) fn check_process(draft: DraftProcess, report: &mut Report) -> Process {
    let default = Process::default();
    let mut checked = |Located { value, spot }: Located<String>| {
        if value.is_empty() || value.contains('\0') {
            report.error(
                &spot,
                format_args!("{value:?} is no user; name one, or leave the key out"),
            );
        }
        value
    };
    Process {
        user: draft.user.map(&mut checked),
        landlock: or(&draft.landlock, default.landlock),
        seccomp: or(&draft.seccomp, default.seccomp),
    }
}
