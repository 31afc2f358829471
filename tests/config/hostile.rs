//! No file makes the reader panic or hang (requirement S11), and names stay what they are (S20).

use turnstone::config::{Config, Login};

use super::load;

const FILE: &str = include_str!("../../turnserver.toml");

/// A small generator whose numbers are the same on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}

/// Loads `text`; whatever comes of it, it can be printed.
fn survives(text: &[u8]) {
    if let Err(report) = load(text) {
        assert!(report.errors() > 0);
        assert!(!report.to_string().is_empty());
    }
}

#[test]
fn a_truncated_file() {
    // A step that meets every place of a line sooner or later.
    for length in (0..FILE.len()).step_by(7) {
        survives(&FILE.as_bytes()[..length]);
    }
}

#[test]
fn random_bytes() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..500 {
        let text: Vec<u8> = (0..numbers.below(300)).map(|_| numbers.byte()).collect();
        survives(&text);
    }
}

#[test]
fn random_toml_letters() {
    const LETTERS: &[u8] = b"[]{}=.,\"'#\n\\ -_+:09aelnrtuz";
    let mut numbers = Numbers(7);
    for _ in 0..1000 {
        let text: Vec<u8> = (0..numbers.below(120))
            .map(|_| LETTERS[numbers.below(LETTERS.len())])
            .collect();
        survives(&text);
    }
}

#[test]
fn a_mutated_file() {
    let mut numbers = Numbers(42);
    for _ in 0..500 {
        let mut text = FILE.replace("\n#", "\n").into_bytes();
        for _ in 0..=numbers.below(8) {
            let at = numbers.below(text.len());
            match numbers.below(3) {
                0 => text[at] = numbers.byte(),
                1 => drop(text.remove(at)),
                _ => text.insert(at, numbers.byte()),
            }
        }
        survives(&text);
    }
}

#[test]
fn deep_and_wide_files() {
    survives(format!("a = {}", "[".repeat(100_000)).as_bytes());
    survives(format!("[{}a]", "a.".repeat(50_000)).as_bytes());
    survives("[x]\n".repeat(20_000).as_bytes());
    survives("= 1\n".repeat(20_000).as_bytes());
    let users: String = (0..20_000)
        .map(|n| format!("[[auth.users]]\nname = \"u{n}\"\npassword = \"p\"\n"))
        .collect();
    assert_eq!(
        load(users.as_bytes()).expect("it is valid").users.len(),
        20_000
    );
}

fn only_user(config: &Config) -> (&str, &str) {
    match &config.users[0].login {
        Login::Password(password) => (&config.users[0].name, password),
        Login::Keys(_) => panic!("a password was configured"),
    }
}

#[test]
fn names_and_passwords_are_data() {
    let long = "é".repeat(250);
    for (written, meant) in [
        (r#"'\";--"#, "'\";--"),
        ("%n%s", "%n%s"),
        (r"a\r\nb", "a\r\nb"),
        ("$(reboot) `x`", "$(reboot) `x`"),
        (long.as_str(), long.as_str()),
    ] {
        let file = format!("[[auth.users]]\nname = \"{written}\"\npassword = \"{written}\"");
        let config = load(file.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(only_user(&config), (meant, meant));
    }
}

#[test]
fn a_problem_stays_on_its_line_whatever_the_name() {
    let twice = "[[auth.users]]\nname = \"a\\r\\n\\u001b[2J\"\npassword = \"b\"\n".repeat(2);
    let report = load(twice.as_bytes())
        .expect_err("a second user")
        .to_string();
    assert_eq!(report.lines().count(), 1);
    assert!(!report.contains(['\r', '\u{1b}']));
}
