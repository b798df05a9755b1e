//! Draws the picture of the README: a layer before and after its clip, and how much of the gradient reaches it.
//!
//! `cargo run --release --example picture` writes `docs/clip.svg`.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use wgclip::{BackwardRule, Device, OutsideRule};

const BLUE: RGBColor = RGBColor(86, 130, 186);
const ORANGE: RGBColor = RGBColor(222, 143, 5);
/// The width of a bin: 0 and 1 are edges of bins.
const BIN: f64 = 0.1;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::auto()?;
    let (data, shape) = load("samples/digits-preactivations.npy")?;
    let (upstream, _) = load("samples/digits-upstream.npy")?;
    let x = device.tensor(&data, shape.clone())?;
    let g = device.tensor(&upstream, shape)?;
    let clipped = x.clip(0.0..=1.0)?.to_vec()?;

    let mut shares = Vec::new();
    for &outside in OutsideRule::ALL {
        let rule = BackwardRule { outside, ..BackwardRule::default() };
        let grad = x.clip_backward(&g, 0.0..=1.0, rule)?.to_vec()?;
        let size = |g: &[f32]| g.iter().map(|g| f64::from(g.abs())).sum::<f64>();
        shares.push((outside.name(), 100.0 * size(&grad) / size(&upstream)));
    }

    let root = SVGBackend::new("docs/clip.svg", (920, 340)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(560);
    draw_values(&left, &data, &clipped)?;
    draw_shares(&right, &shares)?;
    root.present()?;
    println!("docs/clip.svg: {} values, on {}", data.len(), device.info());
    Ok(())
}

fn load(path: &str) -> Result<(Vec<f32>, Vec<usize>), Box<dyn Error>> {
    let npy = npyz::NpyFile::new(BufReader::new(File::open(path)?))?;
    let shape = npy.shape().iter().map(|&d| d as usize).collect();
    Ok((npy.into_vec()?, shape))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Two histograms on one logarithmic scale: what lay outside stands at the bounds afterwards.
fn draw_values(area: &Area<'_>, before: &[f32], after: &[f32]) -> Result<(), Box<dyn Error>> {
    // The bins begin and end where the values do.
    let ends =
        before.iter().fold((0.0f64, 1.0f64), |(least, most), &v| (least.min(v.into()), most.max(v.into())));
    let (first, last) = ((ends.0 / BIN).floor() as i64, (ends.1 / BIN).ceil() as i64);
    let counts = |values: &[f32]| {
        let mut counts = vec![0u32; (last - first) as usize];
        for &v in values {
            let bin = (f64::from(v) / BIN).floor() as i64 - first;
            counts[bin.clamp(0, last - first - 1) as usize] += 1;
        }
        counts
    };
    let range = first as f64 * BIN..last as f64 * BIN;
    let mut chart = ChartBuilder::on(area)
        .caption("A layer of 512 x 128 values, clipped to [0, 1]", ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(range, (1.0..50_000.0).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("value")
        .y_desc("elements")
        .y_labels(5)
        .y_label_formatter(&|count| format!("{count:.0}"))
        .draw()?;

    for (name, counts, colour) in [("before", counts(before), BLUE), ("after", counts(after), ORANGE)] {
        let bars = counts.into_iter().enumerate().filter(|(_, count)| *count > 0).map(|(i, count)| {
            let x = (first + i as i64) as f64 * BIN;
            Rectangle::new([(x, 1.0), (x + BIN, f64::from(count))], colour.mix(0.55).filled())
        });
        chart
            .draw_series(bars)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.mix(0.55).filled()));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    Ok(())
}

/// What share of the gradient's absolute size each rule lets through.
fn draw_shares(area: &Area<'_>, shares: &[(&str, f64)]) -> Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .caption("Gradient that reaches the layer", ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((0..shares.len() - 1).into_segmented(), 0.0..110.0)?;
    let name = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(i) | SegmentValue::Exact(i) => {
            shares.get(*i).map_or("", |(name, _)| name).to_owned()
        }
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_label_formatter(&name)
        .y_desc("% of its size")
        .y_label_formatter(&|share| format!("{share:.0}"))
        .draw()?;
    chart.draw_series(shares.iter().enumerate().map(|(i, (_, share))| {
        let mut bar = Rectangle::new(
            [(SegmentValue::Exact(i), 0.0), (SegmentValue::Exact(i + 1), *share)],
            BLUE.mix(0.75).filled(),
        );
        bar.set_margin(0, 0, 24, 24);
        bar
    }))?;
    let centred = ("sans-serif", 15).into_text_style(area).pos(Pos::new(HPos::Center, VPos::Bottom));
    chart.draw_series(shares.iter().enumerate().map(|(i, (_, share))| {
        Text::new(format!("{share:.0}"), (SegmentValue::CenterOf(i), share + 1.0), centred.clone())
    }))?;
    Ok(())
}
