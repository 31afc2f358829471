//! The first line of all: it asks the server for the rest.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::line::LineError;
use super::{TAKE_OVER, UNKNOWN_COMMAND};

/// How long the answer may take.
const PROMPT: Duration = Duration::from_secs(5);
/// The longest answer to the first line, in bytes; what follows is cut.
const LONGEST_ANSWER: usize = 4096;
const NO_SERVER: &str = "it is no turnstone, or one of a version that this one does not understand";

/// Asks for the take-over in the language of the control socket, which is that of every version.
pub(super) fn ask(stream: &mut UnixStream) -> Result<(), LineError> {
    let answer = answer(stream)?;
    let why = match answer.as_deref() {
        None => return Ok(()),
        Some("") => return Err(LineError::Gone),
        Some(answer) => answer.strip_prefix("failed\n").unwrap_or(NO_SERVER),
    };
    let why = match why.starts_with(UNKNOWN_COMMAND) {
        true => "its version cannot hand over; stop it and start this one anew",
        false => why.trim_end(),
    };
    Err(LineError::Refused(why.to_owned()))
}

/// What the server answers; none when it agrees.
fn answer(stream: &mut UnixStream) -> io::Result<Option<String>> {
    stream.set_read_timeout(Some(PROMPT))?;
    stream.write_all(format!("{TAKE_OVER}\n").as_bytes())?;
    let mut answer = Vec::new();
    // What follows is no longer in that language.
    while answer != b"ok\n" {
        let mut byte = [0];
        let is_over = match stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if is_over || answer.len() >= LONGEST_ANSWER {
            return Ok(Some(String::from_utf8_lossy(&answer).into_owned()));
        }
        answer.extend(byte);
    }
    Ok(None)
}
