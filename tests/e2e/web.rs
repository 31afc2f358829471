//! A web server behind the shared port: pages, uploads and WebSocket, over TCP without TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What every page is.
pub(crate) const PAGE: &str = "a page of the web server";
/// What WebSocket keys are hashed with (RFC 6455 §1.3).
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Asks for a page, sends a body and messages there and back, and says how it went.
const SCRIPT: &str = r#"<!DOCTYPE html><script>
const tell = (how) => fetch('/told?' + encodeURIComponent(how));
(async () => {
  const page = await (await fetch('/page')).text();
  const body = 'x'.repeat(300000);
  const up = await (await fetch('/upload', { method: 'POST', body })).text();
  const socket = new WebSocket('wss://' + location.host + '/socket');
  let echoed = 0;
  socket.onopen = () => socket.send('message 0');
  socket.onmessage = (event) => {
    if (event.data !== 'message ' + echoed++) return tell('torn');
    if (echoed < 20) return socket.send('message ' + echoed);
    tell(`${page.length}-${up === body}-${echoed}`);
  };
})().catch((error) => tell('failed: ' + error));
</script>"#;

/// Serves until the process ends, and returns where.
pub(crate) fn serve() -> SocketAddr {
    serve_script().0
}

/// Serves until the process ends: where, and what the script says of itself.
pub(crate) fn serve_script() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            thread::spawn(move || converse(&stream, &tell));
        }
    });
    (address, told)
}

/// Answers requests until the client closes.
fn converse(stream: &TcpStream, tell: &Sender<String>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let (target, headers) = read_head(&mut reader)?;
        if let Some(told) = target.strip_prefix("/told?") {
            let _ = tell.send(told.to_owned());
        }
        let header = |name: &str| {
            let found = headers.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| value.as_str())
        };
        let length = header("content-length").and_then(|value| value.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        match target.as_str() {
            "/upload" => answer(writer, "application/octet-stream", &body)?,
            "/script" => answer(writer, "text/html", SCRIPT.as_bytes())?,
            "/socket" => {
                let key = header("sec-websocket-key").unwrap_or_default();
                let accept = STANDARD.encode(Sha1::digest(format!("{key}{WEBSOCKET}")));
                write!(
                    writer,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                )?;
                return echo_frames(&mut reader, writer);
            }
            _ => answer(writer, "text/plain", PAGE.as_bytes())?,
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            None => return Ok((target, headers)),
        }
    }
}

fn answer(mut writer: &TcpStream, kind: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )?;
    writer.write_all(body)
}

/// Sends short messages back without their mask (RFC 6455 §5).
fn echo_frames(reader: &mut impl Read, mut writer: &TcpStream) -> io::Result<()> {
    loop {
        let mut head = [0; 6];
        reader.read_exact(&mut head)?;
        let [first, length, mask @ ..] = head;
        let mut payload = vec![0; usize::from(length & 0x7F)];
        reader.read_exact(&mut payload)?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        writer.write_all(&[&[first, length & 0x7F][..], &payload].concat())?;
    }
}
