//! Connections that have not said what they are.

use std::net::{IpAddr, SocketAddr};

use super::connection::{Connection, Role};
use super::event_loop::Shard;
use super::greeting::Told;
use super::token::ConnectionId;
use crate::transport::{ProxyHeader, TlsSession};
use crate::turn::{ConnectionEnd, Counter, FiveTuple, Network, Transport};

impl Shard {
    /// Whether connections from `ip` begin with a header of the PROXY protocol.
    pub(super) fn is_balancer(&self, ip: IpAddr) -> bool {
        let has = |network: &Network| network.contains(ip);
        self.balancers.iter().any(has)
    }

    /// Takes what has arrived in the next free slot, and learns what it can of the connection; returns
    /// what `handle_bytes` does.
    pub(super) fn hear(&mut self, id: ConnectionId, length: usize) -> Option<Vec<u8>> {
        let connection = self.connections.get(id)?;
        if let Role::Unknown(greeting) = &mut connection.role {
            greeting.hear(self.buffers.packet(0, length));
        }
        while let Some(told) = self.told(id) {
            match told {
                Told::Nothing => break,
                Told::Client(header) => {
                    if let Err(end) = self.name(id, header) {
                        self.doomed.push((id, end));
                        break;
                    }
                }
                Told::BadHeader => {
                    self.doomed.push((id, ConnectionEnd::ProxyHeader));
                    break;
                }
                Told::Turn => return self.become_turn(id),
                Told::Tls(upstream) => {
                    self.become_tls(id, upstream);
                    break;
                }
                Told::PassOn(upstream) => {
                    self.pass_on(id, upstream);
                    break;
                }
            }
        }
        None
    }

    fn told(&mut self, id: ConnectionId) -> Option<Told> {
        let connection = self.connections.get(id)?;
        let agreed = connection.speaks_turn();
        match &mut connection.role {
            Role::Unknown(greeting) => Some(greeting.tell(&self.upstreams, agreed)),
            Role::Turn | Role::Binding | Role::Passing(_) => None,
        }
    }

    /// Learns whose connection it is. The server's address stays our own, of which relayed addresses are
    /// made; the port is the one that the client connected to, so that two connections of one client's
    /// port to two ports of a balancer differ.
    fn name(&mut self, id: ConnectionId, header: ProxyHeader) -> Result<(), ConnectionEnd> {
        let Some(connection) = self.connections.get(id) else {
            return Ok(());
        };
        let mut five_tuple = connection.five_tuple;
        if let ProxyHeader::Client {
            source,
            destination,
        } = header
        {
            five_tuple.client = source;
            five_tuple.server.set_port(destination.port());
            if let Role::Unknown(greeting) = &mut connection.role {
                greeting.reached = Some(destination);
            }
        }
        self.rename(id, five_tuple);
        if !self.connections.count(id) {
            return Err(ConnectionEnd::Refused);
        }
        tracing::debug!(shard = self.index, client = %five_tuple.client, "client named by a balancer");
        Ok(())
    }

    /// Gives a connection another five-tuple. Another connection that had it is over: nobody but a
    /// balancer names a client, and it has given the client's address and port to this one.
    fn rename(&mut self, id: ConnectionId, five_tuple: FiveTuple) {
        match self.connections.find(&five_tuple) {
            Some(older) if older != id => self.close(older, ConnectionEnd::Closed),
            _ => {}
        }
        if let Some(old) = self.connections.rename(id, five_tuple) {
            let stats = self.server.stats_mut();
            stats.subtract(Counter::Connections(old.transport), 1);
            stats.increment(Counter::Connections(five_tuple.transport));
        }
    }

    /// What was heard is for the core.
    fn become_turn(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let heard = self.take_heard(id, |connection| connection.role = Role::Turn)?;
        if heard.is_empty() {
            return None;
        }
        let room = self.buffers.free_packets().next()?;
        room[..heard.len()].copy_from_slice(&heard);
        self.handle_bytes(id, heard.len())
    }

    /// TLS ends here.
    fn become_tls(&mut self, id: ConnectionId, upstream: Option<usize>) {
        let session = self.tls.as_ref().map(|servers| {
            let settings = self.upstreams.settings(upstream, servers);
            TlsSession::new(settings)
        });
        let Some(Ok(session)) = session else {
            return self.doomed.push((id, ConnectionEnd::Closed));
        };
        let Some(five_tuple) = self.connections.get(id).map(|one| one.five_tuple) else {
            return;
        };
        self.rename(
            id,
            FiveTuple {
                transport: Transport::Tls,
                ..five_tuple
            },
        );
        let heard = self.take_heard(id, |connection| connection.enter_tls(session, upstream));
        let Some(heard) = heard else {
            return;
        };
        self.connections.enter_handshake();
        self.begin_handshake(id);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some(room) = self.buffers.free_packets().next() else {
            return;
        };
        let arrival = connection.take_in(&heard, room);
        self.handle_arrival(id, arrival);
    }

    /// Takes what was heard of a connection that becomes something.
    fn take_heard(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(&mut Connection),
    ) -> Option<Vec<u8>> {
        let connection = self.connections.get(id)?;
        let Role::Unknown(greeting) = &mut connection.role else {
            return None;
        };
        let heard = greeting.take_heard();
        change(connection);
        Some(heard)
    }
}

/// `address` as it is compared: an IPv4 address is never spelled as an IPv6 one.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, address.port()),
        _ => address,
    }
}
