//! What a server process costs, as the kernel counts it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::error::LoadError;

/// A process on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pid: u32,
}

/// CPU time of each thread of a process at a moment, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuTime(HashMap<OsString, u64>);

impl CpuTime {
    /// Nanoseconds since `before`. Of a thread that has ended in between, nothing is known any more.
    pub fn since(&self, before: &Self) -> u64 {
        let spent = self.0.iter().map(|(thread, nanos)| {
            let before = before.0.get(thread).copied().unwrap_or_default();
            nanos.saturating_sub(before)
        });
        spent.sum()
    }
}

impl Server {
    /// The process `pid`.
    ///
    /// # Errors
    /// [`LoadError::NoProcess`].
    pub fn new(pid: u32) -> Result<Self, LoadError> {
        let server = Self { pid };
        server.cpu_time().map(|_| server)
    }

    /// CPU time of its threads so far, the kernel's part included.
    ///
    /// # Errors
    /// [`LoadError::NoProcess`].
    pub fn cpu_time(&self) -> Result<CpuTime, LoadError> {
        let tasks = fs::read_dir(self.directory().join("task"));
        let tasks = tasks.map_err(|_| LoadError::NoProcess(self.pid))?;
        let threads = tasks.flatten().filter_map(|task| {
            // A thread may have ended since.
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((task.file_name(), first_number(&text)))
        });
        Ok(CpuTime(threads.collect()))
    }

    /// Its resident memory in bytes; what the kernel holds for its sockets is not among it.
    ///
    /// # Errors
    /// [`LoadError::NoProcess`].
    pub fn resident_bytes(&self) -> Result<u64, LoadError> {
        let text = fs::read_to_string(self.directory().join("status"));
        let text = text.map_err(|_| LoadError::NoProcess(self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(first_number(line.unwrap_or_default()) * 1024)
    }

    /// Whether it has a socket at local port `port`; none when this user may not look.
    pub fn has_socket_at(&self, port: u16) -> Option<bool> {
        let files = fs::read_dir(self.directory().join("fd")).ok()?;
        let tables = ["udp", "udp6", "tcp", "tcp6"].map(|table| {
            let table = self.directory().join("net").join(table);
            fs::read_to_string(table).unwrap_or_default()
        });
        let lines = tables.iter().flat_map(|table| table.lines());
        let at_port: HashSet<String> = lines.filter_map(|line| socket_at(line, port)).collect();
        let links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        let mut links = links.map(|link| link.to_string_lossy().into_owned());
        Some(links.any(|link| at_port.contains(&link)))
    }

    fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }
}

/// What the files of a process call the socket in this line of the kernel's table, if its local port is
/// `port`.
fn socket_at(line: &str, port: u16) -> Option<String> {
    let mut words = line.split_whitespace();
    let (_, found) = words.nth(1)?.rsplit_once(':')?;
    let is_there = u16::from_str_radix(found, 16) == Ok(port);
    // Behind the remote address, the state, two queues, the timer, retransmissions, user and timeout.
    let inode = words.nth(7)?;
    is_there.then(|| format!("socket:[{inode}]"))
}

fn first_number(text: &str) -> u64 {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let server = Server::new(std::process::id()).unwrap();
        let nothing = CpuTime(HashMap::new());
        assert!(server.cpu_time().unwrap().since(&nothing) > 0);
        assert!(server.resident_bytes().unwrap() > 65_536);
    }

    #[test]
    fn threads_that_end_and_begin_are_no_negative_cost() {
        let time = |threads: &[(&str, u64)]| {
            let threads = threads
                .iter()
                .map(|(thread, nanos)| (OsString::from(*thread), *nanos));
            CpuTime(threads.collect())
        };
        let before = time(&[("1", 100), ("2", 1_000_000)]);
        let after = time(&[("1", 130), ("3", 5)]);
        assert_eq!(after.since(&before), 35);
    }

    #[test]
    fn the_ports_of_a_process_are_found() {
        let server = Server::new(std::process::id()).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpListener::bind("[::1]:0").unwrap();
        for address in [udp.local_addr().unwrap(), tcp.local_addr().unwrap()] {
            assert_eq!(server.has_socket_at(address.port()), Some(true));
        }
        assert_eq!(server.has_socket_at(0), Some(false));
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Server::new(u32::MAX).unwrap_err();
        assert!(matches!(error, LoadError::NoProcess(u32::MAX)));
    }
}
