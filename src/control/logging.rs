//! Logging to standard error: lines for people, or one JSON object a line.

use std::env;
use std::io::{self, IsTerminal};

use tracing::Level;
use tracing::subscriber::set_global_default;
use tracing_subscriber::fmt::MakeWriter;

use super::log_queue::LogQueue;
use crate::config::{Log, LogFormat};

/// Flushes the log when the process is about to end.
#[derive(Debug)]
pub(super) struct LogGuard(Option<LogQueue>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.flush();
        }
    }
}

/// Starts logging as `log` says. A process that already logs goes on as it does.
pub(super) fn start(log: Log) -> io::Result<LogGuard> {
    let colours =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let queue = LogQueue::start(log.format, io::stderr())?;
    let subscriber = subscriber(log, colours, queue.clone());
    Ok(LogGuard(
        set_global_default(subscriber).is_ok().then_some(queue),
    ))
}

fn subscriber<W>(log: Log, colours: bool, output: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_max_level(log.level)
        .with_writer(output)
        .log_internal_errors(false);
    match log.format {
        LogFormat::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
        // Where a line comes from helps who reads at DEBUG and distracts who operates.
        LogFormat::Human => Box::new(
            builder
                .with_ansi(colours)
                .with_target(log.level >= Level::DEBUG)
                .finish(),
        ),
    }
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
            subscriber(log, colours, Memory(Arc::clone(&memory))),
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
