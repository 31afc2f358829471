//! Listening sockets that another process hands over: the same sockets of the kernel, so that their
//! groups keep their members and no client moves.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Socket, Type};

use super::error::Protocol;

/// Listening sockets that another process hands over, one for each shard and address.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Group>);

#[derive(Debug)]
struct Group {
    protocol: Protocol,
    address: SocketAddr,
    /// In the order of the shards.
    members: VecDeque<Socket>,
}

impl Inherited {
    /// Adds a socket; those of one address come in the order of their shards.
    ///
    /// # Errors
    /// It is no socket that listens on an IP address.
    pub fn add(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        let socket = Socket::from(descriptor);
        let protocol = match socket.r#type()? {
            Type::DGRAM => Protocol::Udp,
            Type::STREAM if socket.is_listener()? => Protocol::Tcp,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let local = socket.local_addr()?.as_socket();
        let address = local.ok_or(io::ErrorKind::InvalidInput)?;
        socket.set_nonblocking(true)?;
        let groups = self.0.iter_mut();
        let mut same = groups.filter(|group| group.is(protocol, address));
        match same.next() {
            Some(group) => group.members.push_back(socket),
            None => self.0.push(Group {
                protocol,
                address,
                members: [socket].into(),
            }),
        }
        Ok(())
    }

    /// Whether there is a socket of every address for each of `shards` shards.
    pub fn is_whole(&self, shards: usize) -> bool {
        self.0.iter().all(|group| group.members.len() == shards)
    }

    /// The addresses of the sockets that nobody has taken.
    pub fn left(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        let left = self.0.iter().filter(|group| !group.members.is_empty());
        left.map(|group| (group.protocol, group.address))
    }

    pub(super) fn has(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let mut groups = self.0.iter();
        groups.any(|group| group.is(protocol, address) && !group.members.is_empty())
    }

    /// The socket of the next shard.
    pub(super) fn take(&mut self, protocol: Protocol, address: SocketAddr) -> Option<Socket> {
        let mut groups = self.0.iter_mut();
        let group = groups.find(|group| group.is(protocol, address))?;
        group.members.pop_front()
    }
}

impl Group {
    fn is(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.protocol == protocol && self.address == address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    use super::super::listen::{BindOptions, bind_group, bind_group_beside};

    #[test]
    fn what_is_inherited_is_not_bound_anew() -> io::Result<()> {
        let options = BindOptions::default();
        let any = [SocketAddr::from(([127, 0, 0, 1], 0))];
        let old = bind_group(&any, 2, &options).expect("a port");
        let mut inherited = Inherited::default();
        for shard in &old.shards {
            for listener in &shard.udp {
                inherited.add(listener.as_fd().try_clone_to_owned()?)?;
            }
            for listener in &shard.tcp {
                inherited.add(listener.as_fd().try_clone_to_owned()?)?;
            }
        }
        assert!(inherited.is_whole(2) && !inherited.is_whole(1));
        assert_eq!(inherited.left().count(), 2);
        assert!(bind_group(&old.addresses, 2, &options).is_err());
        let listen = [&old.addresses[..], &any[..]].concat();
        let new = bind_group_beside(&listen, 2, &options, &mut inherited).expect("bound");
        assert_eq!(inherited.left().count(), 0);
        assert_eq!(new.addresses.len(), 2);
        assert_eq!(new.addresses[0], old.addresses[0]);
        for shard in &new.shards {
            assert_eq!((shard.udp.len(), shard.tcp.len()), (2, 2));
        }
        Ok(())
    }

    #[test]
    fn what_does_not_listen_is_refused() -> io::Result<()> {
        let mut inherited = Inherited::default();
        let file = std::fs::File::open("/dev/null")?;
        assert!(inherited.add(file.into()).is_err());
        let (unix, _) = std::os::unix::net::UnixStream::pair()?;
        assert!(inherited.add(unix.into()).is_err());
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
        assert!(inherited.add(stream.into()).is_err());
        assert!(inherited.add(listener.into()).is_ok());
        Ok(())
    }
}
