//! A plot of the results: throughput over size, a panel for each device and type.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use wgclip_harness::{BASELINES, Clock, Measurement, ops};

const PANEL: (u32, u32) = (640, 400);

/// An SVG of the rows of this crate and of the baselines.
pub(super) fn svg(rows: &[Measurement]) -> Result<String> {
    let mut panels: Vec<(&str, &str)> = Vec::new();
    for id in rows.iter().map(|row| &row.id) {
        let panel = (id.device.as_str(), id.r#type.as_str());
        if !panels.contains(&panel) {
            panels.push(panel);
        }
    }
    let columns = panels.len().clamp(1, 2);
    let size = (PANEL.0 * columns as u32, PANEL.1 * panels.len().div_ceil(columns) as u32);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE).map_err(drawn)?;
        for (area, (device, r#type)) in
            area.split_evenly((panels.len().div_ceil(columns), columns)).iter().zip(panels)
        {
            let of_panel: Vec<_> = rows
                .iter()
                .filter(|row| row.id.device == device && row.id.r#type == r#type && is_shown(row))
                .collect();
            panel(area, &format!("{device}, {type}"), &of_panel)?;
        }
        area.present().map_err(drawn)?;
    }
    Ok(text)
}

/// Whether a row is shown: by the host's clock, and in a batch on devices that are used that way.
fn is_shown(row: &Measurement) -> bool {
    let id = &row.id;
    id.engine == "wgclip" && id.clock == Clock::Host && (id.kind == "cpu" || id.batch > 1)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    rows: &[&Measurement],
) -> Result<()> {
    let sizes = || rows.iter().map(|row| row.id.elements as f64);
    let rates = || rows.iter().map(|row| row.gb_per_s);
    let (least, most) = (sizes().fold(f64::MAX, f64::min), sizes().fold(1.0, f64::max));
    let (low, high) = (rates().fold(f64::MAX, f64::min), rates().fold(1e-3, f64::max));
    if rows.is_empty() {
        return Ok(());
    }
    // A single size also needs a range. The right side has room for the legend.
    let room = (most / least).powf(0.6).max(2.0);
    let (x, y) = ((least / 1.2)..(most * room), (low / 1.3)..(high * 1.3));
    let mut ticks: Vec<f64> = sizes().collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 13))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(x.log_scale().with_key_points(ticks), y.log_scale())
        .map_err(drawn)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("elements")
        .y_desc("GB/s read and written")
        .x_label_formatter(&|v| elements(*v))
        .y_label_formatter(&|v| format!("{v:.3}").trim_end_matches('0').trim_end_matches('.').to_owned())
        .draw()
        .map_err(drawn)?;

    for (i, name) in BASELINES.map(String::from).into_iter().chain(ops()).enumerate() {
        let mut points: Vec<_> = rows
            .iter()
            .filter(|row| row.id.op == name)
            .map(|row| (row.id.elements as f64, row.gb_per_s))
            .collect();
        if points.is_empty() {
            continue;
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let is_baseline = i < BASELINES.len();
        let color = if is_baseline {
            BLACK.mix(0.4 + 0.3 * i as f64).to_rgba()
        } else {
            Palette99::pick(i).to_rgba()
        };
        let style = color.stroke_width(if is_baseline { 1 } else { 2 });
        let marks = points.clone();
        let series = if is_baseline {
            chart.draw_series(DashedLineSeries::new(points, 5, 3, style)).map_err(drawn)?
        } else {
            chart.draw_series(LineSeries::new(points, style)).map_err(drawn)?
        };
        series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        chart.draw_series(marks.into_iter().map(|at| Circle::new(at, 2, color.filled()))).map_err(drawn)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 11))
        .draw()
        .map_err(drawn)?;
    Ok(())
}

/// `64 Ki` for powers of two, otherwise plain digits.
fn elements(v: f64) -> String {
    let whole = v.round() as u64;
    match whole {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} Mi", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} Ki", n >> 10),
        n if n >= 1_000_000 => format!("{} M", n / 1_000_000),
        n if n >= 1_000 => format!("{} k", n / 1_000),
        n => n.to_string(),
    }
}

fn drawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the plot could not be drawn: {error}")
}
