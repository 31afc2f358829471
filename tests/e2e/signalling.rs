//! The web server of the two pages: the page itself, a message box for each, and their reports.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Request, answer};
use super::process::{LIMIT, until};

/// The two sides, by the name that they go by in every query.
pub(crate) const ROLES: [&str; 2] = ["offer", "answer"];

/// A web server until the test ends.
pub(crate) struct Signalling {
    address: SocketAddr,
    post: Arc<Mutex<Post>>,
}

#[derive(Default)]
struct Post {
    boxes: HashMap<String, Vec<Value>>,
    reports: HashMap<String, Value>,
}

impl Signalling {
    /// Serves on `listener`, on a thread of its own.
    pub(crate) fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let post = Arc::new(Mutex::new(Post::default()));
        let shared = Arc::downgrade(&post);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(post) = shared.upgrade() else { return };
                // A browser opens connections ahead of need; each waits on its own thread.
                thread::spawn(move || serve_one(&stream, &post));
            }
        });
        Self { address, post }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What both pages reported, in the order of [`ROLES`].
    pub(crate) fn reports(&self, limit: Duration) -> [Value; 2] {
        until(limit, || {
            self.post.lock().unwrap().reports.len() == ROLES.len()
        });
        let reports = &self.post.lock().unwrap().reports;
        ROLES.map(|role| reports.get(role).cloned().unwrap_or(Value::Null))
    }
}

fn serve_one(stream: &TcpStream, post: &Mutex<Post>) {
    let _ = stream.set_read_timeout(Some(LIMIT));
    let Ok(request) = Request::read(stream) else {
        return;
    };
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let role = query.split('=').nth(1).unwrap_or_default();
    let reply = post.lock().unwrap().reply(&request, path, role);
    let _ = match reply {
        Some(reply) => answer(stream, "application/json", &reply.to_string()),
        None => answer(stream, "text/html", include_str!("page.html")),
    };
}

impl Post {
    fn reply(&mut self, request: &Request, path: &str, role: &str) -> Option<Value> {
        let value = || serde_json::from_str(&request.body).unwrap_or(Value::Null);
        match (request.method.as_str(), path) {
            ("POST", "/signal") => self.boxes.entry(role.to_owned()).or_default().push(value()),
            ("GET", "/signal") => return Some(self.boxes.remove(role).unwrap_or_default().into()),
            ("POST", "/result") => _ = self.reports.insert(role.to_owned(), value()),
            _ => return None,
        }
        Some(json!({}))
    }
}
