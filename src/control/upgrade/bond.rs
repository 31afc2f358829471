//! While the old and the new process both serve: each tells the other which relays live on its side, so
//! that their clients can be each other's peers.

use std::time::{Duration, Instant};

use super::kin::{Kin, Side};
use super::line::{Kind, Line, LineError};
use crate::turn::RelaySet;

/// How often a process looks whether its relays have changed.
const GLANCE: Duration = Duration::from_millis(50);
/// How long it rests after having told of one relay; many are told of less often.
const EACH: Duration = Duration::from_micros(20);
/// How long the other process may take to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells and hears until the other process has gone.
pub(super) fn hold(line: &mut Line, kin: &Kin, side: Side) {
    let mut told = Told {
        relays: None,
        again: Instant::now(),
    };
    while exchange(line, kin, side, &mut told).is_ok() {}
    kin.forget(side);
}

/// What the other process knows.
struct Told {
    relays: Option<RelaySet>,
    /// When it may be told again.
    again: Instant,
}

fn exchange(line: &mut Line, kin: &Kin, side: Side, told: &mut Told) -> Result<(), LineError> {
    if Instant::now() >= told.again {
        let relays = kin.beyond(side);
        if told.relays.as_ref() != Some(&relays) {
            line.say(Kind::Relays, &relays.to_bytes(), &[], PATIENCE)?;
            let many = u32::try_from(relays.len()).unwrap_or(u32::MAX);
            told.again = Instant::now() + EACH.saturating_mul(many);
            told.relays = Some(relays);
        }
    }
    match line.hear_begun(GLANCE, PATIENCE) {
        Err(LineError::Silent) => Ok(()),
        Err(error) => Err(error),
        Ok(frame) => {
            let relays = RelaySet::from_bytes(&frame.body).map_err(|_| LineError::Confused)?;
            kin.note(side, relays);
            Ok(())
        }
    }
}
