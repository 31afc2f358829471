//! Writes to the terminal without a panic when nobody reads.

use std::io::{self, ErrorKind, Write as _};

/// Prints `text` and a newline to standard output.
///
/// # Errors
/// It cannot be written, for another reason than that the reader has gone.
pub(super) fn say(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// Prints `text` and a newline to standard error, if anybody reads it.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `text` as it is, or quoted where it would tear the line or drive the terminal.
pub(super) fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        serde_json::Value::from(text).to_string()
    } else {
        text.to_owned()
    }
}
