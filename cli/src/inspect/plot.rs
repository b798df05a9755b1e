//! The histogram as a picture.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::histogram::Histogram;

const SIZE: (u32, u32) = (720, 420);

/// An SVG of the counts on a logarithmic scale, and of the bounds that are given.
pub(super) fn svg(histogram: &Histogram, title: &str, bounds: [Option<f64>; 2]) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&area, histogram, title, bounds)
            .map_err(|error| anyhow!("the plot could not be drawn: {error}"))?;
    }
    Ok(text)
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    histogram: &Histogram,
    title: &str,
    bounds: [Option<f64>; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let most = histogram.counts.iter().copied().max().unwrap_or(1) as f64;
    // Bins with one value have a height too.
    // A range beyond that of f64 has no ticks: a quarter of it has.
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
