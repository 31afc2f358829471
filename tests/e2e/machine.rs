//! A machine of our own: systemd as the first process of namespaces, with the unit of `deploy/`.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Running, root, run, until};
use super::server::{PASSWORD, REALM, USER, binary, free_port};

const LIMIT: Duration = Duration::from_secs(60);
const UNIT: &str = include_str!("../../deploy/turnstone.service");

/// A machine that runs `turnstone.service`; it ends when dropped, and nothing remains of it.
pub(crate) struct Machine {
    running: Running,
    /// Emptied by the end of the above.
    _group: ControlGroup,
    directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Machine {
    /// One on which the service was started; none where there can be no such machine, which is said.
    pub(crate) fn boot(test: &str) -> Option<Self> {
        match Self::try_to_boot() {
            Ok(machine) => Some(machine),
            Err(why) => {
                // A container of continuous integration may have neither systemd nor a control group.
                let _ = writeln!(std::io::stderr().lock(), "SKIPPED: {test}: {why}");
                None
            }
        }
    }

    fn try_to_boot() -> Result<Self, String> {
        if !root() {
            return Err("needs root".into());
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let directory = prepare(address);
        let group = ControlGroup::new()?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "sh", "-c"])
            .arg("echo $$ >\"$1\" && shift && exec \"$@\"")
            .arg("sh")
            .arg(group.0.join("cgroup.procs"))
            .args(["unshare", "--fork", "--pid", "--mount", "--mount-proc"])
            .args(["--cgroup", "--kill-child", "sh"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/machine.sh"))
            .arg(directory.path());
        let programs = ["setpriv", "unshare", "nsenter", "systemd", "systemctl"];
        let has = |program: &&str| installed(program);
        if let Some(missing) = programs.iter().find(|program| !has(program)) {
            return Err(format!("{missing} is not installed"));
        }
        let mut machine = Self {
            running: Running::start(&mut command),
            _group: group,
            directory,
            address,
        };
        let answers = until(LIMIT, || {
            !machine.running.alive() || machine.tell(&["show", "--property", "Version"]).is_ok()
        });
        if answers && machine.running.alive() {
            return Ok(machine);
        }
        let said = machine.running.stderr();
        Err(format!("systemd cannot be the first process here: {said}"))
    }

    /// `systemctl` with `arguments`, on the machine; what it says.
    pub(crate) fn tell(&self, arguments: &[&str]) -> Result<String, String> {
        let pid = self.running.pid();
        let first = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let first = first.unwrap_or_default();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", first.trim(), "systemctl"]);
        let (status, stdout, stderr) = run(command.args(arguments), LIMIT);
        status.success().then_some(stdout).ok_or(stderr)
    }

    /// A property of the service.
    pub(crate) fn property(&self, name: &str) -> String {
        let said = self.tell(&["show", "turnstone", "--value", "--property", name]);
        said.unwrap().trim().to_owned()
    }

    /// Waits until the service is `active`, or whatever else it is to be.
    #[track_caller]
    pub(crate) fn await_state(&self, state: &str) {
        let is = || self.property("ActiveState") == state;
        assert!(until(LIMIT, is), "not {state}: {}", self.log());
    }

    /// Puts the same program in the place of the installed one.
    pub(crate) fn install(&self) {
        install(self.directory.path());
    }

    /// What the servers wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn installed(program: &str) -> bool {
    let mut which = Command::new("sh");
    which.args(["-c", "command -v \"$1\"", "sh", program]);
    run(&mut which, LIMIT).0.success()
}

/// The program, its configuration and the unit, as they are installed but for where they are.
fn prepare(address: SocketAddr) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    let unit = UNIT
        .replace("/usr/local/bin/", "/run/machine/")
        .replace("/etc/turnstone/", "/run/machine/")
        .replace("User=turnstone\n", "User=daemon\n")
        .replace("Group=turnstone\n", "Group=daemon\n")
        // Nothing else runs here, neither a network to wait for nor a journal.
        .replace("Wants=network-online.target\n", "DefaultDependencies=no\n")
        .replace(
            "[Service]\n",
            "[Service]\nStandardError=append:/run/machine/log\n",
        );
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let text = format!(
        "[server]\nlisten = [\"{address}\"]\n[metrics]\nlisten = \"{metrics}\"\n\
         [control]\nsocket = \"/run/turnstone/control.sock\"\n\
         [peers]\nallow = [\"127.0.0.1\"]\n\
         [auth]\nrealm = {REALM:?}\n[[auth.users]]\nname = {USER:?}\npassword = {PASSWORD:?}\n"
    );
    fs::write(directory.path().join("turnstone.service"), unit).unwrap();
    fs::write(directory.path().join("turnserver.toml"), text).unwrap();
    install(directory.path());
    directory
}

fn install(directory: &Path) {
    let new = directory.join("turnstone.new");
    fs::copy(binary(), &new).unwrap();
    fs::rename(new, directory.join("turnstone")).unwrap();
}

/// A control group, removed when dropped.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// One below that of the tests.
    fn new() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let is_of_groups = |fields: &Vec<&str>| fields.get(2) == Some(&"cgroup2");
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect());
        let mount = mounts
            .find(is_of_groups)
            .ok_or("there are no control groups")?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let parent = Path::new(mount[1]).join(own.unwrap_or_default());
        let path = parent.join(format!("turnstone-test-{}", std::process::id()));
        let made = fs::create_dir(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Processes leave it a moment after their end.
        let removed = until(LIMIT, || remove(&self.0).is_ok());
        if !removed {
            let _ = writeln!(std::io::stderr(), "{} is left", self.0.display());
        }
    }
}

/// Removes a control group and those below it.
fn remove(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    fs::remove_dir(group)
}
