//! What a server process costs, as the kernel counts it.

use std::fs;
use std::path::PathBuf;

use super::error::LoadError;

/// A process on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pid: u32,
}

impl Server {
    /// The process `pid`.
    ///
    /// # Errors
    /// [`LoadError::NoProcess`].
    pub fn new(pid: u32) -> Result<Self, LoadError> {
        let server = Self { pid };
        server.cpu_nanos().map(|_| server)
    }

    /// CPU time of all its threads so far, in nanoseconds, the kernel's part included.
    ///
    /// # Errors
    /// [`LoadError::NoProcess`].
    pub fn cpu_nanos(&self) -> Result<u64, LoadError> {
        let tasks = fs::read_dir(self.directory().join("task"));
        let tasks = tasks.map_err(|_| LoadError::NoProcess(self.pid))?;
        let mut nanos = 0;
        for task in tasks.flatten() {
            // A thread may have ended since.
            if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
                nanos += first_number(&text);
            }
        }
        Ok(nanos)
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

    fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }
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
        assert!(server.cpu_nanos().unwrap() > 0);
        assert!(server.resident_bytes().unwrap() > 65_536);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Server::new(u32::MAX).unwrap_err();
        assert!(matches!(error, LoadError::NoProcess(u32::MAX)));
    }
}
