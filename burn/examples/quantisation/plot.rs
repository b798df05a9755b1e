//! The plot: test accuracy by bits, a row for each rate, a column for each network.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::net::Method;
use crate::shape::Shape;
use crate::{BITS, RATES, Results};

/// Okabe and Ito's.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot: {error}")
}

fn font(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// Medians over the seeds, with their quartiles; floats are the line across.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (1080, 660)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let (top, foot) = root.split_vertically(630);
    for (row, rate) in top.split_evenly((2, 1)).iter().zip(RATES) {
        for (area, shape) in row.split_evenly((1, 3)).iter().zip(Shape::ALL) {
            let of = |method: Method, bits: u32| {
                let is = |s: &&crate::Summary| {
                    s.shape == shape.name() && s.rate == rate && s.method == method.name() && s.bits == bits
                };
                results.settings.iter().find(is).map(|setting| setting.test())
            };
            let mut chart = ChartBuilder::on(area)
                .caption(format!("{}, rate {rate}", shape.name()), font(15.0))
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(46)
                .build_cartesian_2d(-0.4..3.4, 0.0..1.0)
                .map_err(failed)?;
            let bits = |x: &f64| match x.fract() == 0.0 && (0.0..4.0).contains(x) {
                true => BITS[*x as usize].to_string(),
                false => String::new(),
            };
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_desc("bits")
                .y_desc("test accuracy")
                .x_labels(8)
                .x_label_formatter(&bits)
                .y_labels(6)
                .label_style(font(12.0))
                .draw()
                .map_err(failed)?;
            if let Some([_, float, _]) = of(Method::Float, 32) {
                let line = LineSeries::new([(-0.4, float), (3.4, float)], BLACK.stroke_width(1));
                chart.draw_series(line).map_err(failed)?;
            }
            for (n, (method, colour)) in Method::QUANTISED.into_iter().zip(COLOURS).enumerate() {
                let aside = 0.07 * (n as f64 - 1.5);
                let points: Vec<_> = (0..)
                    .map(f64::from)
                    .zip(BITS)
                    .filter_map(|(x, bits)| Some((x + aside, of(method, bits)?)))
                    .collect();
                let medians = points.iter().map(|&(x, [_, median, _])| (x, median));
                chart.draw_series(LineSeries::new(medians, colour.stroke_width(2))).map_err(failed)?;
                for (x, [low, _, high]) in points {
                    chart
                        .draw_series(LineSeries::new([(x, low), (x, high)], colour.stroke_width(1)))
                        .map_err(failed)?;
                }
            }
        }
    }
    let mut x = 20;
    for (method, colour) in
        [(Method::Float, BLACK)].into_iter().chain(Method::QUANTISED.into_iter().zip(COLOURS))
    {
        foot.draw(&PathElement::new(vec![(x, 14), (x + 22, 14)], colour.stroke_width(3))).map_err(failed)?;
        foot.draw(&Text::new(method.name(), (x + 27, 7), font(13.0))).map_err(failed)?;
        x += 60 + 8 * method.name().len() as i32;
    }
    root.present().map_err(failed)
}
