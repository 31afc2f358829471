//! What is wrong is said with line, key and remedy, everything at once.

use turnstone::config::{Config, Overrides, Report};

use super::cases::CASES;
use super::{load, load_with, problems, shown};

#[test]
fn each_problem_names_line_key_and_remedy() {
    for (file, expected) in CASES {
        let expected: Vec<_> = expected
            .iter()
            .map(|line| format!("turnserver.toml:{line}"))
            .collect();
        assert_eq!(problems(file.as_bytes()), expected, "{file}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let report = load(b"[log]\nlevel = 1\n[server]\nworkers = 0\n[auth]\nrelm = 2\n")
        .expect_err("three problems");
    let lines: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| problem.line())
        .collect();
    assert_eq!(lines, [Some(2), Some(4), Some(6)]);
    let keys: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| problem.key())
        .collect();
    assert_eq!(keys, ["log.level", "server.workers", "auth.relm"]);
    assert!(
        report
            .to_string()
            .ends_with("\n3 problems; nothing was started")
    );
}

#[test]
fn one_problem_is_one_line() {
    let report = load(b"x = 1").expect_err("one problem");
    assert_eq!(report.to_string().lines().count(), 1);
}

#[test]
fn long_values_are_counted() {
    let realm = format!("[auth]\nrealm = \"{}\"", "é".repeat(128));
    assert_eq!(
        problems(realm.as_bytes()),
        [
            "turnserver.toml:2: auth.realm: the realm has 128 characters; write 1 to 127 (RFC 8489 §14.9)"
        ]
    );
    let name = format!(
        "[[auth.users]]\nname = \"{}\"\npassword = \"b\"",
        "x".repeat(509)
    );
    assert_eq!(
        problems(name.as_bytes()),
        [
            "turnserver.toml:2: auth.users[0].name: the name has 509 bytes; 508 are the most (RFC 8489 §14.3)"
        ]
    );
    let id = format!(
        "[auth]\noauth_server_name = \"s\"\n[[auth.oauth_keys]]\nid = \"{}\"\nkey = \"a2tra2tra2tra2tra2traw==\"\nalgorithm = \"A128GCM\"",
        "x".repeat(509)
    );
    assert_eq!(
        problems(id.as_bytes()),
        [
            "turnserver.toml:4: auth.oauth_keys[0].id: the id has 509 bytes; 508 are the most (RFC 8489 §14.3)"
        ]
    );
    let secret = format!("[auth]\nsecrets = [\"{}\"]", "x".repeat(1025));
    assert_eq!(
        problems(secret.as_bytes()),
        ["turnserver.toml:2: auth.secrets[0]: the secret has 1025 bytes; 1024 are the most"]
    );
    let software = format!("[server]\nsoftware = \"{}\"", "x".repeat(128));
    assert_eq!(
        problems(software.as_bytes()),
        ["turnserver.toml:2: server.software: 128 characters; 127 are the most (RFC 8489 §14.14)"]
    );
}

#[test]
fn flags_are_named() {
    let texts = |text: &str| vec![text.to_owned()];
    let overrides = Overrides {
        listen: texts("x"),
        external: texts("0.0.0.0"),
        allow: texts("x"),
        deny: texts("10.0.0.1/8"),
        workers: Some("many".to_owned()),
        metrics: Some("on".to_owned()),
        log_level: Some("loud".to_owned()),
        log_format: Some("xml".to_owned()),
        realm: Some(String::new()),
        secrets: texts(""),
        users: Vec::new(),
    };
    let lines = shown(&load_with(b"x = 1", &overrides).expect_err("eleven problems"));
    let places: Vec<_> = lines
        .iter()
        .map(|line| line.split(": ").next().unwrap_or_default())
        .collect();
    let flags = [
        "--allow-peer",
        "--deny-peer",
        "--external-ip",
        "--listen",
        "--log-format",
        "--log-level",
        "--metrics",
        "--realm",
        "--secret",
        "--workers",
    ];
    assert_eq!(places[0], "turnserver.toml:1");
    assert_eq!(places[1..], flags);
}

#[test]
fn warnings_do_not_stop_the_server() {
    let file = b"[auth]\nsecrets = [\"short\"]\n[lifetimes]\npermission = 1\n[limits]\nallocations = 0\n\
        [metrics]\nlisten = \"0.0.0.0:9641\"\n[relay]\naddresses = [\"10.0.0.1\"]\nexternal = [\"203.0.113.5/10.0.0.2\"]";
    let config = load(file).unwrap_or_else(|report| panic!("{report}"));
    let lines: Vec<_> = config
        .warnings
        .iter()
        .map(|warning| warning.line())
        .collect();
    assert_eq!(lines, [Some(2), Some(4), Some(6), Some(8), Some(11)]);
    assert!(
        config
            .warnings
            .iter()
            .all(|warning| warning.to_string().contains(": warning: "))
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = |path: &std::path::Path| -> Report {
        Config::load(Some(path), &Overrides::default()).expect_err("a problem")
    };
    let missing = report(&directory.path().join("missing.toml"));
    assert!(
        missing.problems()[0]
            .to_string()
            .ends_with("missing.toml: no such file; create it or name another")
    );
    let folder = report(directory.path());
    assert!(
        folder.problems()[0]
            .to_string()
            .ends_with(": is a directory; name a file in it")
    );
    assert_eq!(
        problems(b"\n\xff"),
        ["turnserver.toml:2: not UTF-8; save the file in that encoding"]
    );
}

#[test]
fn a_file_of_secrets_without_any_is_a_problem() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "# nothing\n").expect("a file in it");
    let file = format!("[auth]\nsecrets_files = [{empty:?}]");
    let lines = problems(file.as_bytes());
    assert!(
        lines[0].ends_with("empty: holds no secret; write one a line"),
        "{lines:?}"
    );
}

#[test]
fn secrets_are_never_shown() {
    let file = b"[auth]\nsecrets = [\"hush-a\", \"\"]\n[[auth.users]]\nname = \"a\"\npassword = \"hush-b\"\nkey = \"hush-c\"\n\
        [[auth.users]]\nname = \"b\"\nkey = \"hush-d\"\n\
        [[auth.oauth_keys]]\nid = \"a\"\nkey = \"hush-e\"";
    let report = load(file).expect_err("problems");
    assert!(!format!("{report}{report:?}").contains("hush"));
    let config = load(
        b"[auth]\nsecrets = [\"hush-a\"]\n[[auth.users]]\nname = \"a\"\npassword = \"hush-b\"",
    )
    .expect("valid");
    assert!(!format!("{config:?}{:?}", config.users).contains("hush"));
}
