//! Logging to standard error: lines for people, or one JSON object a line.

use std::env;
use std::io::{self, IsTerminal};

use tracing::Level;
use tracing::subscriber::set_global_default;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::{Registry, reload};

use super::log_queue::LogQueue;
use crate::config::{Log, LogFormat};

/// The log of the process; flushes it when the process is about to end.
pub(super) struct LogGuard {
    queue: Option<LogQueue>,
    set_level: SetLevel,
}

type SetLevel = Box<dyn Fn(Level) + Send + Sync>;
type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

impl LogGuard {
    /// Has the thread that writes the log do `work`.
    pub(super) fn on_its_thread(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(queue) = &self.queue {
            queue.on_its_thread(work);
        }
    }

    /// From now on `level` is the least severe level that is written.
    pub(super) fn set_level(&self, level: Level) {
        (self.set_level)(level);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.flush();
        }
    }
}

/// Starts logging as `log` says. A process that already logs goes on as it does.
pub(super) fn start(log: Log) -> io::Result<LogGuard> {
    let colours =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let queue = LogQueue::start(log.format, io::stderr())?;
    let (subscriber, set_level) = subscriber(log, colours, queue.clone());
    Ok(LogGuard {
        queue: set_global_default(subscriber).is_ok().then_some(queue),
        set_level,
    })
}

fn subscriber<W>(log: Log, colours: bool, output: W) -> (Subscriber, SetLevel)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(log.level));
    let lines = fmt::layer().with_writer(output).log_internal_errors(false);
    let lines = match log.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        // Where a line comes from helps who reads at DEBUG and distracts who operates.
        LogFormat::Human => lines
            .with_ansi(colours)
            .with_target(log.level >= Level::DEBUG)
            .boxed(),
    };
    let set_level = move |level| {
        // It fails only when the subscriber is gone, and then nobody logs.
        let _ = handle.reload(LevelFilter::from_level(level));
    };
    let subscriber = Registry::default().with(filter).with(lines);
    (Box::new(subscriber), Box::new(set_level))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing::{debug, info};

    use super::*;

    /// What is logged at INFO and DEBUG by `log`.
    fn logged(log: Log, colours: bool) -> String {
        let memory = Arc::new(Mutex::new(Vec::new()));
        with_default(
            subscriber(log, colours, Memory(Arc::clone(&memory))).0,
            || {
                info!(shards = 2, "ready");
                debug!("detail");
            },
        );
        let bytes = memory.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Line;

        fn make_writer(&'a self) -> Line {
            Line(Arc::clone(&self.0))
        }
    }

    struct Line(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Line {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let log = Log {
            level: Level::DEBUG,
            format: LogFormat::Json,
        };
        let text = logged(log, true);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "ready");
        assert_eq!(lines[0]["shards"], 2);
        assert_eq!(lines[1]["level"], "DEBUG");
    }

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let log = Log {
            level: Level::INFO,
            format: LogFormat::Human,
        };
        let memory = Arc::new(Mutex::new(Vec::new()));
        let (subscriber, set_level) = subscriber(log, false, Memory(Arc::clone(&memory)));
        with_default(subscriber, || {
            debug!("before");
            set_level(Level::DEBUG);
            debug!("between");
            set_level(Level::WARN);
            info!("after");
        });
        let bytes = memory.lock().expect("lock").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.contains("between"), "{text}");
        assert!(
            !text.contains("before") && !text.contains("after"),
            "{text}"
        );
    }

    #[test]
    fn people_get_plain_lines_and_colours_only_if_told() {
        let log = Log {
            level: Level::INFO,
            format: LogFormat::Human,
        };
        let text = logged(log, false);
        assert!(text.ends_with(" INFO ready shards=2\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(logged(log, true).contains('\u{1b}'));
    }
}
