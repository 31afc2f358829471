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
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let queue = LogQueue::start(io::stderr())?;
    let subscriber = subscriber(log, colours, queue.clone());
    Ok(LogGuard(set_global_default(subscriber).is_ok().then_some(queue)))
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
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish()),
        // Where a line comes from helps who reads at DEBUG and distracts who operates.
        LogFormat::Human => Box::new(builder.with_ansi(colours).with_target(log.level >= Level::DEBUG).finish()),
    }
}
