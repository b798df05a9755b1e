//! How far the values of codes are from what was quantized.

use std::fmt;

use rayon::prelude::*;
use wgclip::quantize::QuantParams;
use wgclip::{Element, ElementType, with_element};

use super::codes::{Method, Part};

/// Elements that a thread takes at once.
const BLOCK: usize = 1 << 16;

/// Sums over elements that are finite, in f64.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errors {
    /// The squares of the elements, and of their differences from the values of their codes.
    signal: f64,
    noise: f64,
    /// The greatest difference.
    pub greatest: f64,
    elements: u64,
}

impl Errors {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.greatest = self.greatest.max(other.greatest);
        self.elements += other.elements;
    }

    /// Adds a part; in order, so that the sums are the same in every run.
    pub(crate) fn add<T: Element>(&mut self, part: &Part<'_, T>, codes: &[u8], method: &Method) {
        let (to, size) = (method.to, method.to.size());
        let code = |bytes: &[u8]| {
            let mut word = [0; size_of::<u64>()];
            word[..bytes.len()].copy_from_slice(bytes);
            match to {
                ElementType::U8 => method.number(word[0]),
                _ => with_element!(to, C => <C as Element>::from_bits(u64::from_le_bytes(word)).to_f64()),
            }
        };
        let blocks: Vec<_> = part
            .x
            .par_chunks(BLOCK)
            .zip(codes.par_chunks(BLOCK * size))
            .enumerate()
            .map(|(n, (mut x, mut codes))| {
                let (mut errors, mut start) = (Self::default(), n * BLOCK);
                while !x.is_empty() {
                    let run = start / part.run;
                    let QuantParams { scale, zero_point } = part.params[run % part.params.len()];
                    let len = x.len().min((run + 1) * part.run - start);
                    for (x, bytes) in x[..len].iter().zip(codes.chunks_exact(size)) {
                        errors.add_one(x.to_f64(), value(code(bytes) - f64::from(zero_point), scale));
                    }
                    (x, codes, start) = (&x[len..], &codes[len * size..], start + len);
                }
                errors
            })
            .collect();
        blocks.iter().for_each(|block| self.merge(block));
    }

    fn add_one(&mut self, x: f64, value: f64) {
        if x.is_finite() {
            let error = x - value;
            self.signal += x * x;
            self.noise += error * error;
            self.greatest = self.greatest.max(error.abs());
            self.elements += 1;
        }
    }

    /// The ratio of signal to quantization noise in decibels: infinite without noise, none without a signal.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let ratio = 10.0 * (self.signal / self.noise).log10();
        (self.signal > 0.0 && !ratio.is_nan()).then_some(ratio)
    }
}

/// The value of a code in f32, beyond whose range it is infinite.
fn value(steps: f64, scale: f32) -> f64 {
    f64::from((steps * f64::from(scale)) as f32)
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ratio() {
            // Or of squares that f64 does not hold.
            None => f.write_str("no signal"),
            Some(ratio) if ratio.is_infinite() => f.write_str("exact"),
            Some(ratio) => {
                let greatest = format!("{:.3e}", self.greatest);
                let greatest: f64 = greatest.parse().unwrap_or(self.greatest);
                write!(f, "SQNR {ratio:.1} dB, greatest error {}", crate::norm::number_text(greatest))
            }
        }
    }
}
