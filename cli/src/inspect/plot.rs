//! The histogram as a picture.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use plotters::prelude::*;

use super::histogram::Histogram;
use crate::args::{Inspect, Interval, Limit};
use crate::files::printable;
use crate::output::{Output, is_same_file};
use crate::source::Source;

const SIZE: (u32, u32) = (720, 420);

/// Refuses to overwrite an input with the plot.
pub(super) fn check_file(args: &Inspect, source: &Source) -> Result<()> {
    let Some(plot) = &args.plot else { return Ok(()) };
    let read = source.paths().into_iter().chain(args.interval.files().map(Path::to_owned));
    match read.into_iter().find(|read| is_same_file(plot, read)) {
        Some(read) => bail!("the plot would take the place of {}: name another file", read.display()),
        None => Ok(()),
    }
}

/// The file of the plot, if requested.
pub(super) fn create(args: &Inspect) -> Result<Option<Output>> {
    let plot = args.plot.as_ref().map(|path| Output::create(path)).transpose()?;
    if plot.as_ref().is_some_and(Output::is_direct) {
        bail!("--plot needs a file of its own: what is told goes to stdout");
    }
    Ok(plot)
}

/// Draws the histogram.
pub(super) fn draw(plot: Output, args: &Inspect, histogram: Option<&Histogram>) -> Result<()> {
    let Some(histogram) = histogram else {
        bail!("there is nothing to plot: {} holds no two different finite values", args.input.display());
    };
    let title = printable(&args.input.display().to_string());
    let text = svg(histogram, &title, numbers(&args.interval))?;
    plot.finish(|out| Ok(out.write_all(text.as_bytes())?))
}

/// The bounds that are numbers.
fn numbers(interval: &Interval) -> [Option<f64>; 2] {
    let finite = |text: &str| text.parse().ok().filter(|bound: &f64| bound.is_finite());
    interval.sides().map(|limit| limit.and_then(Limit::number).and_then(finite))
}

/// An SVG of the counts on a logarithmic scale, and of the given bounds.
fn svg(histogram: &Histogram, title: &str, bounds: [Option<f64>; 2]) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        chart(&area, histogram, title, bounds)
            .map_err(|error| anyhow!("the plot could not be drawn: {error}"))?;
    }
    Ok(text)
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    histogram: &Histogram,
    title: &str,
    bounds: [Option<f64>; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let most = histogram.counts.iter().copied().max().unwrap_or(1) as f64;
    // Bins with one value also have a height.
    // A range beyond that of f64 cannot have ticks; a quarter of it can.
    let scale = if (histogram.to - histogram.from).is_finite() { 1.0 } else { 0.25 };
    let (x, y) = (histogram.from * scale..histogram.to * scale, (0.5..most * 1.5).log_scale());
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 14))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("value")
        .y_desc("elements")
        .x_label_formatter(&|value| short(*value / scale))
        .y_label_formatter(&|count| short(*count))
        .draw()?;
    let bars = histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bin, &count)| {
        let corners = [(histogram.edge(bin) * scale, 0.5), (histogram.edge(bin + 1) * scale, count as f64)];
        Rectangle::new(corners, BLUE.mix(0.5).filled())
    });
    chart.draw_series(bars)?;
    for bound in bounds.into_iter().flatten().filter(|b| (histogram.from..=histogram.to).contains(b)) {
        let line = [(bound * scale, 0.5), (bound * scale, most * 1.5)];
        chart.draw_series(DashedLineSeries::new(line, 5, 3, RED.stroke_width(1)))?;
    }
    area.present()?;
    Ok(())
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1e-3..1e5 => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.1e}"),
    }
}
