//! The annotated default file says what is true.

use std::path::Path;

use turnstone::config::{Config, Overrides, keys};

use super::{defaults, load};

const FILE: &str = include_str!("../../turnserver.toml");

/// `FILE` with every key that is commented out put in force.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = FILE.lines().map(line).collect();
    // NAT discovery needs an address of its own to listen on.
    let everywhere = r#"["0.0.0.0:3478", "[::]:3478"]"#;
    assert!(text.contains(everywhere));
    text.replace(everywhere, r#"["192.0.2.10:3478", "[::]:3478"]"#)
}

#[test]
fn it_equals_the_built_in_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("turnserver.toml");
    let config = Config::load(Some(&path), &Overrides::default()).expect("it is valid");
    assert_eq!(format!("{config:?}"), format!("{:?}", defaults()));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn every_key_that_is_commented_out_is_known_and_valid() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(
        directory.path().join("secrets.txt"),
        "# a comment\n\nold-secret-still-good\n",
    )
    .expect("a file in it");
    super::tls::write_certificate(directory.path(), "fullchain.pem", "privkey.pem");
    let path = directory.path().join("turnserver.toml");
    std::fs::write(&path, uncommented()).expect("a file in it");
    let config = Config::load(Some(&path), &Overrides::default())
        .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((config.users.len(), config.secrets.len()), (2, 2));
    assert!(config.oauth.is_some());
}

#[test]
fn every_key_is_there_and_described() {
    let lines: Vec<_> = FILE.lines().collect();
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(|char| "[]".contains(char));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            found.push(format!("{section}.{key}"));
            let above = lines[..index]
                .iter()
                .rev()
                .find(|line| !line.contains(" = "));
            let described =
                above.is_some_and(|above| above.starts_with("# ") || above.starts_with("#[["));
            assert!(described, "{section}.{key} has no comment");
        }
    }
    let tables = ["auth.users", "auth.oauth_keys", "tls.certificates"];
    for key in keys().filter(|key| !tables.contains(&key.as_str())) {
        assert!(found.contains(&key), "{key} is missing");
    }
}

fn is_key(text: &str) -> bool {
    text.chars()
        .all(|char| char.is_ascii_lowercase() || "_0123456789".contains(char))
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = load(b"").expect("it is valid");
    assert_eq!(format!("{config:?}"), format!("{:?}", defaults()));
}
