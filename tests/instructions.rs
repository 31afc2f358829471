//! The check of instruction counts (benches/core) tells losses from gains and from noise, and says when
//! it has not compared.

#[path = "../benches/core/figures.rs"]
mod figures;

use figures::{Figures, Row, Standing};

fn figures(rustc: &str, cases: &[(&str, f64)]) -> Figures {
    let mut figures = Figures::default();
    figures.set_condition("rustc", rustc.to_owned());
    for (name, count) in cases {
        figures.cases.insert((*name).to_owned(), *count);
    }
    figures
}

fn only_row(committed: &[(&str, f64)], now: &[(&str, f64)]) -> Row {
    let rows = figures("1", committed).compare(&figures("1", now));
    assert_eq!(rows.len(), 1);
    rows[0].clone()
}

fn standing(now: f64) -> Standing {
    only_row(&[("case", 200.0)], &[("case", now)]).standing
}

#[test]
fn a_loss_of_four_percent_fails_and_of_two_does_not() {
    assert_eq!(standing(208.0), Standing::Loss);
    assert!(standing(208.0).fails());
    assert!(!standing(204.0).fails());
    assert_eq!(standing(204.0), Standing::Kept);
    assert_eq!(standing(200.0), Standing::Kept);
}

#[test]
fn a_gain_is_told_and_does_not_fail() {
    assert_eq!(standing(192.0), Standing::Gain);
    assert!(!standing(192.0).fails());
    assert!(standing(192.0).remark().contains("renew"));
    assert_eq!(standing(196.0), Standing::Kept);
    let row = only_row(&[("case", 200.0)], &[("case", 192.0)]);
    assert_eq!(row.difference().map(f64::round), Some(-4.0));
}

#[test]
fn a_case_or_a_figure_alone_fails() {
    assert_eq!(only_row(&[], &[("new", 1.0)]).standing, Standing::New);
    assert_eq!(only_row(&[("old", 1.0)], &[]).standing, Standing::Gone);
    assert!(Standing::New.fails() && Standing::Gone.fails());
}

#[test]
fn another_compiler_is_named() {
    let (then, now) = (figures("rustc 1", &[]), figures("rustc 2", &[]));
    assert_eq!(then.differing_conditions(&then), [""; 0]);
    let reasons = then.differing_conditions(&now);
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("rustc 1") && reasons[0].contains("rustc 2"));
    let bare = Figures::default();
    assert_eq!(bare.differing_conditions(&now).len(), 1);
    assert_eq!(now.differing_conditions(&bare).len(), 1);
}

#[test]
fn figures_survive_being_written_and_damage_does_not_pass() {
    let some = figures("rustc 1", &[("a, b", 187.3), ("c", 2.0)]);
    assert_eq!(Figures::from_text(&some.to_text()), Some(some));
    assert_eq!(Figures::from_text(""), None);
    assert_eq!(Figures::from_text("{\"conditions\": {}}"), None);
    let text = "{\"conditions\": {}, \"instructions\": {\"a\": \"1\"}}";
    assert_eq!(Figures::from_text(text), None);
}

/// The committed file is one that the check can read, with a figure for every case.
#[test]
fn the_committed_figures_are_sound() {
    let committed = Figures::from_text(include_str!("../benches/core/instructions.json"));
    let committed = committed.expect("figures");
    assert!(committed.conditions.contains_key("rustc"));
    assert!(committed.cases.values().all(|count| *count > 0.0));
}
