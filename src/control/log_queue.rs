//! Log lines on their way out: a thread that logs never waits for whoever reads the log.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Lines that may wait. Further lines are counted and dropped.
const LINES: usize = 4096;
/// How long a flush waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it rests between two looks at a full queue.
const PAUSE: Duration = Duration::from_millis(5);

/// A bounded queue of lines and the thread that writes them.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    sender: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
    Work(Box<dyn FnOnce() + Send>),
}

impl LogQueue {
    /// A queue whose lines go to `output`. When `output` fails, lines are lost and nothing else.
    pub(super) fn start(
        format: LogFormat,
        output: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&lost);
        thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&receiver, output, format, &seen))?;
        Ok(Self { sender, lost })
    }

    /// Has the thread that writes do `work`, behind the lines so far.
    pub(super) fn on_its_thread(&self, work: impl FnOnce() + Send + 'static) {
        // It ends only when the last sender is gone, and this is one.
        let _ = self.sender.send(Item::Work(Box::new(work)));
    }

    /// Waits, for a second at most, until every line so far is written.
    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        while self.sender.try_send(Item::Flush(done.clone())).is_err() {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(PAUSE);
        }
        // An error is a reader that does not read; there is nobody left to tell.
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(
    receiver: &Receiver<Item>,
    mut output: impl Write,
    format: LogFormat,
    lost: &AtomicU64,
) {
    for item in receiver {
        // A log that cannot be written cannot be complained about.
        let _ = match item {
            Item::Line(line) => {
                let lost = lost.swap(0, Ordering::Relaxed);
                report_lost(&mut output, format, lost).and_then(|()| output.write_all(&line))
            }
            Item::Work(work) => {
                work();
                Ok(())
            }
            Item::Flush(done) => done.send(()).map_err(io::Error::other),
        };
    }
}

fn report_lost(output: &mut impl Write, format: LogFormat, lost: u64) -> io::Result<()> {
    match format {
        _ if lost == 0 => Ok(()),
        LogFormat::Json => writeln!(
            output,
            "{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"lines\":{lost}}}"
        ),
        LogFormat::Human => writeln!(
            output,
            "WARN {lost} log lines lost: whoever reads them is too slow"
        ),
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Hands one line to the queue.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a LogQueue);

impl Write for Line<'_> {
    /// The subscriber writes each line at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.sender.try_send(Item::Line(line.to_vec())).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Blocks until the test lets go, as a pipe that nobody reads.
    struct Stuck(Receiver<()>, Memory);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order() {
        let memory = Memory::default();
        let queue = LogQueue::start(LogFormat::Human, memory.clone()).expect("thread");
        queue.make_writer().write_all(b"one\n").expect("write");
        queue.make_writer().write_all(b"two\n").expect("write");
        // It gives up after a second in which the writer did not get to run.
        while memory.text().len() < 8 {
            queue.flush();
        }
        assert_eq!(memory.text(), "one\ntwo\n");
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_time() {
        let (release, held) = channel();
        let memory = Memory::default();
        let queue = LogQueue::start(LogFormat::Json, Stuck(held, memory.clone())).expect("thread");
        for _ in 0..LINES + 100 {
            queue.make_writer().write_all(b"line\n").expect("write");
        }
        assert!(queue.lost.load(Ordering::Relaxed) >= 99);
        drop(release);
        while queue
            .sender
            .try_send(Item::Line(b"last\n".to_vec()))
            .is_err()
        {
            thread::yield_now();
        }
        while !memory.text().contains("log lines lost") {
            thread::yield_now();
        }
    }
}
