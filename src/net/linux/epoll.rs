//! A level-triggered poller: what was not read is reported again, so a pass may stop anywhere.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::epoll_event;

use super::{check, check_count};

/// A set of watched descriptors, each with a token of the owner's choice.
///
/// Closing a descriptor takes it out of the set; events that were already collected may still name its
/// token.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What to wait for on one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing but errors.
    Nothing,
    /// Something to read, or the end.
    Read,
    /// Room to write.
    Write,
    /// The same, or room to write.
    ReadWrite,
}

impl Interest {
    const fn bits(self) -> u32 {
        let bits = match self {
            Self::Nothing => 0,
            Self::Read => libc::EPOLLIN | libc::EPOLLRDHUP,
            Self::Write => libc::EPOLLOUT,
            Self::ReadWrite => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT,
        };
        bits.cast_unsigned()
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The token it was registered with.
    pub token: u64,
    /// There is something to read, or an end or an error to learn of by reading.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// Both directions have ended, or the connection broke: what is left to read is all there is, and
    /// this is told again and again.
    pub ended: bool,
}

/// Room for the events of one wait.
pub struct Events {
    list: Box<[epoll_event]>,
    filled: usize,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({} of {})", self.filled, self.list.len())
    }
}

impl Events {
    /// Room for `capacity` events.
    pub fn with_capacity(capacity: usize) -> Self {
        let list = vec![epoll_event { events: 0, u64: 0 }; capacity.max(1)];
        Self {
            list: list.into(),
            filled: 0,
        }
    }

    /// How many descriptors were ready.
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether the wait ended by its timeout.
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The event at `place`; none behind the last.
    pub fn get(&self, place: usize) -> Option<Readiness> {
        let event = *self.list[..self.filled].get(place)?;
        let bits = event.events.cast_signed();
        Some(Readiness {
            token: event.u64,
            readable: bits & !libc::EPOLLOUT != 0,
            writable: bits & libc::EPOLLOUT != 0,
            ended: bits & (libc::EPOLLHUP | libc::EPOLLERR) != 0,
        })
    }
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call has just made this descriptor and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Watches `descriptor` for `interest` and names it `token`.
    ///
    /// # Errors
    /// The descriptor is in the set already, or the kernel's limit on watches is reached.
    pub fn add(&self, descriptor: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, descriptor, token, interest)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// The descriptor is not in the set.
    pub fn modify(&self, descriptor: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, descriptor, token, interest)
    }

    /// Watches `descriptor` no longer; events that were already collected may still name its token.
    ///
    /// # Errors
    /// The descriptor is not in the set.
    pub fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, descriptor, 0, Interest::Nothing)
    }

    fn control(
        &self,
        operation: c_int,
        descriptor: impl AsFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = epoll_event {
            events: interest.bits(),
            u64: token,
        };
        let descriptor = descriptor.as_fd().as_raw_fd();
        // SAFETY: `event` lives through the call, which keeps no pointer to it.
        check(unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                operation,
                descriptor,
                ptr::from_mut(&mut event),
            )
        })?;
        Ok(())
    }

    /// Fills `events`, waiting until something is ready or `timeout` has passed; without one for ever.
    /// An interrupting signal ends the wait without events.
    ///
    /// # Errors
    /// Only what would be a mistake of ours.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.filled = 0;
        let room = c_int::try_from(events.list.len()).unwrap_or(c_int::MAX);
        // SAFETY: the kernel writes at most `room` events to the list, which is that long.
        let returned = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.list.as_mut_ptr(),
                room,
                milliseconds(timeout),
            )
        };
        match check_count(returned) {
            Ok(filled) => events.filled = filled,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Rounded up, or the last millisecond before a deadline would be spent spinning.
fn milliseconds(timeout: Option<Duration>) -> c_int {
    timeout.map_or(-1, |timeout| {
        c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn what_was_not_read_is_reported_again() -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let poller = Epoll::new()?;
        poller.add(&socket, 77, Interest::Read)?;
        let mut events = Events::with_capacity(4);
        poller.wait(&mut events, Some(Duration::ZERO))?;
        assert!(events.is_empty());

        socket.send_to(b"x", socket.local_addr()?)?;
        for _ in 0..2 {
            poller.wait(&mut events, Some(Duration::from_secs(60)))?;
            let ready = events.get(0).expect("one event");
            assert_eq!((ready.token, ready.readable), (77, true));
            assert!(!ready.writable);
        }
        poller.modify(&socket, 78, Interest::Nothing)?;
        poller.wait(&mut events, Some(Duration::ZERO))?;
        assert!(events.is_empty());
        poller.modify(&socket, 79, Interest::Write)?;
        poller.wait(&mut events, Some(Duration::from_secs(60)))?;
        let ready = events.get(0).expect("one event");
        assert!(ready.writable && !ready.readable && !ready.ended);
        poller.remove(&socket)?;
        poller.wait(&mut events, Some(Duration::ZERO))?;
        assert!(events.is_empty());
        Ok(())
    }

    #[test]
    fn timeouts_are_rounded_up() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::MAX)), c_int::MAX);
    }
}
