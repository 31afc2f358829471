//! While the old and the new process both serve: each tells the other which relays live in it, so that
//! their clients can be each other's peers.

use std::time::Duration;

use super::line::{Kind, Line, LineError};
use crate::turn::{RelaySet, Shared};

/// How often a process looks whether its relays have changed.
const GLANCE: Duration = Duration::from_millis(50);
/// How long the other process may take to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells and hears until the other process has gone.
pub(super) fn hold(line: &mut Line, shared: &Shared) {
    let mut told = RelaySet::default();
    while exchange(line, shared, &mut told).is_ok() {}
    shared.elsewhere(&RelaySet::default());
}

fn exchange(line: &mut Line, shared: &Shared, told: &mut RelaySet) -> Result<(), LineError> {
    let relays = shared.relays();
    if relays != *told {
        line.say(Kind::Relays, &relays.to_bytes(), &[], PATIENCE)?;
        *told = relays;
    }
    match line.hear_begun(GLANCE, PATIENCE) {
        Err(LineError::Silent) => Ok(()),
        Err(error) => Err(error),
        Ok(frame) => {
            let relays = RelaySet::from_bytes(&frame.body).map_err(|_| LineError::Confused)?;
            shared.elsewhere(&relays);
            Ok(())
        }
    }
}
