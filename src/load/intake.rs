//! Memory that datagrams and bytes come into, and trains among them cut into their datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::AddAssign;
use std::os::fd::AsFd;

use super::error::LoadError;
use crate::net::{BATCH, ReceiveBatch, take_in_trains};

/// Bytes of a datagram, or of a train of them, that is received.
const ROOM: usize = 65_536;

/// Where packets come in.
pub(super) struct Intake {
    memory: Vec<u8>,
    batch: ReceiveBatch,
    /// Messages by one call.
    most: usize,
    /// The sockets take in trains.
    trains: bool,
    arrivals: Arrivals,
}

/// How datagrams came to sockets that take in trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrivals {
    /// All of them.
    pub(super) datagrams: u64,
    /// Those that were not alone.
    pub(super) in_trains: u64,
}

impl AddAssign for Arrivals {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.in_trains += other.in_trains;
    }
}

impl Intake {
    /// Room for up to `most` messages by one call, 1 to [`BATCH`], of sockets that take in trains
    /// ([`receive_whole`]) if `trains`.
    pub(super) fn new(most: usize, trains: bool) -> Self {
        let most = most.clamp(1, BATCH);
        Self {
            memory: vec![0; most * ROOM],
            batch: ReceiveBatch::default(),
            most,
            trains,
            arrivals: Arrivals::default(),
        }
    }

    /// Receives what one call brings from a connected socket, and hands every datagram to `each`. False
    /// when nothing waits.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<bool> {
        if self.trains || self.most > 1 {
            let count = self.receive_several(socket, |_, datagram| each(datagram))?;
            return Ok(count > 0);
        }
        match socket.recv(&mut self.memory) {
            Ok(length) => {
                each(&self.memory[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The same of any socket, with the sender of each datagram; how many messages came, none when
    /// nothing waits.
    pub(super) fn receive_several(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let rooms = self.memory.chunks_exact_mut(ROOM);
        let count = match self.batch.receive(socket.as_fd(), rooms, self.trains) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        for (i, message) in self.memory.chunks_exact(ROOM).take(count).enumerate() {
            let Some(received) = self.batch.get(i) else {
                continue;
            };
            if self.trains {
                let datagrams = received.count() as u64;
                self.arrivals.datagrams += datagrams;
                self.arrivals.in_trains += if datagrams > 1 { datagrams } else { 0 };
            }
            for place in received.datagrams() {
                each(received.from, &message[place]);
            }
        }
        Ok(count)
    }

    /// Room for bytes of a stream.
    pub(super) fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// Most messages by one call.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// How datagrams came so far; nothing where no trains are taken in.
    pub(super) const fn arrivals(&self) -> Arrivals {
        self.arrivals
    }
}

/// Has `socket` take in trains whole, where `trains`: from now on it must be read by an [`Intake`] that
/// knows.
pub(super) fn receive_whole(socket: &UdpSocket, trains: bool) -> Result<(), LoadError> {
    if trains {
        take_in_trains(socket).map_err(LoadError::NoTrains)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::net::send_segments;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Two sockets that are connected to each other; the second takes in trains, if `trains`.
    fn couple(trains: bool) -> (UdpSocket, UdpSocket) {
        let [one, other] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        other.set_nonblocking(true).unwrap();
        receive_whole(&other, trains).unwrap();
        (one, other)
    }

    /// What comes of a train of 25 bytes in pieces of 10 and a datagram behind it, and in how many calls
    /// that brought something.
    fn taken(most: usize, trains: bool) -> (Vec<Vec<u8>>, usize, Arrivals) {
        let (from, to) = couple(trains);
        let bytes: Vec<u8> = (0..25).collect();
        send_segments(&from, None, &bytes, 10).unwrap();
        from.send(b"alone").unwrap();
        let (mut intake, mut taken, mut calls) = (Intake::new(most, trains), Vec::new(), 0);
        let end = Instant::now() + PATIENCE;
        while taken.len() < 4 && Instant::now() < end {
            let came = intake.receive(&to, &mut |datagram| taken.push(datagram.to_vec()));
            calls += usize::from(came.unwrap());
        }
        (taken, calls, intake.arrivals())
    }

    #[test]
    fn a_train_is_cut_into_its_datagrams() {
        let whole: Vec<u8> = (0..25).collect();
        let mut all: Vec<Vec<u8>> = whole.chunks(10).map(<[u8]>::to_vec).collect();
        all.push(b"alone".to_vec());
        let came = Arrivals {
            datagrams: 4,
            in_trains: 3,
        };
        assert_eq!(taken(1, true), (all.clone(), 2, came));
        assert_eq!(taken(1, false), (all.clone(), 4, Arrivals::default()));
        let (several, calls, arrivals) = taken(8, true);
        assert_eq!((several, arrivals), (all.clone(), came));
        assert!(calls <= 2, "{calls} calls for a train and a datagram");
        let (several, _, arrivals) = taken(8, false);
        assert_eq!((several, arrivals), (all, Arrivals::default()));
    }

    #[test]
    fn nothing_is_nothing_and_an_empty_datagram_is_one() {
        for trains in [false, true] {
            let (from, to) = couple(trains);
            let (mut intake, mut taken) = (Intake::new(1, trains), 0);
            assert!(!intake.receive(&to, &mut |_| taken += 1).unwrap());
            from.send(b"").unwrap();
            let end = Instant::now() + PATIENCE;
            while !intake.receive(&to, &mut |_| taken += 1).unwrap() && Instant::now() < end {}
            assert_eq!(taken, 1);
        }
    }
}
