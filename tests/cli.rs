//! The binary's subcommands: what they print where, and their exit codes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use serde_json::Value;
use turnstone::turn::{AccessToken, TokenAlgorithm, TokenKey};

const OK: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);

/// A directory with the file `turnserver.toml`.
fn directory_with(file: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("turnserver.toml"), file).expect("a file in it");
    directory
}

fn turnstone(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstone"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_remove("TURNSTONE_SECRET");
    command
}

fn output(file: &str, arguments: &[&str]) -> Output {
    let directory = directory_with(file);
    let output = turnstone(directory.path(), arguments).output();
    output.expect("the binary runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

#[test]
fn check_of_a_good_file_says_ok() {
    let output = output("", &["check"]);
    assert_eq!(output.status.code(), OK);
    assert_eq!(stdout(&output), "turnserver.toml: ok\n");
}

#[test]
fn check_shows_warnings_of_a_good_file() {
    let output = output(
        "[auth]\nsecrets = [\"short\"]",
        &["check", "turnserver.toml"],
    );
    assert_eq!(output.status.code(), OK);
    assert!(stderr(&output).starts_with("turnserver.toml:2: warning: auth.secrets[0]: "));
}

#[test]
fn check_of_a_bad_file_shows_all_problems_and_fails() {
    let output = output("[auth]\nrelm = 1\n[log]\nlevel = 2", &["check"]);
    assert_eq!(output.status.code(), FAILED);
    assert_eq!(stdout(&output), "");
    let lines: Vec<_> = stderr(&output).lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2], "2 problems; nothing was started");
}

#[test]
fn a_bad_file_starts_nothing() {
    let output = output("[auth]\nrelm = 1", &["--config", "turnserver.toml"]);
    assert_eq!(output.status.code(), FAILED);
    assert_eq!(stderr(&output).lines().count(), 1);
    assert_eq!(stdout(&output), "");
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    assert_eq!(output("", &["--bogus"]).status.code(), USAGE);
    assert_eq!(output("", &["credential"]).status.code(), USAGE);
    let too_long = ["credential", "--user", "a", "--ttl", "1000d"];
    assert_eq!(output("", &too_long).status.code(), USAGE);
}

#[test]
fn version_and_help_are_no_failures() {
    let version = output("", &["--version"]);
    assert_eq!(version.status.code(), OK);
    assert_eq!(
        stdout(&version),
        concat!("turnstone ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = output("", &["--help"]);
    assert_eq!(help.status.code(), OK);
    assert!(stdout(&help).contains("Examples:"));
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    let directory = directory_with("");
    let mut command = turnstone(directory.path(), &["--help"]);
    let output = command
        .env("TURNSTONE_SECRET", "hush-hush")
        .output()
        .expect("it runs");
    assert!(!stdout(&output).contains("hush-hush"));
}

#[test]
fn a_time_limited_credential_comes_with_ice_servers() {
    let arguments = [
        "credential",
        "--user",
        "alice",
        "--ttl",
        "1h",
        "--secret",
        "north-wind-and-sun",
        "--host",
        "turn.example.org",
        "--json",
    ];
    let output = output("", &arguments);
    let value: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    let username = value["username"].as_str().expect("a username");
    let (expires, user) = username.split_once(':').expect("a colon");
    assert_eq!(
        (user, expires.parse().ok()),
        ("alice", value["expires"].as_u64())
    );
    let server = &value["iceServers"][0];
    assert_eq!(
        server["urls"][0],
        "turn:turn.example.org:3478?transport=udp"
    );
    assert_eq!(
        (&server["username"], &server["credential"]),
        (&value["username"], &value["password"])
    );
}

#[test]
fn the_secret_may_come_from_the_environment_or_the_file() {
    let directory = directory_with("");
    let mut command = turnstone(directory.path(), &["credential", "--user", "a"]);
    let from_environment = command
        .env("TURNSTONE_SECRET", "north-wind-and-sun")
        .output()
        .expect("it runs");
    assert!(stdout(&from_environment).contains("password: "));
    let from_file = output(
        "[auth]\nsecrets = [\"north-wind-and-sun\"]",
        &["credential", "--user", "a"],
    );
    assert!(stdout(&from_file).contains("expires:  20"));
}

#[test]
fn a_static_user_keeps_its_password() {
    let file = "[server]\nlisten = [\"192.0.2.1:80\"]\n[[auth.users]]\nname = \"alice\"\npassword = \"horse\"";
    let output = output(file, &["credential", "--user", "alice"]);
    assert!(stdout(&output).starts_with("username: alice\npassword: horse\nexpires:  never\n"));
    assert!(stdout(&output).contains("turn:192.0.2.1:80?transport=tcp"));
}

#[test]
fn without_secret_and_user_there_is_no_credential() {
    let output = output("", &["credential", "--user", "alice"]);
    assert_eq!((output.status.code(), stdout(&output)), (FAILED, ""));
    assert!(stderr(&output).contains("give --secret, TURNSTONE_SECRET or --config FILE"));
}

#[test]
fn a_stored_key_is_that_of_turnadmin_and_goes_into_the_file() {
    let directory = directory_with("");
    let mut child = turnstone(directory.path(), &["key", "--user", "bob"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"secret\r\n").expect("it reads");
    drop(stdin);
    let section = child.wait_with_output().expect("it ends");
    assert!(stdout(&section).contains("key = \"f880a9efe1cfe3253932a5e6a0549534\"\n"));
    assert_eq!(output(stdout(&section), &["check"]).status.code(), OK);
}

#[test]
fn nat_names_what_is_wrong_with_the_server() {
    for server in ["", "a:b", "host:99999"] {
        let output = output("", &["nat", server]);
        assert_eq!((output.status.code(), stdout(&output)), (FAILED, ""));
        assert!(stderr(&output).contains("write HOST or HOST:PORT"));
        assert_eq!(stderr(&output).lines().count(), 1);
    }
    for timeout in ["0", "2m", "soon"] {
        let output = output("", &["nat", "--timeout", timeout]);
        assert_eq!(output.status.code(), USAGE);
    }
}

#[test]
fn nobody_reading_is_no_panic() {
    let directory = directory_with("");
    let mut child = turnstone(
        directory.path(),
        &["key", "--user", "bob", "--password", "secret"],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(stderr(&output), "");
}

const OAUTH: &str = "[server]\nlisten = [\"192.0.2.1:80\"]\n[auth]\noauth_server_name = \"blackdow.carleon.gov\"\n\
    [[auth.oauth_keys]]\nid = \"north\"\nkey = \"SEdrajMyS0pHaXV5MDk4c2RmYXFiTmpPaWF6NzE5MjM=\"\n\
    [[auth.oauth_keys]]\nid = \"union\"\nkey = \"SEdrajMyS0pHaXV5MDk4cw==\"\nalgorithm = \"A128GCM\"";

/// What the token in the JSON `value` says, opened with a key of [`OAUTH`].
fn opened(value: &Value, algorithm: TokenAlgorithm) -> AccessToken {
    let long_term = b"HGkj32KJGiuy098sdfaqbNjOiaz71923";
    let key = TokenKey::new(algorithm, &long_term[..algorithm.key_length()]).expect("its length");
    let text = value["credential"]["accessToken"]
        .as_str()
        .expect("a token");
    let sealed = base64::prelude::BASE64_STANDARD
        .decode(text)
        .expect("base64");
    key.open(&sealed, "blackdow.carleon.gov")
        .expect("sealed with it")
}

#[test]
fn an_access_token_is_made_with_the_first_key_of_the_file_or_the_named_one() {
    let cases = [
        (vec![], "north", TokenAlgorithm::A256Gcm),
        (vec!["--user", "union"], "union", TokenAlgorithm::A128Gcm),
    ];
    for (more, id, algorithm) in cases {
        let mut arguments = vec!["credential", "--oauth", "--ttl", "90", "--json"];
        arguments.extend(more);
        let output = output(OAUTH, &arguments);
        let value: Value = serde_json::from_str(stdout(&output)).expect("JSON");
        let token = opened(&value, algorithm);
        assert_eq!(token.lifetime().as_secs(), 90);
        let expires = token.issued().0 + 90;
        assert_eq!(value["expires"].as_u64(), Some(expires));
        assert_eq!(value["username"], id);
        let server = &value["iceServers"][0];
        assert_eq!(server["credentialType"], "oauth");
        assert_eq!(server["username"], id);
        assert_eq!(server["credential"], value["credential"]);
        assert_eq!(server["urls"][0], "turn:192.0.2.1:80?transport=udp");
    }
}

#[test]
fn an_access_token_may_be_made_without_a_file() {
    let key = "SEdrajMyS0pHaXV5MDk4c2RmYXFiTmpPaWF6NzE5MjM=";
    let arguments = [
        "credential",
        "--oauth",
        "--user",
        "south",
        "--oauth-key",
        key,
        "--server-name",
        "blackdow.carleon.gov",
        "--host",
        "turn.example.org",
    ];
    let as_text = output("", &arguments);
    let labels = [
        "username:     south\n",
        "\nmac key:      ",
        "\naccess token: ",
    ];
    for label in labels {
        assert!(stdout(&as_text).contains(label), "{}", stdout(&as_text));
    }
    let as_json = output("", &[&arguments[..], &["--json"]].concat());
    let value: Value = serde_json::from_str(stdout(&as_json)).expect("JSON");
    opened(&value, TokenAlgorithm::A256Gcm);
    assert_eq!(value["username"], "south");
}

#[test]
fn without_a_key_there_is_no_access_token() {
    let nothing = output("", &["credential", "--oauth"]);
    assert_eq!((nothing.status.code(), stdout(&nothing)), (FAILED, ""));
    assert!(stderr(&nothing).contains("[[auth.oauth_keys]]"));
    let unknown = output(OAUTH, &["credential", "--oauth", "--user", "south"]);
    assert_eq!((unknown.status.code(), stdout(&unknown)), (FAILED, ""));
    assert!(stderr(&unknown).contains("the file has \"north\", \"union\""));
    let without = ["credential", "--user", "a", "--oauth-key", "x"];
    assert_eq!(output("", &without).status.code(), USAGE);
}

#[test]
fn check_of_a_file_with_keys_of_access_tokens_only_says_ok() {
    let output = output(OAUTH, &["check"]);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("turnserver.toml: ok\n", "")
    );
}
