//! A report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write as _;

use super::{Report, plot};
use crate::load::plan::Pace;
use crate::load::trial::Trial;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1e293b;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem .2rem 0;text-align:left;\
border-bottom:1px solid #e2e8f0;font-variant-numeric:tabular-nums}td.n,th.n{text-align:right}\
svg{max-width:100%;height:auto}.note{background:#fef9c3;padding:.5rem .8rem;margin:.5rem 0}";

/// A run and what it is called on the page.
#[derive(Debug)]
pub struct Section<'r> {
    /// The heading.
    pub title: String,
    /// The run.
    pub report: &'r Report,
}

/// A page with `title`, a paragraph on the conditions, `table` (its first row the heading) if it has
/// rows, and a section for every run.
pub fn html(
    title: &str,
    conditions: &str,
    table: &[Vec<String>],
    sections: &[Section<'_>],
) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n<p>{1}</p>\n",
        escape(title),
        escape(conditions)
    );
    rows(&mut page, table);
    for section in sections {
        run(&mut page, section);
    }
    page.push_str("</body></html>\n");
    page
}

fn rows(page: &mut String, table: &[Vec<String>]) {
    if table.is_empty() {
        return;
    }
    page.push_str("<table>\n");
    for (number, row) in table.iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        page.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let class = if column == 0 { "" } else { " class=\"n\"" };
            let _ = write!(page, "<{tag}{class}>{}</{tag}>", escape(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

fn run(page: &mut String, section: &Section<'_>) {
    let report = section.report;
    let _ = writeln!(page, "<h2>{}</h2>", escape(&section.title));
    for note in report.notes() {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escape(&note));
    }
    rows(page, &facts(report));
    if let Some(trial) = report.result() {
        plots(page, report, trial);
    }
}

fn facts(report: &Report) -> Vec<Vec<String>> {
    let mut facts = vec![vec!["measured".to_owned(), "value".to_owned()]];
    facts.extend(
        report
            .figures()
            .into_iter()
            .map(|(name, value)| vec![name, value]),
    );
    facts
}

/// What cannot be drawn is left out: the figures are there without it.
fn plots(page: &mut String, report: &Report, trial: &Trial) {
    let pace = report.plan.workload.traffic().map(|traffic| traffic.pace);
    if let Some(Pace::Search { .. }) = pace {
        page.push_str(&plot::search(&report.trials).unwrap_or_default());
    }
    if let Some(latency) = &trial.latency {
        page.push_str(&plot::percentiles(&[("latency", latency)]).unwrap_or_default());
    }
    if trial.moments.len() > 1 {
        page.push_str(&plot::course(&trial.moments).unwrap_or_default());
        page.push_str(&plot::delivery(&trial.moments).unwrap_or_default());
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let table = vec![vec!["<b>".to_owned()], vec!["a&b".to_owned()]];
        let page = html("<script>", "\"x\"", &table, &[]);
        assert!(page.contains("<title>&lt;script&gt;</title>"));
        assert!(page.contains("&lt;b&gt;") && page.contains("a&amp;b"));
        assert!(!page.contains("<script"));
    }
}
