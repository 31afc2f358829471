//! Any bytes as a configuration file: it means something, or every problem is told.

use std::fs;

use turnstone::config::{Config, HostFacts, Overrides};

/// One input; panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    // Whoever names a file may name one that never ends.
    let has = |text: &[u8]| data.windows(text.len()).any(|window| window == text);
    if has(b"secrets_files") && has(b"/") {
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), data).expect("room for it");
    match Config::load(Some(file.path()), &Overrides::default()) {
        Ok(config) => {
            assert!(!config.endpoints().is_empty());
            let _ = format!("{config:?} {:?}", config.policy(&HostFacts::default()));
        }
        Err(report) => {
            assert!(report.errors() > 0);
            for problem in report.problems() {
                let line = problem.to_string();
                assert!(!line.is_empty() && !line.contains(['\n', '\r']), "{line:?}");
            }
        }
    }
}
