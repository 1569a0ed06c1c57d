//! The page.

use super::{About, plot};
use crate::bench::measured::{Measured, Quantiles};
use crate::bench::text::{self, COLUMNS};
use crate::error::Result;
use crate::units::count;

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; } h3 { font-size: 1em; margin: 1.6em 0 .3em; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { padding: .22em .8em; border-bottom: 1px solid #e4e4e4; text-align: right; white-space: nowrap; }
th { color: #555; font-weight: 600; } th:first-child, td:first-child, .about td { text-align: left; }
.about { display: flex; flex-wrap: wrap; gap: 2.5em; align-items: flex-start; } .about td { white-space: normal; }
.about td:first-child { color: #555; } code { background: #f4f4f4; padding: .1em .3em; overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 10px; } svg { max-width: 100%; height: auto; }
.note { color: #555; } .failure { color: #a00000; font-weight: 600; }
";

/// All of it.
pub(super) fn page(about: &About, all: &[Measured]) -> Result<String> {
    let title = "Ashlar: measurements";
    let head = format!(
        "<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>"
    );
    let failure = about.failure.as_ref().map(|what| format!("<p class=\"failure\">The run ended early: {}</p>\n", escape(what)));
    let parts = [
        format!("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{head}\n</head>\n<body>\n<h1>{title}</h1>\n"),
        format!("<p>{}, version {}: <code>{}</code></p>\n", escape(&about.begun), escape(&about.version), escape(&about.command)),
        failure.unwrap_or_default(),
        about_tables(about),
        summary(all),
        costs(all)?,
        each(all)?,
        "</body>\n</html>\n".to_owned(),
    ];
    Ok(parts.concat())
}

/// As text within elements and attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn row(cells: impl IntoIterator<Item = String>, tag: &str) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(&cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

fn about_tables(about: &About) -> String {
    let table = |rows: Vec<[String; 2]>| {
        format!("<table>\n{}</table>\n", rows.into_iter().map(|pair| row(pair, "td")).collect::<String>())
    };
    let machine = about.machine.rows().into_iter().map(|(name, value)| [name.to_owned(), value]).collect();
    let options = about.options.iter().map(|(name, words, _)| [name.replace('_', " "), words.clone()]).collect();
    format!("<div class=\"about\">\n{}{}</div>\n", table(machine), table(options))
}

fn summary(all: &[Measured]) -> String {
    let names = ["workload", "threads", "operations", "MB/s"].into_iter().chain(COLUMNS).chain(["checkpoints"]);
    let heading = row(names.map(|name| if name == "pause" { "longest pause" } else { name }.to_owned()), "th");
    let rows: String = all
        .iter()
        .map(|m| {
            let checkpoints: u64 = m.checkpoints.iter().map(|c| c.count).sum();
            let first = [m.name.clone(), m.threads.to_string(), count(m.sample.ops), format!("{:.1}", m.mb_per_s())];
            row(first.into_iter().chain(text::cells(m)).chain([checkpoints.to_string()]), "td")
        })
        .collect();
    let note = "A latency is that of one operation, checking what was read included. The longest pause is the longest time in which no \
                operation of any thread ended.";
    format!("<h2>Summary</h2>\n<div class=\"wide\"><table>\n{heading}{rows}</table></div>\n<p class=\"note\">{note}</p>\n")
}

/// (What, against what), and its points.
type Curve<'a> = ((&'a str, &'a str), Vec<(u64, Quantiles)>);

/// The curves, in the order of their first points.
fn costs(all: &[Measured]) -> Result<String> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for measured in all {
        let Some(cost) = measured.cost else { continue };
        let (key, point) = ((cost.of, cost.against), (cost.x, measured.quantiles()));
        match curves.iter_mut().find(|(of, _)| *of == key) {
            Some((_, points)) => points.push(point),
            None => curves.push((key, vec![point])),
        }
    }
    if curves.is_empty() {
        return Ok(String::new());
    }
    let plots = curves.iter().map(|((of, against), points)| plot::cost(&format!("{of} against {against}"), against, points));
    let plots = plots.collect::<Result<Vec<_>>>()?.join("\n");
    let note = "Reads and commits slow down a little with every tenfold, as less of the tree is in the processor's caches and it becomes \
                higher; opens, and reads with a long log, must not.";
    Ok(format!("<h2>Costs that must not grow</h2>\n<p class=\"note\">{note}</p>\n<div class=\"plots\">\n{plots}\n</div>\n"))
}

fn each(all: &[Measured]) -> Result<String> {
    let note = "<p class=\"note\">Checkpoints are shaded.</p>\n";
    let mut page = format!("<h2>Each workload</h2>\n{note}");
    for measured in all.iter().filter(|measured| measured.cost.is_none()) {
        let plots = [plot::throughput(measured)?, plot::percentiles(measured)?];
        let plots: Vec<String> = plots.into_iter().flatten().collect();
        if plots.is_empty() {
            continue;
        }
        page += &format!("<h3>{}</h3>\n<div class=\"plots\">\n{}\n</div>\n", escape(&measured.name), plots.join("\n"));
    }
    Ok(page)
}
