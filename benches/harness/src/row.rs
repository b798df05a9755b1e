//! The rows that every engine reports.

use serde::{Deserialize, Serialize};
use wgclip::device::DeviceInfo;

/// What measured the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The host's, from the first call to the end of the wait.
    Host,
    /// The device's, from the beginning to the end of a pass.
    Device,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchId {
    /// Who does it: `wgclip`, `raw_wgpu`, `burn`, and so on.
    pub engine: String,
    /// One of [`ops`](crate::ops) or [`BASELINES`](crate::BASELINES).
    pub op: String,
    /// The element type.
    pub r#type: String,
    /// Elements of the tensor.
    pub elements: usize,
    /// Where.
    pub device: String,
    /// `cpu`, `gpu` or `software`.
    pub kind: String,
    /// Bytes that one operation reads and writes.
    pub bytes: u64,
    /// Operations between two waits.
    pub batch: u32,
    /// What measured it.
    pub clock: Clock,
}

impl BenchId {
    /// An operation of wgclip's, one at a time, by the host's clock.
    pub fn new(op: &str, element: wgclip::ElementType, elements: usize, device: &DeviceInfo) -> Self {
        Self {
            engine: "wgclip".into(),
            op: op.into(),
            r#type: element.name().into(),
            elements,
            device: device.to_string(),
            kind: device.kind.name().into(),
            bytes: crate::bytes_of(op, elements, element.size()),
            batch: 1,
            clock: Clock::Host,
        }
    }

    /// The same by another engine.
    pub fn by(self, engine: &str) -> Self {
        Self { engine: engine.into(), ..self }
    }

    /// The same with `batch` operations between two waits.
    pub fn batch(self, batch: u32) -> Self {
        Self { batch, ..self }
    }

    /// The same by another clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
}

/// A measurement. Times are those of one operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured.
    #[serde(flatten)]
    pub id: BenchId,
    /// The median of the samples, in nanoseconds.
    pub median_ns: f64,
    /// The least of them.
    pub min_ns: f64,
    /// Bytes by the median time.
    pub gb_per_s: f64,
}

impl Measurement {
    /// From the times of samples, in nanoseconds of one operation.
    pub fn new(id: BenchId, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let tenths = |v: f64| (v * 10.0).round() / 10.0;
        let at = |i: usize| samples.get(i).copied().unwrap_or(f64::NAN);
        let middle = samples.len() / 2;
        let median = match samples.len() % 2 {
            0 => (at(middle.wrapping_sub(1)) + at(middle)) / 2.0,
            _ => at(middle),
        };
        // A small operation on a software rasteriser takes milliseconds.
        let gb_per_s = (id.bytes as f64 / median * 1e6).round() / 1e6;
        Self { id, median_ns: tenths(median), min_ns: tenths(at(0)), gb_per_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_there() {
        let id = BenchId::new("clip", wgclip::ElementType::F32, 1000, &wgclip::Device::cpu().info());
        assert_eq!(id.bytes, 8000);
        let row = Measurement::new(id.clone(), vec![5.0, 1.0, 2.0]);
        assert_eq!((row.median_ns, row.min_ns, row.gb_per_s), (2.0, 1.0, 4000.0));
        assert_eq!(Measurement::new(id, vec![4.0, 1.0, 2.0, 3.0]).median_ns, 2.5);
    }
}
