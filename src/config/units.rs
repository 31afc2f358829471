//! Times, sizes and port ranges as people write them.

use std::ops::RangeInclusive;
use std::time::Duration;

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1), ("", 1)];
/// In milliseconds.
const SHORT_TIME_UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1000), ("", 1000)];
const BIT_UNITS: [(&str, u64); 4] = [
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("kbit", 1000),
    ("", 1),
];
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];

/// A time in whole seconds: `90`, `90s`, `10m`, `1h` or `7d`.
///
/// # Errors
/// What is wrong with `text`, and the remedy.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    with_unit(text, &TIME_UNITS)
        .map(Duration::from_secs)
        .ok_or_else(|| {
            format!("{text:?} is not a time; write seconds, or \"90s\", \"10m\", \"1h\"")
        })
}

/// A time in milliseconds: `300ms`, `2s` or `2`, which are seconds.
pub(super) fn parse_short_duration(text: &str) -> Result<u64, String> {
    with_unit(text, &SHORT_TIME_UNITS)
        .ok_or_else(|| format!("{text:?} is not a time; write \"300ms\" or \"2s\""))
}

/// A size in bytes: `65536`, `64KiB`, `4MiB` or `1GiB`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    with_unit(text, &SIZE_UNITS)
        .ok_or_else(|| format!("{text:?} is not a size; write bytes, or \"64KiB\", \"4MiB\""))
}

/// Bits per second: `64000`, `64kbit`, `2Mbit` or `1Gbit`.
pub(super) fn parse_bandwidth(text: &str) -> Result<u64, String> {
    with_unit(text, &BIT_UNITS).ok_or_else(|| {
        format!("{text:?} is not a bandwidth; write bits per second, or \"500kbit\", \"2Mbit\"")
    })
}

/// The number before the first of `units` that `text` ends in, times that unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units
        .iter()
        .find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| number.parse().ok())??;
    number.checked_mul(factor)
}

/// `49152-65535`.
pub(super) fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let not_a_range = || format!("{text:?} is not a range of ports; write \"49152-65535\"");
    let (first, last) = text.split_once('-').ok_or_else(not_a_range)?;
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| not_a_range());
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("{first} is over {last}; write \"{last}-{first}\""));
    }
    if first < 1024 {
        return Err(format!(
            "port {first} is reserved for services; begin at 1024 or above"
        ));
    }
    Ok(first..=last)
}

/// `duration` in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    show(duration.as_secs(), &TIME_UNITS)
}

/// `millis` in the largest unit that divides it.
pub(super) fn show_short_duration(millis: u64) -> String {
    show(millis, &[("s", 1000), ("ms", 1)])
}

/// `bytes` in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS)
}

/// `bits` per second in the largest unit that divides it.
pub(super) fn show_bandwidth(bits: u64) -> String {
    show(bits, &BIT_UNITS)
}

fn show(number: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor))
        .map_or_else(
            || number.to_string(),
            |(unit, factor)| format!("{}{unit}", number / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let seconds = |text| parse_duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("1h"), Ok(3600));
        assert_eq!(seconds("2d"), Ok(172_800));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "h",
            "-1s",
            "+1",
            "1.5h",
            "1 h",
            "10ms",
            "1H",
            "99999999999999999999",
            "999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn short_times_have_milliseconds() {
        for (text, millis) in [("300ms", 300), ("2s", 2000), ("2", 2000)] {
            assert_eq!(parse_short_duration(text), Ok(millis));
        }
        for text in ["", "ms", "1m", "1.5s", "-1ms"] {
            assert!(parse_short_duration(text).is_err(), "{text}");
        }
        assert_eq!(show_short_duration(300), "300ms");
        assert_eq!(show_short_duration(10_000), "10s");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("65536"), Ok(65_536));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("4MiB"), Ok(4 << 20));
        assert!(parse_size("4MB").is_err());
        assert!(parse_size("MiB").is_err());
    }

    #[test]
    fn bandwidths_have_decimal_units() {
        assert_eq!(parse_bandwidth("64000"), Ok(64_000));
        assert_eq!(parse_bandwidth("500kbit"), Ok(500_000));
        assert_eq!(parse_bandwidth("2Mbit"), Ok(2_000_000));
        assert_eq!(parse_bandwidth("1Gbit"), Ok(1_000_000_000));
        assert!(parse_bandwidth("2Mb").is_err());
        assert!(parse_bandwidth("2 Mbit").is_err());
        assert_eq!(show_bandwidth(2_000_000), "2Mbit");
    }

    #[test]
    fn a_value_is_shown_in_its_largest_unit() {
        assert_eq!(show_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::from_secs(0)), "0");
        assert_eq!(show_size(4 << 20), "4MiB");
        assert_eq!(show_size(1000), "1000");
    }

    #[test]
    fn port_ranges_ascend_from_1024() {
        assert_eq!(parse_ports("49152-65535"), Ok(49_152..=65_535));
        assert_eq!(parse_ports("5000 - 5000"), Ok(5000..=5000));
        for text in ["5000", "6000-5000", "80-2000", "1-70000", "-", "a-b"] {
            assert!(parse_ports(text).is_err(), "{text}");
        }
    }
}
