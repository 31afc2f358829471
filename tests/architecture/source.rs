//! Rust source as the rules see it: tokens without comments and literals, and the paths among them.

use std::collections::VecDeque;

/// One source file.
pub(crate) struct Source {
    /// Below `src`, with forward slashes: `net/linux.rs`.
    pub(crate) path: String,
    /// How many lines it has.
    pub(crate) lines: usize,
    /// Every path of two segments or more that it names, `use` trees spelled out.
    pub(crate) paths: Vec<Path>,
    /// The lines on which `unsafe` stands.
    pub(crate) unsafe_lines: Vec<usize>,
}

/// A path such as `crate::turn::Server` or `std::net::*`.
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// It begins with `::`, so it leads to a crate and nowhere else.
    pub(crate) global: bool,
    /// It stands in test code.
    pub(crate) in_tests: bool,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let tokens = Lexer::new(text).tokens();
        let is_unsafe = |token: &&Token| token.text == "unsafe";
        Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            unsafe_lines: tokens
                .iter()
                .filter(is_unsafe)
                .map(|token| token.line)
                .collect(),
            paths: Paths::of(&tokens, is_test_file(path)),
        }
    }
}

/// `tests.rs`, `tests/…` and `…_tests.rs` hold nothing but tests.
fn is_test_file(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// A word, or a mark: `::` is one mark, all others are one character.
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

struct Lexer {
    rest: VecDeque<char>,
    line: usize,
}

impl Lexer {
    fn new(text: &str) -> Self {
        Self {
            rest: text.chars().collect(),
            line: 1,
        }
    }

    fn tokens(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(c) = self.peek(0) {
            let line = self.line;
            match c {
                '/' if self.peek(1) == Some('/') => self.skip_line(),
                '/' if self.peek(1) == Some('*') => self.skip_block_comment(),
                '"' => self.skip_string(),
                '\'' => self.skip_quote(),
                c if c.is_alphanumeric() || c == '_' => {
                    if let Some(text) = self.word() {
                        tokens.push(Token { text, line });
                    }
                }
                c if c.is_whitespace() => self.skip(1),
                ':' if self.peek(1) == Some(':') => {
                    self.skip(2);
                    tokens.push(Token {
                        text: "::".into(),
                        line,
                    });
                }
                mark => {
                    self.skip(1);
                    tokens.push(Token {
                        text: mark.into(),
                        line,
                    });
                }
            }
        }
        tokens
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.pop_front();
        if next == Some('\n') {
            self.line += 1;
        }
        next
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.skip(1);
        }
    }

    fn skip_block_comment(&mut self) {
        self.skip(2);
        let mut depth = 1;
        while depth > 0 && self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
        }
    }

    fn skip_string(&mut self) {
        self.skip(1);
        while let Some(c) = self.next() {
            match c {
                '\\' => self.skip(1),
                '"' => break,
                _ => {}
            }
        }
    }

    /// A character literal, or a lifetime.
    fn skip_quote(&mut self) {
        if self.peek(1) == Some('\\') {
            self.skip(3);
            while self.next().is_some_and(|c| c != '\'') {}
        } else if self.peek(2) == Some('\'') {
            self.skip(3);
        } else {
            self.skip(1);
        }
    }

    /// A word, or nothing when it began a literal: `r"…"`, `b'…'`, `br#"…"#`.
    fn word(&mut self) -> Option<String> {
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
            self.skip(1);
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        match self.peek(0) {
            Some('"' | '#') if raw => self.raw(word),
            Some('"' | '\'') if matches!(word.as_str(), "b" | "c") => None,
            _ => Some(word),
        }
    }

    /// A raw string, or a raw identifier.
    fn raw(&mut self, word: String) -> Option<String> {
        let hashes = self.rest.iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) != Some('"') {
            self.skip(hashes);
            return if hashes == 1 { self.word() } else { Some(word) };
        }
        self.skip(hashes + 1);
        while let Some(c) = self.next() {
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.skip(hashes);
                break;
            }
        }
        None
    }
}

/// Collects the paths of a file.
struct Paths<'t> {
    tokens: &'t [Token],
    at: usize,
    /// The path at hand begins with `::`.
    global: bool,
    in_tests: bool,
    found: Vec<Path>,
}

impl<'t> Paths<'t> {
    fn of(tokens: &'t [Token], in_tests: bool) -> Vec<Path> {
        let mut paths = Self {
            tokens,
            at: 0,
            global: false,
            in_tests,
            found: Vec::new(),
        };
        while paths.at < tokens.len() {
            paths.step();
        }
        paths.found
    }

    fn step(&mut self) {
        if self.begins_tests() {
            self.in_tests = true;
        }
        if self.text(0) == "use" && self.text(1) != "<" {
            self.at += 1;
            self.global = self.text(0) == "::";
            self.use_tree(&[]);
        } else if self.tokens[self.at].is_word() {
            let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
            self.global = before.is_some_and(|token| token.text == "::");
            self.inline_path();
        } else {
            self.at += 1;
        }
    }

    fn text(&self, ahead: usize) -> &'t str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |token| token.text.as_str())
    }

    /// Tests are the last thing in a file: from `#[cfg(test)] mod … {` on, all is test code.
    fn begins_tests(&self) -> bool {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
        (0..attribute.len()).all(|ahead| self.text(ahead) == attribute[ahead])
            && self.text(attribute.len() + 1) == "{"
    }

    fn inline_path(&mut self) {
        let line = self.tokens[self.at].line;
        let mut segments = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            segments.push(self.text(1).to_owned());
            self.at += 2;
        }
        if segments.len() > 1 {
            self.add(segments, line);
        }
    }

    fn use_tree(&mut self, before: &[String]) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut segments = before.to_vec();
        loop {
            match self.text(0) {
                "::" => self.at += 1,
                "{" => return self.use_group(&segments),
                "as" => self.at += 2,
                "" | ";" | "," | "}" => break,
                segment => {
                    segments.push(segment.to_owned());
                    self.at += 1;
                }
            }
        }
        if segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        self.add(segments, line);
    }

    fn use_group(&mut self, before: &[String]) {
        self.at += 1;
        while !matches!(self.text(0), "" | "}") {
            match self.text(0) {
                "," => self.at += 1,
                _ => self.use_tree(before),
            }
        }
        self.at += 1;
    }

    fn add(&mut self, segments: Vec<String>, line: usize) {
        if segments.is_empty() {
            return;
        }
        self.found.push(Path {
            segments,
            line,
            global: self.global,
            in_tests: self.in_tests,
        });
    }
}
