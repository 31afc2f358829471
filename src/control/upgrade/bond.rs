//! While the old and the new process both serve: each tells the other which relays live on its side, so
//! that their clients can be each other's peers.
//!
//! Each tells and hears on threads of their own: two that tell first and hear then would wait for each other
//! as soon as their relays are more than the kernel holds for them.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use super::kin::{Kin, Side};
use super::line::{Kind, Line, LineError};
use crate::turn::RelaySet;

/// How often a process looks whether its relays have changed.
const GLANCE: Duration = Duration::from_millis(50);
/// How long it rests after having looked at one relay; many are looked at less often.
const EACH: Duration = Duration::from_micros(20);
/// However long the other process takes, it is there as long as the line is.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Tells and hears until the other process has gone, however silent it is.
pub(super) fn hold(line: &mut Line, kin: &Kin, side: Side) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let telling = line.copy().and_then(|stream| {
            let teller = Line::new(stream)?;
            let tell = || tell(teller, kin, side, &over);
            thread::Builder::new()
                .name("upgrade-tell".into())
                .spawn_scoped(scope, tell)
        });
        if let Err(error) = telling {
            warn!("the clients of another process can be no peers of ours: {error}");
        }
        hear(line, kin, side);
        over.store(true, Ordering::Release);
        if let Ok(stream) = line.copy() {
            // It fails only when the other end has gone.
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    kin.forget(side);
}

/// Tells of the relays of this side, as they change, until it is `over`.
fn tell(mut line: Line, kin: &Kin, side: Side, over: &AtomicBool) {
    let mut told = Told::default();
    let mut again = Instant::now();
    while !over.load(Ordering::Acquire) {
        if Instant::now() >= again {
            let news = told.news(kin.changes(), || kin.beyond(side));
            if let Some(relays) = news
                && let Err(_gone) = line.say(Kind::Relays, &relays.to_bytes(), &[], FOREVER)
            {
                // That is heard too.
                return;
            }
            again = Instant::now() + told.rest();
        }
        thread::sleep(GLANCE);
    }
}

/// What the other process was told.
#[derive(Default)]
struct Told {
    relays: Option<RelaySet>,
    /// What [`Kin::changes`] was before.
    changes: Option<u64>,
}

impl Told {
    /// What to tell now that there were so many `changes`. Looks only where it cannot be the same as before,
    /// since that copies everything.
    fn news(&mut self, changes: u64, look: impl FnOnce() -> RelaySet) -> Option<&RelaySet> {
        if self.changes.replace(changes) == Some(changes) {
            return None;
        }
        let relays = look();
        if self.relays.as_ref() == Some(&relays) {
            return None;
        }
        Some(self.relays.insert(relays))
    }

    /// How long to wait before the next look.
    fn rest(&self) -> Duration {
        let many = self.relays.as_ref().map_or(0, RelaySet::len);
        EACH.saturating_mul(u32::try_from(many).unwrap_or(u32::MAX))
    }
}

/// Notes which relays live in the other process, until that has gone.
fn hear(line: &mut Line, kin: &Kin, side: Side) {
    let heard = loop {
        match hear_once(line) {
            Ok(relays) => kin.note(side, relays),
            Err(error) => break error,
        }
    };
    if !matches!(heard, LineError::Gone) {
        // It serves nevertheless.
        warn!("the clients of another process can no longer be peers of ours: {heard}");
        kin.note(side, RelaySet::default());
        let _ = line.await_end(FOREVER);
    }
}

fn hear_once(line: &mut Line) -> Result<RelaySet, LineError> {
    let frame = line.expect(Kind::Relays, FOREVER)?;
    RelaySet::from_bytes(&frame.body).map_err(|_| LineError::Confused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    const LATE: Duration = Duration::from_secs(60);
    /// More than a Unix stream holds by far.
    const MANY: u16 = 20_000;

    fn relays(host: &str) -> RelaySet {
        let one = |port: u16| format!("[\"{host}:{}\",\"{host}\"]", 10_000 + port);
        let all: Vec<String> = (0..MANY).map(one).collect();
        let set = format!("{{\"udp\":[{}]}}", all.join(","));
        RelaySet::from_bytes(set.as_bytes()).expect("a set")
    }

    /// A process that knows `relays` beyond itself, on the side that is not `side`.
    fn process(side: Side, relays: RelaySet) -> Arc<Kin> {
        let kin = Arc::new(Kin::new(Arc::default()));
        let beyond = match side {
            Side::Older => Side::Newer,
            Side::Newer => Side::Older,
        };
        kin.meet_older();
        kin.note(beyond, relays);
        kin
    }

    #[track_caller]
    fn comes(what: impl Fn() -> bool) {
        let since = Instant::now();
        while !what() {
            assert!(since.elapsed() < LATE, "it does not come");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn both_tell_of_more_relays_than_the_line_holds() {
        let (old, new) = UnixStream::pair().expect("descriptors");
        let ends = [old.try_clone(), new.try_clone()].map(|end| end.expect("a copy"));
        let (older, newer) = (relays("192.0.2.1"), relays("192.0.2.2"));
        let first = process(Side::Newer, older.clone());
        let second = process(Side::Older, newer.clone());
        let (ended, has_ended) = channel();
        for (stream, kin, side) in [(old, &first, Side::Newer), (new, &second, Side::Older)] {
            let (kin, ended) = (Arc::clone(kin), ended.clone());
            let mut line = Line::new(stream).expect("line");
            thread::spawn(move || {
                hold(&mut line, &kin, side);
                ended.send(()).expect("somebody waits");
            });
        }
        comes(|| first.beyond(Side::Older) == newer);
        comes(|| second.beyond(Side::Newer) == older);
        assert!(has_ended.try_recv().is_err());
        for end in ends {
            end.shutdown(Shutdown::Both).expect("open");
            has_ended.recv_timeout(LATE).expect("the line has ended");
        }
        assert!(first.beyond(Side::Older).is_empty());
        assert!(second.beyond(Side::Newer).is_empty());
    }

    #[test]
    fn what_has_not_changed_is_not_looked_at_and_what_is_the_same_is_not_told() {
        let mut told = Told::default();
        let (none, some) = (RelaySet::default(), relays("192.0.2.1"));
        assert_eq!(told.news(7, RelaySet::default), Some(&none));
        assert_eq!(told.news(7, || panic!("it looks")), None);
        assert_eq!(told.news(8, RelaySet::default), None);
        assert_eq!(told.news(9, || some.clone()), Some(&some));
        assert_eq!(told.rest(), EACH * u32::from(MANY));
        assert_eq!(told.news(9, || panic!("it looks")), None);
    }

    #[test]
    fn only_the_end_of_the_line_is_the_end_of_the_other_process() {
        let (ours, theirs) = UnixStream::pair().expect("descriptors");
        let kin = process(Side::Newer, RelaySet::default());
        let (ended, has_ended) = channel();
        let mut line = Line::new(ours).expect("line");
        let there = Arc::clone(&kin);
        thread::spawn(move || {
            hold(&mut line, &there, Side::Newer);
            ended.send(()).expect("somebody waits");
        });
        let mut other = Line::new(theirs).expect("line");
        let known = relays("192.0.2.3");
        other
            .say(Kind::Relays, &known.to_bytes(), &[], LATE)
            .expect("said");
        comes(|| !kin.beyond(Side::Older).is_empty());
        // What nobody understands ends the talk, and not the process.
        other.say(Kind::Ready, b"?", &[], LATE).expect("said");
        comes(|| kin.beyond(Side::Older).is_empty());
        let soon = Duration::from_millis(200);
        assert!(has_ended.recv_timeout(soon).is_err(), "it has not gone");
        drop(other);
        has_ended.recv_timeout(LATE).expect("it has gone");
    }
}
