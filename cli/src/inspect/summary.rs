//! What the values of a tensor are.

use serde::Serialize;
use wgclip::{Element, ElementType};

/// The values of a tensor of type `T`.
pub(super) struct Values<T> {
    ends: Option<(T, T)>,
    nan: usize,
    inf: usize,
    zeros: usize,
}

/// The same of any type.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The least and the greatest finite number.
    min: Option<serde_json::Number>,
    max: Option<serde_json::Number>,
    nan: usize,
    inf: usize,
    zeros: usize,
    #[serde(skip)]
    text: [String; 2],
    #[serde(skip)]
    range: Option<(f64, f64)>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { ends: None, nan: 0, inf: 0, zeros: 0 }
    }
}

impl<T: Element> Values<T> {
    pub(super) fn add(&mut self, x: &[T]) {
        let layout = T::TYPE.layout();
        let infinite = |x: T| T::TYPE.is_float() && x.to_bits() & !layout.sign() > layout.max_finite();
        for &x in x {
            if x.is_nan() {
                self.nan += 1;
            } else if infinite(x) {
                self.inf += 1;
            } else {
                self.zeros += usize::from(x == T::ZERO);
                self.ends = Some(match self.ends {
                    Some((min, max)) => (if x < min { x } else { min }, if x > max { x } else { max }),
                    None => (x, x),
                });
            }
        }
    }

    pub(super) fn finish(self) -> Summary {
        let Self { ends, nan, inf, zeros } = self;
        let text = ends.map_or_else(Default::default, |(min, max)| [min, max].map(text));
        let [min, max] = match ends {
            Some((min, max)) => [number(min), number(max)],
            None => [None, None],
        };
        let range = ends.map(|(min, max)| (min.to_f64(), max.to_f64()));
        Summary { min, max, nan, inf, zeros, text, range }
    }
}

/// As many digits as tell the number from its neighbours.
fn text<T: Element>(x: T) -> String {
    let value = x.to_f64();
    match T::TYPE {
        ElementType::F64 => short(format!("{value}"), format!("{value:e}")),
        element if element.is_float() => {
            let value = value as f32;
            short(format!("{value}"), format!("{value:e}"))
        }
        _ => x.to_string(),
    }
}

fn short(plain: String, scientific: String) -> String {
    if plain.len() > 12 { scientific } else { plain }
}

/// Exact, of integers of 64 bits too.
fn number<T: Element>(x: T) -> Option<serde_json::Number> {
    match T::TYPE.is_float() {
        true => serde_json::Number::from_f64(x.to_f64()),
        false => x.to_string().parse().ok(),
    }
}

impl Summary {
    /// The ends as numbers, integers beyond 2^53 rounded.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        self.range
    }

    /// Its columns.
    pub(super) fn cells(&self) -> [String; 5] {
        let Self { nan, inf, zeros, text: [min, max], .. } = self;
        [min.clone(), max.clone(), nan.to_string(), inf.to_string(), zeros.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgclip::f8_e4m3fn;

    #[test]
    fn values_are_counted_and_the_ends_are_finite() {
        let mut values = Values::<f32>::default();
        values.add(&[f32::NAN, f32::INFINITY, -0.0, 2.5]);
        values.add(&[-1e30, f32::NEG_INFINITY, 0.0]);
        let summary = values.finish();
        assert_eq!(summary.cells(), ["-1e30", "2.5", "1", "2", "2"]);
        assert_eq!(summary.range(), Some((f64::from(-1e30f32), 2.5)));

        let mut values = Values::<u64>::default();
        values.add(&[u64::MAX, 7]);
        assert_eq!(values.finish().max.unwrap().to_string(), u64::MAX.to_string());
        let mut values = Values::<f8_e4m3fn>::default();
        values.add(&[f8_e4m3fn::MAX, f8_e4m3fn::NAN]);
        assert_eq!(values.finish().cells(), ["448", "448", "1", "0", "0"]);
        assert_eq!(Values::<f32>::default().finish().cells(), ["", "", "0", "0", "0"]);
    }
}
