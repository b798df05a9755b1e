//! A table of the results on the terminal.

use std::io::{self, Write};

use wgclip_harness::{BASELINES, BenchId, Clock, Measurement};

/// The key of a line of the table.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Line<'a> {
    r#type: &'a str,
    engine: &'a str,
    op: &'a str,
    alone: bool,
    clock: Clock,
}

impl<'a> Line<'a> {
    fn of(id: &'a BenchId) -> Self {
        let alone = id.batch == 1;
        Self { r#type: &id.r#type, engine: &id.engine, op: &id.op, alone, clock: id.clock }
    }

    /// The lines of the copies that move the same bytes, measured in the same way.
    fn baseline(self) -> impl Iterator<Item = Self> {
        ["memcpy", "copy_kernel"].into_iter().map(move |op| Self { engine: "wgclip", op, ..self })
    }

    fn name(self, kind: &str) -> String {
        let engine = if self.engine == "wgclip" { String::new() } else { format!(", {}", self.engine) };
        let how = match (kind, self.alone, self.clock) {
            ("cpu", ..) => "",
            (_, true, _) => ", alone",
            (_, false, Clock::Host) => ", in a batch",
            (_, false, Clock::Device) => ", device time",
        };
        format!("{}{engine}{how}", self.op)
    }
}

/// One line per operation, one column per size: the time as a multiple of the baseline's, then the time of one operation.
pub(super) fn print(out: &mut dyn Write, device: &str, rows: &[Measurement]) -> io::Result<()> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    for id in rows.iter().map(|row| &row.id) {
        if !lines.contains(&Line::of(id)) {
            lines.push(Line::of(id));
        }
        if !sizes.contains(&id.elements) {
            sizes.push(id.elements);
        }
    }
    sizes.sort_unstable();
    // Lines grouped by the way of measuring, the baselines first.
    let place =
        |name: &str| BASELINES.iter().position(|baseline| *baseline == name).unwrap_or(BASELINES.len());
    lines.sort_by_key(|line| (line.alone, line.clock == Clock::Host, place(line.op)));
    let mut types: Vec<&str> = lines.iter().map(|line| line.r#type).collect();
    types.sort_unstable();
    types.dedup();

    let find = |line: Line<'_>, size: usize| {
        rows.iter().find(|row| row.id.elements == size && Line::of(&row.id) == line)
    };
    let kind = rows.first().map_or("", |row| row.id.kind.as_str());
    writeln!(out, "{device}")?;
    for r#type in types {
        write!(out, "  {:36}", format!("{type}, elements:"))?;
        sizes.iter().try_for_each(|size| write!(out, "  {size:>18}"))?;
        writeln!(out)?;
        for &line in lines.iter().filter(|line| line.r#type == r#type) {
            write!(out, "  {:36}", line.name(kind))?;
            for &size in &sizes {
                let baseline = line.baseline().find_map(|baseline| find(baseline, size));
                let cell = match (find(line, size), baseline) {
                    (None, _) => "-".into(),
                    (Some(row), None) => time(row.median_ns),
                    (Some(row), Some(baseline)) => {
                        format!("{:.2} ({})", row.median_ns / baseline.median_ns, time(row.median_ns))
                    }
                };
                write!(out, "  {cell:>18}")?;
            }
            writeln!(out)?;
        }
    }
    writeln!(
        out,
        "  (the time of one operation, and before it as a multiple of the copy's that is measured alike)"
    )
}

/// `1.23 us`, to three digits.
fn time(ns: f64) -> String {
    let (mut value, mut unit) = (ns, "ns");
    for next in ["us", "ms", "s"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let places = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.places$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let shown = [0.5, 42.19, 999.4, 999.6, 1234.0, 99_960.0, 2.5e9].map(time);
        assert_eq!(shown, ["0.50 ns", "42.2 ns", "999 ns", "1.00 us", "1.23 us", "100 us", "2.50 s"]);
    }
}
