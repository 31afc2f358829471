//! Another process takes over from this one, which stays for the clients that cannot move.

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdStream;

use tokio::net::UnixStream;
use tracing::{debug, info, warn};

use super::notify::Notify;
use super::supervise::{Leaving, Supervisor};
use super::upgrade::{Outcome, give};

impl Supervisor<'_> {
    /// Hands over to the process at the other end of `stream`, if that is possible now.
    pub(super) fn hand_over(&mut self, stream: UnixStream) {
        let answer = match self.why_not() {
            Some(why) => format!("failed\n{why}\n"),
            None => "ok\n".to_owned(),
        };
        // As this process sees it, which is how its service manager does.
        let pid = stream.peer_cred().ok().and_then(|other| other.pid());
        // Few bytes always find room on a new connection.
        let stream = stream.into_std().and_then(|mut stream| {
            stream.write_all(answer.as_bytes())?;
            Ok(stream)
        });
        let begun = match stream {
            Ok(stream) if self.why_not().is_none() => self.begin(stream, pid.unwrap_or_default()),
            Ok(_) => return info!("another process wants to take over now, and was refused"),
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            warn!("another process wants to take over, and cannot be answered: {error}");
        }
    }

    fn why_not(&self) -> Option<&'static str> {
        if let Some(why) = self.running.estate.must_stay {
            Some(why)
        } else if self.giving.is_some() {
            Some("another process is taking over from it already")
        } else if self.drain.is_some() {
            Some("it is draining: start the new server when it has ended")
        } else {
            None
        }
    }

    fn begin(&mut self, stream: StdStream, pid: i32) -> std::io::Result<()> {
        info!("upgrade: process {pid} prepares to take over");
        let estate = &self.running.estate;
        let user = self.running.configuration.config.zero_config_user.clone();
        let doors = self.running.fronts.doors()?;
        let (notify, outcome) = (self.notify.clone(), self.outcome.0.clone());
        self.giving = Some(give(stream, pid, estate, doors, user, notify, outcome)?);
        Ok(())
    }

    /// Notes how the take-over goes.
    pub(super) fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Kept(why) => {
                self.giving = None;
                warn!("upgrade: nothing has changed, this process goes on: {why}");
            }
            Outcome::Given {
                version,
                moved,
                stay,
                paused,
            } => {
                info!(
                    moved,
                    stay,
                    paused_ms = paused.as_millis(),
                    "upgrade: version {version} has taken over"
                );
                self.stay();
            }
            Outcome::Alone => {
                debug!("the process that took over has ended");
                self.running.estate.freezer.bereave();
            }
        }
    }

    /// Stays until the clients that cannot move have left.
    fn stay(&mut self) {
        self.running.fronts.give_away();
        // The service is the other process's.
        self.notify = Notify::unheard();
        let limit = self.running.configuration.config.drain.upgrade_limit;
        self.end_without(Leaving::Clients, limit);
        info!(
            seconds = limit.as_secs(),
            "this process stays for its TCP, TLS and DTLS clients, and ends with the last one or when the \
             time is up"
        );
    }
}
