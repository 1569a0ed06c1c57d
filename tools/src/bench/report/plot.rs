//! Plots as SVG.

use crate::bench::measured::{Measured, Quantiles};
use crate::bench::timeline::STEP;
use crate::error::{Error, Result};
use crate::units::{rate, time};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::time::Duration;

const SIZE: (u32, u32) = (560, 300);
/// Points of a line, at most.
const POINTS_MAX: usize = 400;
/// How much wider than a plot's width is a checkpoint drawn at least, as a share of it.
const MARK_WIDTH: f64 = 0.003;

const BLUE: RGBColor = RGBColor(31, 98, 166);
const ORANGE: RGBColor = RGBColor(217, 95, 2);
const GRAY: RGBColor = RGBColor(120, 120, 120);
const MESH: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn drawn(draw: impl FnOnce(&Area<'_>) -> std::result::Result<(), Box<dyn std::error::Error>>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?)).map_err(|e| Error::Usage(format!("a plot could not be drawn: {e}")))?;
    }
    Ok(svg)
}

/// A chart's common parts.
fn builder<'a, 'b>(area: &'a Area<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.caption(title, ("sans-serif", 15)).margin(8).margin_right(18).x_label_area_size(38).y_label_area_size(66);
    builder
}

/// (seconds, operations a second): the middle of each span of time, and what was done in it.
fn rates(counts: &[u64], last: Duration) -> Vec<(f64, f64)> {
    let group = counts.len().div_ceil(POINTS_MAX).max(1);
    let step = STEP.as_secs_f64();
    let spans = counts.chunks(group).enumerate().map(|(i, counts)| {
        let begin = (i * group) as f64 * step;
        // The last one may have been cut short.
        let width = (counts.len() as f64 * step).min((last.as_secs_f64() - begin).max(step / 10.0));
        (begin + width / 2.0, counts.iter().sum::<u64>() as f64 / width)
    });
    spans.collect()
}

/// Operations a second over time, checkpoints shaded; none of a run that is too short, or has too few operations.
pub(super) fn throughput(measured: &Measured) -> Result<Option<String>> {
    let timeline = &measured.sample.timeline;
    let points = rates(timeline.counts(), timeline.last());
    if points.len() < 3 || measured.sample.ops < 10 {
        return Ok(None);
    }
    let (end, top) = (timeline.last().as_secs_f64(), points.iter().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1);
    drawn(|area| {
        let title = format!("{}: operations a second", measured.name);
        let mut chart = builder(area, &title).build_cartesian_2d(0.0..end, 0.0..top)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("seconds")
            .y_desc("ops/s")
            .x_labels(8)
            .y_labels(6)
            .y_label_formatter(&|y| if *y == 0.0 { "0".into() } else { rate(*y) });
        mesh.light_line_style(WHITE).bold_line_style(MESH).axis_style(GRAY).draw()?;
        let marks = measured.checkpoints.iter().map(|c| {
            let (begin, till) = (c.begin.as_secs_f64().min(end), c.end.as_secs_f64().min(end));
            Rectangle::new([(begin, 0.0), (till.max(begin + end * MARK_WIDTH), top)], ORANGE.mix(0.3).filled())
        });
        chart.draw_series(marks)?;
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        Ok(())
    })
    .map(Some)
}

/// What share of operations took how long at most; none of few.
pub(super) fn percentiles(measured: &Measured) -> Result<Option<String>> {
    let latency = &measured.sample.latency;
    if latency.len() < 10 {
        return Ok(None);
    }
    // One operation in x took longer.
    let most = latency.len() as f64;
    let xs = std::iter::successors(Some(1.0), |x| Some(x * 1.1)).take_while(|x| *x < most).chain([most]);
    let points: Vec<(f64, f64)> = xs.map(|x: f64| (x, latency.value_at_quantile(1.0 - 1.0 / x).max(1) as f64)).collect();
    let (low, high) = range(points.iter().map(|(_, y)| *y));
    drawn(|area| {
        let title = format!("{}: latency by percentile", measured.name);
        let mut chart = builder(area, &title).build_cartesian_2d((1.0..most).log_scale(), (low..high).log_scale())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("operations that took no longer").x_label_formatter(&|x| percent(*x)).x_labels(7);
        mesh.y_desc("latency").y_label_formatter(&|y| time(Duration::from_nanos(*y as u64))).y_labels(8);
        mesh.light_line_style(WHITE).bold_line_style(MESH).axis_style(GRAY).draw()?;
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        Ok(())
    })
    .map(Some)
}

/// What something costs against x.
pub(super) fn cost(title: &str, x_name: &str, points: &[(u64, Quantiles)]) -> Result<String> {
    let mut points = points.to_vec();
    points.sort_by_key(|(x, _)| *x);
    let of = |value: fn(&Quantiles) -> u64| -> Vec<(f64, f64)> {
        points.iter().map(|(x, q)| ((*x).max(1) as f64, value(q).max(1) as f64)).collect()
    };
    let curves = [("p50", BLUE, of(|q| q.p50)), ("p99", ORANGE, of(|q| q.p99))];
    let (low, high) = decades(range(curves.iter().flat_map(|(_, _, curve)| curve.iter().map(|(_, y)| *y))));
    let (left, right) = range(curves[0].2.iter().map(|(x, _)| *x));
    drawn(|area| {
        let mut chart = builder(area, title).build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(x_name).x_label_formatter(&|x| rate(*x)).x_labels(6);
        mesh.y_desc("latency").y_label_formatter(&|y| time(Duration::from_nanos(*y as u64))).y_labels(8);
        mesh.light_line_style(WHITE).bold_line_style(MESH).axis_style(GRAY).draw()?;
        for (name, color, curve) in &curves {
            let series = chart.draw_series(LineSeries::new(curve.iter().copied(), color.stroke_width(2)).point_size(4))?;
            let color = *color;
            series.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.85)).border_style(MESH).draw()?;
        Ok(())
    })
}

/// A little more than the values, for an axis by powers: at least a factor of three.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, 1.0), |(low, high): (f64, f64), y| (low.min(y), high.max(y)));
    let low = low.min(high);
    let (low, high) = (low * 0.8, high * 1.25);
    let lacking = (3.0 * low / high).max(1.0).sqrt();
    (low / lacking, high * lacking)
}

/// Widened to whole powers of ten, which are what such an axis has labels at.
fn decades((low, high): (f64, f64)) -> (f64, f64) {
    (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()))
}

/// The share of operations where one in `x` is beyond.
fn percent(x: f64) -> String {
    let nines = (x.log10().round().max(0.0) as usize).saturating_sub(2);
    format!("{:.nines$} %", 100.0 * (1.0 - 1.0 / x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measured::Delta;
    use crate::bench::run::{Amount, Sample};
    use crate::bench::watch::Checkpoints;

    fn measured(ends_ms: impl IntoIterator<Item = u64>) -> Measured {
        let mut sample = Sample::empty(1).unwrap();
        let mut before = 0;
        for end in ends_ms {
            sample.add(Amount::default(), Duration::from_millis(end - before), Duration::from_millis(end));
            before = end;
        }
        Measured::alone("some".into(), sample, Delta::default())
    }

    #[test]
    fn rates_are_of_the_time_there_was() {
        let points = rates(&[10, 20, 5], Duration::from_millis(250));
        let want = [(0.05, 100.0), (0.15, 200.0), (0.225, 100.0)];
        for ((x, y), (want_x, want_y)) in points.iter().zip(want) {
            assert!((x - want_x).abs() < 1e-9 && (y - want_y).abs() < 1e-6, "{points:?}");
        }
        // Many are put together.
        let points = rates(&[1; 4001], Duration::from_millis(400_100));
        assert!(points.len() <= POINTS_MAX && points.iter().all(|(_, y)| (y - 10.0).abs() < 1e-6), "{}", points.len());
    }

    #[test]
    fn axes_hold_what_is_on_them() {
        assert_eq!([1.0, 10.0, 100.0, 1e3, 1e5].map(percent), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
        for values in [vec![5.0], vec![1.0, 1e9], vec![70.0, 71.0]] {
            let (low, high) = range(values.iter().copied());
            assert!(low > 0.0 && high / low >= 2.99 && values.iter().all(|v| low < *v && *v < high), "{values:?}: {low} {high}");
        }
    }

    #[test]
    fn an_axis_by_powers_has_two_labels_at_least() {
        assert_eq!(decades((320.0, 800.0)), (100.0, 1000.0));
        assert_eq!(decades((80.0, 1100.0)), (10.0, 10_000.0));
    }

    #[test]
    fn checkpoints_are_drawn_and_short_runs_are_not() {
        let mut run = measured((1..=100).map(|i| i * 10));
        let plain = throughput(&run).unwrap().unwrap();
        let ms = Duration::from_millis;
        run.checkpoints = vec![Checkpoints { count: 1, begin: ms(300), end: ms(420) }];
        let marked = throughput(&run).unwrap().unwrap();
        let rectangles = |svg: &str| svg.matches("<rect").count();
        assert_eq!(rectangles(&marked), rectangles(&plain) + 1);
        assert!(marked.contains("ops/s") && marked.contains("seconds") && marked.contains("<polyline"));
        assert!(percentiles(&run).unwrap().unwrap().contains("90 %"));
        let short = measured([50, 100]);
        assert!(throughput(&short).unwrap().is_none() && percentiles(&short).unwrap().is_none());
    }

    #[test]
    fn a_curve_of_one_point_can_be_drawn() {
        let q = Quantiles { p50: 800, p99: 4000, p999: 5000, max: 6000 };
        for points in [vec![(1000, q)], vec![(0, q), (1_000_000, q)]] {
            let svg = cost("a read against entries", "entries", &points).unwrap();
            assert!(svg.contains("p99") && svg.contains("entries"));
        }
    }
}
