//! `turnstone check`: everything that is wrong with a file, at once.

use super::args::CheckArgs;
use super::{Failure, output};
use crate::config::{Config, Overrides};

/// Says that the file is good, or fails with all its problems.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(Some(&args.file), &Overrides::default())
        .map_err(|report| report.to_string())?;
    for warning in &config.warnings {
        output::complain(&warning.to_string());
    }
    output::say(&format!("{}: ok", args.file.display()))
}
