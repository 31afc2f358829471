//! Programs that the tests run: each ends in bounded time and none is left behind.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// How long a test waits at most for what must come: the machine may be slow, busy, and at times stand still.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A child process in a process group of its own, killed when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

impl Running {
    /// Starts `command` and gathers what it prints.
    pub(crate) fn start(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt;
        let name = command.get_program().to_string_lossy().into_owned();
        // Tests run side by side in one process, and some have a thousand connections.
        let _ = turnstone::net::raise_descriptor_limit();
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = Captured::from(child.stdout.take());
        let stderr = Captured::from(child.stderr.take());
        Self {
            name,
            child,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, `limit` at most.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut ended = None;
        until(limit, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        if ended.is_some() {
            until(LIMIT, || self.stdout.complete() && self.stderr.complete());
        }
        ended
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) {
        kill_process(self.handle(), Signal::TERM).unwrap();
    }

    /// Sends it `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.handle(), signal).unwrap();
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    fn handle(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.handle();
        // With those whom one that has ended left behind.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        until(LIMIT, || test_kill_process_group(group).is_err());
        if thread::panicking() {
            let (name, stdout, stderr) = (&self.name, self.stdout.tail(), self.stderr.tail());
            eprintln!("--- {name}, standard output:\n{stdout}\n--- standard error:\n{stderr}\n---");
        }
    }
}

/// Runs `command` to its end, `limit` at most; returns status, standard output, standard error.
pub(crate) fn run(command: &mut Command, limit: Duration) -> (ExitStatus, String, String) {
    let mut running = Running::start(command);
    let Some(status) = running.wait(limit) else {
        panic!("{} did not end within {limit:?}", running.name);
    };
    (status, running.stdout(), running.stderr())
}

/// Asks `done` every 20 ms until it says yes; false when `limit` passes first.
pub(crate) fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What `ask` says, asked again where a signal came between: a process that was stopped and goes on
/// finds its waits for data ended.
pub(crate) fn uninterrupted<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            said => return said,
        }
    }
}

/// Says that `test` is skipped because a program of `programs` is not installed; with `CI=true` in
/// the environment that is a failure.
pub(crate) fn lacks(test: &str, programs: &[&str]) -> bool {
    let Some(missing) = programs.iter().find(|program| !installed(program)) else {
        return false;
    };
    skip(test, &format!("{missing} is not installed"));
    true
}

/// Says that `test` is skipped and why; with `CI=true` in the environment that is a failure.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "{test} cannot be skipped in CI: {why}"
    );
    // Written directly: the test runner would swallow the output of a test that passes.
    let _ = writeln!(std::io::stderr().lock(), "SKIPPED: {test}: {why}");
}

/// Whether the tests run as root.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(program).is_file())
}

/// The output of a process, read by a thread.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Captured {
    fn from(source: Option<impl Read + Send + 'static>) -> Self {
        let mut source = source.unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = uninterrupted(|| source.read(&mut chunk)) {
                sink.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn complete(&self) -> bool {
        self.reader.is_finished()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
