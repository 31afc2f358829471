//! Takes from the process what it does not need once everything is open: root, files, system calls.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};
use tracing::{info, warn};

use super::error::{StartError, UserError};
use super::logging::LogGuard;
use super::socket::ControlSocket;
use crate::config::{Config, PERMISSION_DENIED};
use crate::net::{self, Account, FormerUser, UnixSocketFile};

/// The newest version of Landlock that is made use of; what an older kernel lacks of it is left out.
const LANDLOCK: ABI = ABI::V5;
/// What the metrics read of the process. It is held open, so that the kernel goes on knowing it by the
/// rule.
const PROCESS: &str = "/proc/self";
/// How many cores the process may use, which the default of `server.workers` depends on.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What is taken from the process: root and files at once, the rest when it is [completed](Self::complete).
#[derive(Debug)]
pub(super) struct Confinement {
    /// Files are out of reach but for those of the configuration.
    process: Option<PathFd>,
    /// What is still to be taken.
    left: Left,
}

#[derive(Debug, Default)]
struct Left {
    user: Option<TriedUser>,
    system_calls: bool,
}

/// A user that the process has become as far as it can come back, to give the user what is not its own yet.
#[derive(Debug)]
struct TriedUser {
    name: String,
    account: Account,
    former: FormerUser,
    /// The socket for control.
    socket: UnixSocketFile,
}

/// Takes what `config` says from every thread of the process: from this one, from those that it starts
/// later, and from that of `log`. No other may run yet. What others could notice is left: system calls, and
/// root where the socket for `control` is a predecessor's and another user's.
/// The socket of the `predecessor` can still be removed.
pub(super) fn confine(
    config: &Config,
    log: &LogGuard,
    control: Option<&ControlSocket>,
    predecessor: Option<&Path>,
) -> Result<Confinement, StartError> {
    let wanted = &config.process;
    let user = wanted.user.as_ref().map(|user| {
        become_user(user, control).map_err(|error| StartError::User(user.clone(), error))
    });
    let user = user.transpose()?.flatten();
    let process = match wanted.landlock {
        true => restrict_files(config, log, predecessor).map_err(StartError::Landlock)?,
        false => None,
    };
    // Without a predecessor nothing is lost if it fails for good.
    if wanted.seccomp && predecessor.is_some() {
        net::try_to_restrict_system_calls().map_err(StartError::SystemCalls)?;
    }
    warn_of_unreadable_files(config);
    Ok(Confinement {
        process,
        left: Left {
            user,
            system_calls: wanted.seccomp,
        },
    })
}

impl Confinement {
    /// Takes the rest, for good, before the server serves.
    pub(super) fn complete(&mut self) -> Result<(), StartError> {
        let left = std::mem::take(&mut self.left);
        if let Some(user) = left.user {
            let name = user.name.clone();
            user.become_it()
                .map_err(|error| StartError::User(name, error))?;
        }
        match left.system_calls {
            true => net::restrict_system_calls().map_err(StartError::SystemCalls),
            false => Ok(()),
        }
    }

    /// `problems` of a reload, and what the confinement has to do with them.
    pub(super) fn explain(&self, problems: String) -> String {
        if self.process.is_none() || !problems.contains(PERMISSION_DENIED) {
            return problems;
        }
        format!(
            "{problems}\nthe server can read only the directories that its configuration named when it \
             started ([process] landlock); restart it to have it read others\n"
        )
    }
}

/// Has the process become the user called `name`, whose the socket for `control` is then: for good, unless
/// that has to wait until the predecessor has let go of the socket.
fn become_user(
    name: &str,
    control: Option<&ControlSocket>,
) -> Result<Option<TriedUser>, UserError> {
    let account = Account::find(name).map_err(UserError::Database)?;
    let account = account.ok_or(UserError::Unknown)?;
    if account.is_current() {
        return Ok(None);
    }
    if let Some(control) = control {
        let socket = UnixSocketFile::open(control.path()).map_err(UserError::Socket)?;
        match (socket.is_of(&account), control.is_adopted()) {
            (true, _) => {}
            (false, true) => return TriedUser::try_on(name, account, socket).map(Some),
            // Otherwise only root could say what the server does.
            (false, false) => socket.give(&account).map_err(UserError::Denied)?,
        }
    }
    assume(name, &account).map(|()| None)
}

fn assume(name: &str, account: &Account) -> Result<(), UserError> {
    account.assume().map_err(UserError::Denied)?;
    info!("running as user {name} from here on");
    Ok(())
}

impl TriedUser {
    fn try_on(name: &str, account: Account, socket: UnixSocketFile) -> Result<Self, UserError> {
        let former = account.try_on().map_err(UserError::Denied)?;
        Ok(Self {
            name: name.to_owned(),
            account,
            former,
            socket,
        })
    }

    fn become_it(self) -> Result<(), UserError> {
        self.former.resume().map_err(UserError::Denied)?;
        self.socket.give(&self.account).map_err(UserError::Denied)?;
        assume(&self.name, &self.account)
    }
}

/// Restricts this thread and that of `log` to the directories of `config`.
fn restrict_files(
    config: &Config,
    log: &LogGuard,
    predecessor: Option<&Path>,
) -> Result<Option<PathFd>, RulesetError> {
    let Ok(process) = PathFd::new(PROCESS) else {
        warn!("there is no {PROCESS}: files stay within reach (process.landlock)");
        return Ok(None);
    };
    let ruleset = ruleset(config, &process, predecessor)?;
    let of_log = ruleset.try_clone().ok();
    let status = ruleset.restrict_self()?;
    if let Some(of_log) = of_log {
        // It fails where the same has succeeded only if the kernel is out of memory.
        log.on_its_thread(move || drop(of_log.restrict_self()));
    }
    Ok(is_in_force(&status).then_some(process))
}

fn is_in_force(status: &RestrictionStatus) -> bool {
    let in_force = status.ruleset != RulesetStatus::NotEnforced;
    if !in_force {
        info!("this kernel has no Landlock: files stay within reach (process.landlock)");
    }
    in_force
}

fn ruleset(
    config: &Config,
    process: &PathFd,
    predecessor: Option<&Path>,
) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(LANDLOCK);
    let mut ruleset = Ruleset::default().handle_access(all)?.create()?;
    ruleset = ruleset.add_rule(PathBeneath::new(process, read))?;
    ruleset = allow(ruleset, Path::new(CGROUPS), read)?;
    for directory in directories(&config.files) {
        ruleset = allow(ruleset, &directory, read)?;
    }
    let sockets = config.control.as_deref().into_iter().chain(predecessor);
    for directory in sockets.map(directory_of) {
        ruleset = allow(ruleset, directory, AccessFs::RemoveFile.into())?;
    }
    Ok(ruleset)
}

/// Allows `access` below `directory`, if there is such a directory.
fn allow(
    ruleset: RulesetCreated,
    directory: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(directory) {
        Ok(directory) => ruleset.add_rule(PathBeneath::new(directory, access)),
        Err(_) => Ok(ruleset),
    }
}

/// Where `files` are: the directories that their names say, and those that symbolic links lead to.
fn directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let real = files.iter().filter_map(|file| file.canonicalize().ok());
    let all = real.chain(files.iter().cloned());
    all.map(|file| directory_of(&file).to_owned()).collect()
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A reload would fail, and it is better to know now.
fn warn_of_unreadable_files(config: &Config) {
    for file in &config.files {
        if let Err(error) = File::open(file) {
            let user = config.process.user.as_deref().unwrap_or("this user");
            warn!(
                "{} cannot be read by {user}, so that a reload will fail: {error}",
                file.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_those_of_names_and_of_links() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        for name in ["live", "archive"] {
            std::fs::create_dir(at(name))?;
        }
        std::fs::write(at("archive/secret"), "x")?;
        std::os::unix::fs::symlink("../archive/secret", at("live/secret"))?;
        let found = directories(&[at("live/secret"), "no-such-file.toml".into()]);
        let archive = at("archive").canonicalize()?;
        assert_eq!(found, BTreeSet::from([at("live"), archive, ".".into()]));
        Ok(())
    }

    #[test]
    fn only_what_is_denied_is_explained() {
        let confinement = |process| Confinement {
            process,
            left: Left::default(),
        };
        let (free, confined) = (confinement(None), confinement(PathFd::new(PROCESS).ok()));
        let denied = format!("a.toml: {PERMISSION_DENIED}; x");
        assert_eq!(free.explain(denied.clone()), denied);
        assert_eq!(confined.explain("a.toml: bad".into()), "a.toml: bad");
        assert!(confined.explain(denied).contains("[process] landlock"));
    }
}
