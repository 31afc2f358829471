//! Takes typed values out of TOML and records everything that does not fit.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::{Key, List, Located};
use super::file::Source;
use super::report::{Report, Spot};
use super::units::{
    parse_bandwidth, parse_duration, parse_short_duration, parse_size, show_bandwidth,
    show_duration, show_short_duration, show_size,
};

/// One table of a file; absent tables have no keys.
pub(super) struct Section<'t> {
    source: &'t Source,
    table: Option<&'t DeTable<'t>>,
    path: String,
}

/// One value and where it stands.
pub(super) struct Value<'t> {
    source: &'t Source,
    value: &'t DeValue<'t>,
    spot: Spot,
}

impl<'t> Section<'t> {
    /// The table of the whole file.
    pub(super) fn root(source: &'t Source, table: &'t DeTable<'t>) -> Self {
        Self {
            source,
            table: Some(table),
            path: String::new(),
        }
    }

    /// The table `name` in this one.
    pub(super) fn section(&self, name: &str, report: &mut Report) -> Section<'t> {
        let table = self.get(name).and_then(|value| value.table(report));
        Section {
            source: self.source,
            table,
            path: self.path_of(name),
        }
    }

    /// The tables of the array `name`, each with the line it begins at.
    pub(super) fn sections(&self, name: &str, report: &mut Report) -> Vec<(Spot, Section<'t>)> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let Some(elements) = value.elements() else {
            value.refuse(format_args!("tables; write [[{}]]", value.spot.key), report);
            return Vec::new();
        };
        elements
            .into_iter()
            .filter_map(|element| {
                let section = Section {
                    source: self.source,
                    table: Some(element.table(report)?),
                    path: element.spot.key.clone(),
                };
                Some((element.spot, section))
            })
            .collect()
    }

    /// The keys that are written here, with their places.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'t str, Spot, &'t DeValue<'t>)> {
        self.table.into_iter().flatten().map(|(key, value)| {
            let name = key.get_ref().as_ref();
            (name, self.spot(name, key.span().start), value.get_ref())
        })
    }

    pub(super) fn boolean(&self, key: &str, report: &mut Report) -> Key<bool> {
        self.get(key)?.boolean(report)
    }

    pub(super) fn string(&self, key: &str, report: &mut Report) -> Key<String> {
        self.get(key)?.string("a string", report)
    }

    /// A whole number in `range`.
    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Key<T> {
        let value = self.get(key)?;
        let number = value.number(report)?;
        value.within(number, &range, |number| number.to_string(), report)
    }

    /// A size in `range` bytes, as a number of bytes or with a unit.
    pub(super) fn size<T: TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Key<T> {
        let value = self.get(key)?;
        let number = value.with_unit("a size", parse_size, report)?;
        value.within(number, &range, show_size, report)
    }

    /// A bandwidth in `range` bits per second, as a number or with a unit.
    pub(super) fn bandwidth(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Key<u64> {
        let value = self.get(key)?;
        let number = value.with_unit("a bandwidth", parse_bandwidth, report)?;
        value.within(number, &range, show_bandwidth, report)
    }

    /// A time in `range` whole seconds, as a number of seconds or with a unit.
    pub(super) fn duration(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Key<Duration> {
        let value = self.get(key)?;
        let whole_seconds = |text: &str| parse_duration(text).map(|time| time.as_secs());
        let seconds = value.with_unit("a time", whole_seconds, report)?;
        let show = |seconds| show_duration(Duration::from_secs(seconds));
        let seconds: Located<u64> = value.within(seconds, &range, show, report)?;
        Some(Located::new(
            Duration::from_secs(seconds.value),
            seconds.spot,
        ))
    }

    /// A time in `range` milliseconds, as a number of seconds or with a unit.
    pub(super) fn short_duration(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Key<Duration> {
        let value = self.get(key)?;
        let millis = match value.value {
            DeValue::String(_) => value.parsed("a time", parse_short_duration, report)?.value,
            _ => value.number(report)?.saturating_mul(1000),
        };
        let millis: Located<u64> = value.within(millis, &range, show_short_duration, report)?;
        Some(Located::new(
            Duration::from_millis(millis.value),
            millis.spot,
        ))
    }

    /// A string that `parse` understands.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        report: &mut Report,
    ) -> Key<T> {
        self.get(key)?.parsed("a string", parse, report)
    }

    /// An array of strings that `parse` understands; those that it does not are left out.
    pub(super) fn list<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        report: &mut Report,
    ) -> Option<List<T>> {
        let value = self.get(key)?;
        let Some(elements) = value.elements() else {
            value.refuse("an array of strings: [\"...\", \"...\"]", report);
            return None;
        };
        let elements = elements
            .into_iter()
            .filter_map(|element| element.parsed("a string", &parse, report))
            .collect();
        Some(Located::new(elements, value.spot))
    }

    fn get(&self, key: &str) -> Option<Value<'t>> {
        let (name, value) = self.table?.get_key_value(key)?;
        Some(Value {
            source: self.source,
            value: value.get_ref(),
            spot: self.spot(key, name.span().start),
        })
    }

    fn spot(&self, key: &str, offset: usize) -> Spot {
        Spot {
            place: self.source.place(offset),
            key: self.path_of(key),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

impl<'t> Value<'t> {
    fn table(&self, report: &mut Report) -> Option<&'t DeTable<'t>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.refuse(format_args!("a section; write [{}]", self.spot.key), report);
        }
        table
    }

    /// Each element with its own line.
    fn elements(&self) -> Option<Vec<Value<'t>>> {
        let element = |(index, value): (usize, &'t Spanned<DeValue<'t>>)| Value {
            source: self.source,
            value: value.get_ref(),
            spot: Spot {
                place: self.source.place(value.span().start),
                key: format!("{}[{index}]", self.spot.key),
            },
        };
        let array = self.value.as_array()?;
        Some(array.iter().enumerate().map(element).collect())
    }

    fn boolean(self, report: &mut Report) -> Key<bool> {
        match self.value.as_bool() {
            Some(value) => Some(Located::new(value, self.spot)),
            None => self.expected("true or false", report),
        }
    }

    fn string(self, what: &str, report: &mut Report) -> Key<String> {
        match self.value.as_str() {
            Some(text) => Some(Located::new(text.to_owned(), self.spot)),
            None => self.expected(what, report),
        }
    }

    fn number(&self, report: &mut Report) -> Option<u64> {
        let Some(integer) = self.value.as_integer() else {
            return self.expected("a whole number", report);
        };
        // Behind the sign and range of a u64 lies what no key of ours takes.
        match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if number < 0 => {
                report.error(
                    &self.spot,
                    format_args!("{number} is negative; write a positive number"),
                );
                None
            }
            number => Some(
                number
                    .ok()
                    .and_then(|n| n.try_into().ok())
                    .unwrap_or(u64::MAX),
            ),
        }
    }

    /// The number, or what `parse` makes of the string: a number with a unit.
    fn with_unit(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Result<u64, String>,
        report: &mut Report,
    ) -> Option<u64> {
        match self.value {
            DeValue::String(_) => Some(self.parsed(what, parse, report)?.value),
            _ => self.number(report),
        }
    }

    fn parsed<T>(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        report: &mut Report,
    ) -> Key<T> {
        let Some(text) = self.value.as_str() else {
            return self.expected(what, report);
        };
        match parse(text) {
            Ok(value) => Some(Located::new(value, self.spot.clone())),
            Err(why) => {
                report.error(&self.spot, why);
                None
            }
        }
    }

    fn within<T: TryFrom<u64>>(
        &self,
        number: u64,
        range: &RangeInclusive<u64>,
        show: impl Fn(u64) -> String,
        report: &mut Report,
    ) -> Key<T> {
        let value = range
            .contains(&number)
            .then(|| T::try_from(number).ok())
            .flatten();
        if value.is_none() {
            let (first, last) = (show(*range.start()), show(*range.end()));
            let what = format!("{} is out of range; write {first} to {last}", show(number));
            report.error(&self.spot, what);
        }
        Some(Located::new(value?, self.spot.clone()))
    }

    fn expected<T>(&self, what: &str, report: &mut Report) -> Option<T> {
        self.refuse(what, report);
        None
    }

    /// Reports a value of the wrong type, without showing it: it may be a secret.
    fn refuse(&self, what: impl fmt::Display, report: &mut Report) {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        report.error(&self.spot, format_args!("found {found}, expected {what}"));
    }
}
