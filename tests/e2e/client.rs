//! A client that we did not write: that of the `turn` crate, over UDP, framed TCP and TLS.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use webrtc_util::Conn;

use super::process::LIMIT;
use super::server::{PASSWORD, REALM, USER};

/// An allocation and the client that holds it.
pub(crate) struct Client {
    client: turn::client::Client,
    relay: Arc<dyn Conn + Send + Sync>,
}

impl Client {
    /// Allocates over UDP.
    pub(crate) async fn udp(server: SocketAddr) -> Self {
        Self::udp_as(server, USER, PASSWORD).await.unwrap()
    }

    /// Allocates over UDP as `user`.
    pub(crate) async fn udp_as(
        server: SocketAddr,
        user: &str,
        password: &str,
    ) -> Result<Self, turn::Error> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => [0, 0, 0, 0].into(),
            SocketAddr::V6(_) => [0u16; 8].into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        Self::allocate(Arc::new(socket), server, user, password).await
    }

    /// Allocates over TCP.
    pub(crate) async fn tcp(server: SocketAddr) -> Self {
        let conn = Arc::new(Framed::connect(server).await.unwrap());
        Self::allocate(conn, server, USER, PASSWORD).await.unwrap()
    }

    /// Allocates over TLS by `config`.
    pub(crate) async fn tls(server: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let conn = Arc::new(Framed::connect_tls(server, config).await.unwrap());
        Self::allocate(conn, server, USER, PASSWORD).await.unwrap()
    }

    async fn allocate(
        conn: Arc<dyn Conn + Send + Sync>,
        server: SocketAddr,
        user: &str,
        password: &str,
    ) -> Result<Self, turn::Error> {
        let client = turn::client::Client::new(turn::client::ClientConfig {
            stun_serv_addr: server.to_string(),
            turn_serv_addr: server.to_string(),
            username: user.to_owned(),
            password: password.to_owned(),
            realm: REALM.to_owned(),
            software: String::new(),
            // Nothing is lost here; whoever answers may be late.
            rto_in_ms: 2000,
            conn,
            vnet: None,
        })
        .await?;
        client.listen().await?;
        let relay = Arc::new(client.allocate().await?);
        Ok(Self { client, relay })
    }

    /// The relayed transport address.
    pub(crate) fn relayed(&self) -> SocketAddr {
        self.relay.local_addr().unwrap()
    }

    /// The mapped address that a Binding request tells.
    pub(crate) async fn mapped(&self) -> SocketAddr {
        self.client.send_binding_request().await.unwrap()
    }

    /// Sends `payload` to `peer`; installs permission and channel at first.
    pub(crate) async fn send(&self, payload: &[u8], peer: SocketAddr) {
        self.try_send(payload, peer).await.unwrap();
    }

    /// As [`Client::send`], but it may be refused.
    pub(crate) async fn try_send(
        &self,
        payload: &[u8],
        peer: SocketAddr,
    ) -> Result<usize, webrtc_util::Error> {
        self.relay.send_to(payload, peer).await
    }

    /// The next datagram that a peer sent; none after [`LIMIT`].
    pub(crate) async fn receive(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 65_536];
        let received = self.relay.recv_from(&mut buffer);
        let received = tokio::time::timeout(LIMIT, received).await;
        let (length, peer) = received.ok()?.ok()?;
        buffer.truncate(length);
        Some((buffer, peer))
    }

    /// Ends the allocation.
    pub(crate) async fn close(self) {
        self.relay.close().await.unwrap();
        // The request above is not waited for; its transaction ends here.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.client.close().await.unwrap();
    }
}

/// A stream cut into STUN messages and ChannelData (RFC 8656 §12.5).
struct Framed {
    reader: Mutex<Box<dyn AsyncRead + Send + Unpin>>,
    writer: Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Framed {
    async fn connect(server: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self::over(stream, local, remote))
    }

    async fn connect_tls(server: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let name = server.ip().into();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self::over(stream, local, remote))
    }

    fn over(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader: Mutex::new(Box::new(reader)),
            writer: Mutex::new(Box::new(writer)),
            local,
            remote,
        }
    }
}

#[async_trait::async_trait]
impl Conn for Framed {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> webrtc_util::Result<usize> {
        let mut reader = self.reader.lock().await;
        reader.read_exact(&mut buffer[..4]).await?;
        let length = usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
        let (message, padded) = match buffer[0] {
            0..64 => (20 + length, 20 + length),
            _ => (4 + length, 4 + length.next_multiple_of(4)),
        };
        reader.read_exact(&mut buffer[4..padded]).await?;
        Ok(message)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        Ok((self.recv(buffer).await?, self.remote))
    }

    async fn send(&self, message: &[u8]) -> webrtc_util::Result<usize> {
        let mut padded = message.to_vec();
        padded.resize(message.len().next_multiple_of(4), 0);
        let mut writer = self.writer.lock().await;
        writer.write_all(&padded).await?;
        writer.flush().await?;
        Ok(message.len())
    }

    async fn send_to(&self, message: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        self.send(message).await
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.remote)
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
