//! Plots: of each row the engines' figures as bars, of rows that write the throughput over time.

use super::ratio::median;
use super::records::{Place, Records, Runs};
use super::table::name;
use crate::engines::OURS;
use crate::matrix::{Spot, spot_name};
use crate::row::Row;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// The files that were drawn for each row.
pub type Drawn = BTreeMap<Place, Vec<String>>;

/// Ours stands out; an engine has the same colour in all plots of one report.
const COLOURS: [RGBColor; 9] = [
    RGBColor(200, 30, 30),
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(23, 190, 207),
];

/// Draws all plots into a directory.
///
/// # Errors
/// One can't be written.
pub fn draw(records: &Records, dir: &Path) -> Result<Drawn> {
    let engines = records.engines();
    let colour = |engine: &str| COLOURS[engines.iter().position(|name| name == engine).unwrap_or(0) % COLOURS.len()];
    let mut drawn = Drawn::new();
    for (place, by_engine) in &records.runs {
        let stem = spot_name(place.0, Spot { workload: place.1, threads: place.3, loaded: place.2 });
        let bars_file = format!("{stem}.svg");
        let fail = |error: String| anyhow!("drawing {bars_file}: {error}");
        bars(&dir.join(&bars_file), place, by_engine, colour).map_err(|error| fail(error.to_string()))?;
        let mut files = vec![bars_file.clone()];
        if by_engine.values().filter_map(Runs::median_row).any(|row| row.entries_by_step.len() > 2) {
            let file = format!("{stem}-time.svg");
            over_time(&dir.join(&file), place, by_engine, colour).map_err(|error| fail(error.to_string()))?;
            files.push(file);
        }
        drawn.insert(*place, files);
    }
    Ok(drawn)
}

type Drawing = std::result::Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn area(path: &Path, height: u32) -> std::result::Result<Area<'_>, Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

/// A bar an engine, from the bottom up; the thin line reaches from the lowest run to the highest.
fn bars(path: &Path, place: &Place, by_engine: &BTreeMap<String, Runs>, colour: impl Fn(&str) -> RGBColor) -> Drawing {
    let mut bars: Vec<(&String, &Runs, f64)> =
        by_engine.iter().filter_map(|(engine, runs)| Some((engine, runs, median(&runs.figures())?))).collect();
    bars.sort_by_key(|(engine, ..)| (engine.as_str() != OURS, engine.as_str()));
    bars.reverse();
    let high = bars.iter().flat_map(|(_, runs, _)| runs.figures()).fold(1e-9, f64::max);
    let area = area(path, 90 + 34 * bars.len() as u32)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: {}, {}", place.0.name(), name(place), place.1.figure().unit()), ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(110)
        .build_cartesian_2d(0.0..high * 1.05, 0.0..bars.len() as f64)?;
    chart.configure_mesh().disable_y_mesh().y_labels(0).x_label_formatter(&|x| super::count(*x)).draw()?;
    for (at, (engine, runs, value)) in bars.iter().enumerate() {
        let (bottom, middle, top) = (at as f64 + 0.15, at as f64 + 0.5, at as f64 + 0.85);
        let style = if runs.consistent() { colour(engine).filled() } else { colour(engine).mix(0.35).filled() };
        chart.draw_series([Rectangle::new([(0.0, bottom), (*value, top)], style)])?;
        let figures = runs.figures();
        let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        chart.draw_series(LineSeries::new([(low, middle), (most, middle)], &BLACK))?;
        let place = chart.backend_coord(&(0.0, middle));
        let anchor = plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Center,
        );
        let style = ("sans-serif", 14).into_text_style(&area).pos(anchor);
        area.draw_text(engine, &style, (place.0 - 8, place.1))?;
    }
    area.present()?;
    Ok(())
}

/// Entries a second, in steps, of the median run of each engine.
fn over_time(path: &Path, place: &Place, by_engine: &BTreeMap<String, Runs>, colour: impl Fn(&str) -> RGBColor) -> Drawing {
    let lines: Vec<(&String, Vec<(f64, f64)>)> =
        by_engine.iter().filter_map(|(engine, runs)| Some((engine, points(runs.median_row()?)))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    let (end, high) = (all().map(|point| point.0).fold(0.1, f64::max), all().map(|point| point.1).fold(1e-9, f64::max));
    let area = area(path, 400)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: {}, entries/s over time", place.0.name(), name(place)), ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..high * 1.05)?;
    chart.configure_mesh().x_desc("seconds").y_label_formatter(&|y| super::count(*y)).draw()?;
    for (engine, points) in &lines {
        let colour = colour(engine);
        let width = if *engine == OURS { 2 } else { 1 };
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(width));
        let key = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(engine.as_str()).legend(key);
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

/// The last step is left out: it is not a whole one. Long runs are drawn in coarser steps.
fn points(row: &Row) -> Vec<(f64, f64)> {
    let step = row.step_ms as f64 / 1e3;
    let whole = row.entries_by_step.len().saturating_sub(1);
    let coarse = whole.div_ceil(300).max(1);
    row.entries_by_step[..whole]
        .chunks(coarse)
        .enumerate()
        .map(|(at, steps)| {
            let time = steps.len() as f64 * step;
            ((at * coarse) as f64 * step + time / 2.0, steps.iter().sum::<u64>() as f64 / time)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::ratio::tests::row;
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn plots_hold_every_engine() {
        let mut records = Records::default();
        for (engine, ops) in [(OURS, 3000), ("other", 2000)] {
            records.add_row(row(engine, Workload::PutAsync, 1, ops, true));
        }
        let dir = tempfile::tempdir_in(".").unwrap();
        let drawn = draw(&records, dir.path()).unwrap();
        let files: Vec<_> = drawn.values().flatten().collect();
        assert_eq!(files, ["mem-put-async-t1.svg", "mem-put-async-t1-time.svg"]);
        for file in files {
            let text = std::fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(text.contains(OURS) && text.contains("other") && text.contains("put-async"), "{file}");
        }
    }

    #[test]
    fn long_runs_are_drawn_coarsely_and_lose_nothing() {
        let long = Row { entries_by_step: vec![10; 1001], ..row(OURS, Workload::PutAsync, 1, 10_010, true) };
        let points = points(&long);
        assert!(points.len() <= 300);
        assert!(points.iter().all(|point| (point.1 - 100.0).abs() < 1e-6));
    }
}
