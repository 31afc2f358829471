//! Files as text with lines, and TOML with places.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::report::{Place, Report, Spot};

/// What is said of a file that may not be read.
pub const PERMISSION_DENIED: &str = "permission denied";

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// A text and where its lines begin.
pub(super) struct Source {
    name: Arc<str>,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// The file `path`, named in problems as it was given.
    ///
    /// # Errors
    /// Why it cannot be read, and the remedy.
    pub(super) fn read(path: &Path) -> Result<Self, (Spot, String)> {
        let name = path.display().to_string();
        read_text(path)
            .map(|text| Self::new(&name, text))
            .map_err(|(line, why)| (Spot::in_file(&name, line), why))
    }

    /// `text`, called `name` in problems.
    pub(super) fn new(name: &str, text: String) -> Self {
        let after_newline = |(offset, byte): (usize, u8)| (byte == b'\n').then_some(offset + 1);
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter_map(after_newline))
            .collect();
        Self {
            name: name.into(),
            text,
            line_starts,
        }
    }

    /// The line that the byte `offset` is in.
    pub(super) fn place(&self, offset: usize) -> Place {
        Place::File {
            file: self.name.clone(),
            line: Some(self.line(offset)),
            column: None,
        }
    }

    /// As [`Source::place`], to the character.
    fn exact_place(&self, offset: usize) -> Place {
        let line = self.line(offset);
        let before = self.text.get(self.line_starts[line - 1]..offset);
        Place::File {
            file: self.name.clone(),
            line: Some(line),
            column: before.map(|text| text.chars().count() + 1),
        }
    }

    /// From 1; the first line starts at 0, so there is always one.
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// The tables of the text as far as it is TOML; what is not goes into `report`, and the numbers of
    /// those lines come back.
    pub(super) fn parse_toml(&self, report: &mut Report) -> (DeTable<'_>, BTreeSet<usize>) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let mut lines = BTreeSet::new();
        for error in errors {
            let offset = error.span().map_or(self.text.len(), |span| span.start);
            let line = self.line(offset);
            // What follows the first mistake of a line is mostly its echo.
            if !lines.insert(line) {
                continue;
            }
            let spot = Spot {
                place: self.exact_place(offset),
                key: String::new(),
            };
            let what = error.message().trim_end_matches(", expected nothing");
            report.error(&spot, format_args!("not TOML here: {what}"));
        }
        (table.into_inner(), lines)
    }
}

/// The text of `path`, or the line (when there is one) and what is wrong.
pub(super) fn read_text(path: &Path) -> Result<String, (Option<usize>, String)> {
    let bytes = read_bytes(path).map_err(|why| (None, why))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        (
            Some(line),
            "not UTF-8; save the file in that encoding".to_owned(),
        )
    })
}

/// What is in `path`, or what is wrong.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    if path.is_dir() {
        return Err("is a directory; name a file in it".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "no such file; create it or name another".to_owned(),
            ErrorKind::PermissionDenied => {
                format!("{PERMISSION_DENIED}; let the user that runs turnstone read it")
            }
            _ => format!("cannot be read: {error}"),
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("over 16 MiB; this is no configuration".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(place: &Place) -> String {
        place.to_string()
    }

    #[test]
    fn offsets_become_lines_and_columns() {
        let source = Source::new("f", "one\ntwö three\n".to_owned());
        assert_eq!(show(&source.place(0)), "f:1");
        assert_eq!(show(&source.place(3)), "f:1");
        assert_eq!(show(&source.place(4)), "f:2");
        assert_eq!(show(&source.exact_place(9)), "f:2:5");
        assert_eq!(show(&source.place(99)), "f:3");
        assert_eq!(show(&source.exact_place(99)), "f:3");
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let source = Source::new("f", "[a]\nx = \nok = 1\ny = = 2\nz = \"abc\n".to_owned());
        let mut report = Report::default();
        let (_, lines) = source.parse_toml(&mut report);
        assert!(lines.into_iter().eq([2, 4, 5]));
        assert_eq!(report.errors(), 3);
    }
}
