//! The plots: lines are medians over the seeds, bands their quartiles.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::results::{Results, Summary};
use crate::shape::Shape;
use crate::train::Limit;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The activations that are compared by lines, and their colours (Okabe and Ito's).
const LINES: [(&str, RGBColor); 7] = [
    ("relu", RGBColor(0, 0, 0)),
    ("relu6", RGBColor(230, 159, 0)),
    ("clip [-1, 1] masked", RGBColor(0, 114, 178)),
    ("clip [-1, 1] straight-through", RGBColor(213, 94, 0)),
    ("clip learned", RGBColor(0, 158, 115)),
    ("tanh", RGBColor(86, 180, 233)),
    ("sigmoid", RGBColor(204, 121, 167)),
];

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot: {error}")
}

fn font(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// Writes all plots into a folder.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    let rates = rates(results);
    let harsh = rates.last().copied().unwrap_or_default();
    accuracy(results, harsh, &folder.join("accuracy.svg"))?;
    layers(results, &rates, &folder.join("layers.svg"))?;
    learned(results, &rates, &folder.join("learned.svg"))?;
    clipped(results, &rates, &folder.join("clipped.svg"))
}

fn rates(results: &Results) -> Vec<f64> {
    let mut rates: Vec<_> = results.settings.iter().map(|setting| setting.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    rates
}

fn lines<'a>(
    results: &'a Results,
    shape: &'a str,
    rate: f64,
    gradients: &'a str,
) -> impl Iterator<Item = (&'a Summary, RGBColor)> {
    let of = move |name: &str| {
        results.settings.iter().find(|s| s.is(shape, rate, gradients) && s.activation == name)
    };
    LINES.iter().filter_map(move |&(name, colour)| Some((of(name)?, colour)))
}

/// A panel: bands and lines of `y` by epoch or layer.
struct Panel<'a> {
    title: String,
    x: &'a str,
    y: &'a str,
    range: (f64, f64),
    log: bool,
}

/// A line, with the quartiles where there are any.
struct Line {
    colour: RGBColor,
    points: Vec<(f64, f64)>,
    band: Vec<(f64, f64, f64)>,
}

fn panel(area: &Area<'_>, panel: &Panel<'_>, lines: &[Line]) -> Result<()> {
    let map = |value: f64| if panel.log { value.max(1e-300).log10() } else { value };
    let (low, high) = (map(panel.range.0), map(panel.range.1));
    let inside = |value: f64| map(value).clamp(low, high);
    let last = lines.iter().flat_map(|line| line.points.last()).map(|point| point.0).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, font(15.0))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..last.max(1.001), low..high)
        .map_err(failed)?;
    let labels = |y: &f64| if panel.log { format!("1e{y:.0}") } else { format!("{y:.1}") };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_labels(8)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(6)
        .y_label_formatter(&labels)
        .label_style(font(12.0))
        .draw()
        .map_err(failed)?;
    for line in lines {
        let outline = line.band.iter().map(|&(x, low, _)| (x, inside(low)));
        let outline = outline.chain(line.band.iter().rev().map(|&(x, _, high)| (x, inside(high))));
        let band = Polygon::new(outline.collect::<Vec<_>>(), line.colour.mix(0.15).filled());
        chart.draw_series(std::iter::once(band)).map_err(failed)?;
        let points = line.points.iter().map(|&(x, y)| (x, inside(y)));
        chart.draw_series(LineSeries::new(points, line.colour.stroke_width(2))).map_err(failed)?;
    }
    Ok(())
}

/// The names of the lines, in a row at the foot of a plot.
fn legend(area: &Area<'_>) -> Result<()> {
    let mut x = 20;
    for (name, colour) in LINES {
        let stroke = PathElement::new(vec![(x, 14), (x + 22, 14)], colour.stroke_width(3));
        area.draw(&stroke).map_err(failed)?;
        area.draw(&Text::new(name, (x + 27, 7), font(13.0))).map_err(failed)?;
        x += 45 + 7 * name.len() as i32;
    }
    Ok(())
}

/// The medians, from 1 on.
fn line(colour: RGBColor, values: impl IntoIterator<Item = f64>) -> Line {
    let points = (1..).map(f64::from).zip(values).collect();
    Line { colour, points, band: Vec::new() }
}

/// Test accuracy by epoch at the harshest rate: a row for each way to limit gradients, a column for each network.
fn accuracy(results: &Results, rate: f64, path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (1080, 900)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let (top, foot) = root.split_vertically(870);
    for (row, limit) in top.split_evenly((3, 1)).iter().zip(Limit::ALL) {
        for (area, shape) in row.split_evenly((1, 3)).iter().zip(Shape::ALL) {
            let lines: Vec<_> = lines(results, shape.name(), rate, limit.name())
                .map(|(setting, colour)| {
                    let test = &setting.curve.test;
                    let band =
                        (1..).map(f64::from).zip(test).map(|(epoch, of)| (epoch, of[0], of[2])).collect();
                    Line { band, ..line(colour, test.iter().map(|of| of[1])) }
                })
                .collect();
            let title = format!("{}, rate {rate}, gradients {}", shape.name(), limit.name());
            let of = Panel { title, x: "epoch", y: "test accuracy", range: (0.0, 1.0), log: false };
            panel(area, &of, &lines)?;
        }
    }
    legend(&foot)?;
    root.present().map_err(failed)
}

/// What each layer of the deep net puts out, and the gradient that reaches it, after the first epoch, for each rate.
fn layers(results: &Results, rates: &[f64], path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (1080, 640)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let (top, foot) = root.split_vertically(610);
    let rows = top.split_evenly((2, 1));
    for (n, row) in rows.iter().enumerate() {
        for (area, &rate) in row.split_evenly((1, rates.len())).iter().zip(rates) {
            let of = |(setting, colour): (&Summary, RGBColor)| {
                let [first, _] = &setting.layers;
                let values: Vec<_> = match n {
                    0 => first.outputs.iter().map(|layer| layer[0].abs().max(layer[1].abs())).collect(),
                    _ => first.gradient_norms.clone(),
                };
                line(colour, values)
            };
            let lines: Vec<_> = lines(results, "deep", rate, Limit::None.name()).map(of).collect();
            let (y, range) = match n {
                0 => ("greatest magnitude", (1e-2, 1e4)),
                _ => ("norm of the gradient", (1e-12, 1e6)),
            };
            let title = format!("deep, rate {rate}, after epoch 1");
            panel(area, &Panel { title, x: "hidden layer", y, range, log: true }, &lines)?;
        }
    }
    legend(&foot)?;
    root.present().map_err(failed)
}

/// The share of outputs of the last hidden layer that are at a bound, by epoch.
fn clipped(results: &Results, rates: &[f64], path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (1080, 330 * rates.len() as u32 + 30)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let (top, foot) = root.split_vertically(330 * rates.len() as i32);
    for (row, &rate) in top.split_evenly((rates.len(), 1)).iter().zip(rates) {
        for (area, shape) in row.split_evenly((1, 3)).iter().zip(Shape::ALL) {
            let lines: Vec<_> = lines(results, shape.name(), rate, Limit::Norm.name())
                .map(|(setting, colour)| line(colour, setting.curve.at_bound.iter().copied()))
                .collect();
            let title = format!("{}, rate {rate}, gradients by global norm", shape.name());
            let of = Panel { title, x: "epoch", y: "share at a bound", range: (0.0, 1.0), log: false };
            panel(area, &of, &lines)?;
        }
    }
    legend(&foot)?;
    root.present().map_err(failed)
}

/// A table: the median test accuracy of each activation, by network, rate and limit of the gradients.
fn learned(results: &Results, rates: &[f64], path: &Path) -> Result<()> {
    let names: Vec<_> = {
        let mut names = Vec::new();
        results.settings.iter().for_each(|setting| {
            if !names.contains(&&setting.activation) {
                names.push(&setting.activation);
            }
        });
        names
    };
    let (left, head, cell, line) = (210, 60, 27, 24);
    let columns = Shape::ALL.len() * rates.len() * Limit::ALL.len();
    let size = ((left + columns * (cell + 3) + 50) as u32, (head + names.len() * line + 40) as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let text = |words: &str, x: usize, y: usize, size: f64| {
        root.draw(&Text::new(words.to_owned(), (x as i32, y as i32), font(size))).map_err(failed)
    };
    let mut x = left;
    for shape in Shape::ALL {
        text(shape.name(), x, 6, 15.0)?;
        for &rate in rates {
            text(&format!("rate {rate}"), x, 24, 12.0)?;
            for limit in Limit::ALL {
                text(["none", "value", "norm"][limit as usize], x, 42, 9.0)?;
                for (n, name) in names.iter().enumerate() {
                    let here =
                        |s: &&Summary| s.is(shape.name(), rate, limit.name()) && &s.activation == *name;
                    let Some(setting) = results.settings.iter().find(here) else { continue };
                    let (y, accuracy) = (head + n * line, setting.test());
                    // From white to blue; what is above 90 % differs most.
                    let shade = accuracy.clamp(0.0, 1.0).powi(4);
                    let fade = |to: f64| (250.0 + (to - 250.0) * shade) as u8;
                    let colour = RGBColor(fade(60.0), fade(140.0), fade(210.0));
                    let corners = [(x, y), (x + cell, y + line - 2)].map(|(x, y)| (x as i32, y as i32));
                    root.draw(&Rectangle::new(corners, colour.filled())).map_err(failed)?;
                    text(&format!("{:.0}", 100.0 * accuracy), x + 5, y + 5, 12.0)?;
                }
                x += cell + 1;
            }
            x += 4;
        }
        x += 8;
    }
    for (n, name) in names.iter().enumerate() {
        text(name, 6, head + n * line + 4, 13.0)?;
    }
    let foot = "Median test accuracy in percent over the seeds, by limit of the gradients: none, value, global norm.";
    text(foot, 6, head + names.len() * line + 12, 12.0)?;
    root.present().map_err(failed)
}
