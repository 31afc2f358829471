//! Plots as SVG.

use std::error::Error;

use plotters::prelude::*;

use crate::load::trial::{Latency, Moment, Trial};

const SIZE: (u32, u32) = (720, 300);
const INK: RGBColor = RGBColor(0x33, 0x41, 0x55);
const GRID: RGBColor = RGBColor(0xE2, 0xE8, 0xF0);
/// Told apart by people who do not see all colours.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// A line of a plot and what it is called.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What the axes say.
struct Axes<'a> {
    x: &'a str,
    y: &'a str,
    /// The label of a place on the x axis.
    label: &'a dyn Fn(&f64) -> String,
}

/// What a line shows of a moment.
type Value = fn(&Moment) -> f64;

type Drawn = Result<String, Box<dyn Error>>;

/// Latency over the share of packets that is not slower; the axis stretches the slowest.
pub(super) fn percentiles(latencies: &[(&str, &Latency)]) -> Drawn {
    let longest = latencies.iter().map(|(_, latency)| latency.max).max();
    let (unit, nanos_each) = unit(longest.unwrap_or_default());
    let lines = latencies.iter().map(|(name, latency)| Line {
        name: (*name).to_owned(),
        points: latency
            .curve
            .iter()
            .map(|(share, nanos)| (halvings(*share), float(*nanos) / nanos_each))
            .collect(),
    });
    let axes = Axes {
        x: "share that was not slower",
        y: &format!("latency, {unit}"),
        label: &|halvings| share_text(*halvings),
    };
    draw(&lines.collect::<Vec<_>>(), &axes)
}

/// Packets delivered and lost over time.
pub(super) fn delivery(moments: &[Moment]) -> Drawn {
    over_time(
        moments,
        "per second",
        1.0,
        &[
            ("delivered", |moment| moment.delivered),
            ("lost", |moment| moment.lost),
        ],
    )
}

/// Median and 99th percentile over time.
pub(super) fn course(moments: &[Moment]) -> Drawn {
    let longest = moments.iter().map(|moment| moment.p99).max();
    let (unit, nanos_each) = unit(longest.unwrap_or_default());
    over_time(
        moments,
        &format!("latency, {unit}"),
        nanos_each,
        &[
            ("p50", |moment| float(moment.p50)),
            ("p99", |moment| float(moment.p99)),
        ],
    )
}

/// What a search saw: the share lost at each rate.
pub(super) fn search(trials: &[Trial]) -> Drawn {
    let mut points: Vec<(f64, f64)> = trials
        .iter()
        .filter_map(|trial| Some((trial.rate?, trial.loss() * 100.0)))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = Line {
        name: "lost".to_owned(),
        points,
    };
    let axes = Axes {
        x: "packets per second",
        y: "lost, %",
        label: &number,
    };
    draw(&[line], &axes)
}

/// Lines over the course of a trial, each with its name and its value at a moment, in units of `each`.
fn over_time(moments: &[Moment], y: &str, each: f64, values: &[(&str, Value)]) -> Drawn {
    let lines = values.iter().map(|(name, value)| Line {
        name: (*name).to_owned(),
        points: moments
            .iter()
            .map(|moment| (moment.at, value(moment) / each))
            .collect(),
    });
    let axes = Axes {
        x: "time, s",
        y,
        label: &number,
    };
    draw(&lines.collect::<Vec<_>>(), &axes)
}

fn draw(lines: &[Line], axes: &Axes<'_>) -> Drawn {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let left = points().map(|point| point.0).fold(right, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_right(40)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(left..right.max(left + 1e-9), 0.0..(top * 1.4).max(1e-9))?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .x_desc(axes.x)
            .y_desc(axes.y)
            .x_label_formatter(axes.label)
            .y_label_formatter(&number)
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(text.clone())
            .draw()?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let style = ShapeStyle::from(colour).stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(text)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// A number without zeros that say nothing, for an axis.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what plotters calls")]
fn number(value: &f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The unit that fits times up to `longest` nanoseconds, and its nanoseconds.
const fn unit(longest: u64) -> (&'static str, f64) {
    if longest < 10_000_000 {
        ("µs", 1e3)
    } else if longest < 10_000_000_000 {
        ("ms", 1e6)
    } else {
        ("s", 1e9)
    }
}

/// How often the slower share is halved: 0.5 is one, 0.75 is two.
fn halvings(share: f64) -> f64 {
    -(1.0 - share).log2()
}

/// The share that so many halvings leave.
fn share_text(halvings: f64) -> String {
    let share = 100.0 * (1.0 - 0.5_f64.powf(halvings));
    match halvings {
        ..6.5 => format!("{share:.1} %"),
        ..10.0 => format!("{share:.2} %"),
        ..13.5 => format!("{share:.3} %"),
        _ => format!("{share:.5} %"),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a run are below 2^52"
)]
const fn float(nanos: u64) -> f64 {
    nanos as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_svg_with_its_legend() {
        let moments: Vec<Moment> = (0..3)
            .map(|second| Moment {
                at: f64::from(second),
                delivered: 100.0,
                lost: 1.0,
                p50: 10_000,
                p99: 20_000,
            })
            .collect();
        let svg = delivery(&moments).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("delivered") && svg.contains("lost"));
        assert!(course(&moments).unwrap().contains("p99"));
    }

    #[test]
    fn axes_tell_their_places_apart() {
        let labels = [0.0, 0.1, 0.5, 10.0, 200_000.0].map(|value| number(&value));
        assert_eq!(labels, ["0", "0.1", "0.5", "10", "200000"]);
        assert_eq!(unit(9_000_000), ("µs", 1e3));
        assert_eq!(unit(231_000_000), ("ms", 1e6));
        // A second of ten moments has no two labels that are the same.
        let moments = (0..10).map(|tenth| Moment {
            at: f64::from(tenth) / 10.0,
            delivered: 1.0,
            lost: 0.0,
            p50: 1000,
            p99: 1000,
        });
        let svg = delivery(&moments.collect::<Vec<_>>()).unwrap();
        for label in ["0.2", "0.4"] {
            assert!(svg.lines().any(|line| line.trim() == label), "{label}");
        }
    }

    #[test]
    fn nothing_at_all_can_be_drawn() {
        assert!(delivery(&[]).is_ok());
    }

    #[test]
    fn shares_are_labelled_as_precisely_as_they_differ() {
        assert_eq!(share_text(1.0), "50.0 %");
        assert_eq!(share_text(10.0), "99.902 %");
    }
}
