//! Statistics of the values of a tensor.

use rayon::prelude::*;
use serde::Serialize;
use wgclip::{Element, ElementType};

/// Elements that a thread processes at once.
const CHUNK: usize = 1 << 16;

/// Statistics of a tensor of type `T`.
pub(super) struct Values<T> {
    ends: Option<(T, T)>,
    nan: usize,
    inf: usize,
    zeros: usize,
    moments: Moments,
    /// The power of two that numbers are multiplied by for their moments, so that squares neither overflow nor underflow.
    unit: f64,
    /// The first elements, as many as requested.
    first: Vec<T>,
    wanted: usize,
}

/// The mean of finite numbers, and the sum of squared deviations from it, in f64.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: usize,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Both for a chunk: its mean first, so that little precision is lost if numbers lie close together.
    fn of(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let (count, sum) = numbers.clone().fold((0usize, 0.0), |(count, sum), x| (count + 1, sum + x));
        let mean = sum / count.max(1) as f64;
        Self { count, mean, squares: numbers.map(|x| (x - mean) * (x - mean)).sum() }
    }

    /// The moments of both together (Chan, Golub and LeVeque 1983).
    fn merged(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let (share, delta) = (other.count as f64 / count as f64, other.mean - self.mean);
        let squares = self.squares + other.squares + delta * delta * self.count as f64 * share;
        Self { count, mean: self.mean + delta * share, squares }
    }

    /// The mean and the population standard deviation (numpy's `ddof=0`).
    fn finish(self) -> Option<[f64; 2]> {
        (self.count > 0).then(|| [self.mean, (self.squares / self.count as f64).sqrt()])
    }
}

/// The same for any type.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The smallest and the greatest finite number.
    min: Option<serde_json::Number>,
    max: Option<serde_json::Number>,
    /// Of the finite numbers.
    mean: Option<f64>,
    std: Option<f64>,
    nan: usize,
    inf: usize,
    zeros: usize,
    /// By their names.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_object")]
    percentiles: Vec<(String, Value)>,
    /// In the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first: Vec<Value>,
    #[serde(skip)]
    text: [String; 4],
    #[serde(skip)]
    range: Option<(f64, f64)>,
}

/// A number, and for a person; in JSON one that is not finite is a text.
#[derive(Debug, Clone)]
pub(super) struct Value {
    number: Option<serde_json::Number>,
    text: String,
}

impl Value {
    fn of<T: Element>(x: T) -> Self {
        Self { number: number(x), text: text(x) }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.number {
            Some(number) => number.serialize(serializer),
            None => serializer.serialize_str(&self.text),
        }
    }
}

/// The finite numbers among elements.
fn finite<T: Element>(x: &[T]) -> impl Iterator<Item = f64> + Clone {
    x.iter().copied().map(Element::to_f64).filter(|x| x.is_finite())
}

fn as_object<S: serde::Serializer>(
    percentiles: &[(String, Value)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(percentiles.iter().map(|(name, value)| (name, value)))
}

impl<T: Element> Values<T> {
    /// Empty, to collect this many first elements.
    pub(super) fn new(wanted: usize) -> Self {
        let moments = Moments::default();
        Self { ends: None, nan: 0, inf: 0, zeros: 0, moments, unit: 1.0, first: Vec::new(), wanted }
    }

    pub(super) fn add(&mut self, x: &[T]) {
        let missing = self.wanted - self.first.len();
        self.first.extend(x.iter().take(missing));
        let chunks: Vec<_> = x.par_chunks(CHUNK).map(Self::of).collect();
        // In order, so that the mean is the same in every run.
        chunks.into_iter().for_each(|chunk| self.merge(chunk));
    }

    /// If the squares of the numbers do not fit an f64: a power of two for which they do, to pass to [`add_moments`](Self::add_moments).
    pub(super) fn wants_unit(&self) -> Option<f64> {
        let (min, max) = self.ends?;
        let greatest = min.to_f64().abs().max(max.to_f64().abs());
        let fits = greatest == 0.0 || (1e-140..1e140).contains(&greatest);
        // Scales the magnitude to about 1; for a subnormal the factor would not be finite.
        (!fits).then(|| (-greatest.log2().floor()).clamp(-1022.0, 1022.0).exp2())
    }

    /// Recomputes the moments in another unit.
    pub(super) fn add_moments(&mut self, x: &[T], unit: f64) {
        if self.unit != unit {
            (self.unit, self.moments) = (unit, Moments::default());
        }
        for chunk in x.chunks(CHUNK) {
            self.moments = self.moments.merged(Moments::of(finite(chunk).map(|x| x * unit)));
        }
    }

    fn of(x: &[T]) -> Self {
        let layout = T::TYPE.layout();
        let infinite = |x: T| T::TYPE.is_float() && x.to_bits() & !layout.sign() > layout.max_finite();
        let mut values = Self::new(0);
        for &x in x {
            if x.is_nan() {
                values.nan += 1;
            } else if infinite(x) {
                values.inf += 1;
            } else {
                values.zeros += usize::from(x == T::ZERO);
                values.ends = Some(match values.ends {
                    Some((min, max)) => (if x < min { x } else { min }, if x > max { x } else { max }),
                    None => (x, x),
                });
            }
        }
        values.moments = Moments::of(finite(x));
        values
    }

    fn merge(&mut self, other: Self) {
        self.ends = match (self.ends, other.ends) {
            (Some((min, max)), Some((a, b))) => {
                Some((if a < min { a } else { min }, if b > max { b } else { max }))
            }
            (ends, other) => ends.or(other),
        };
        self.nan += other.nan;
        self.inf += other.inf;
        self.zeros += other.zeros;
        self.moments = self.moments.merged(other.moments);
    }

    /// Adds percentiles that were computed elsewhere, by name.
    pub(super) fn finish(self, percentiles: &[(&str, T)]) -> Summary {
        let Self { ends, nan, inf, zeros, moments, unit, first, .. } = self;
        let [low, high] = ends.map_or_else(Default::default, |(min, max)| [min, max].map(text));
        let [min, max] = match ends {
            Some((min, max)) => [number(min), number(max)],
            None => [None, None],
        };
        let range = ends.map(|(min, max)| (min.to_f64(), max.to_f64()));
        let moments = moments.finish();
        let [mean, std] = [0, 1].map(|n| moments.map(|moments| moments[n] / unit));
        // More digits than those of an f32 are of no use here.
        let rounded = |moment: Option<f64>| moment.map_or(String::new(), moment_text);
        Summary {
            text: [low, high, rounded(mean), rounded(std)],
            percentiles: percentiles.iter().map(|&(name, x)| (name.to_owned(), Value::of(x))).collect(),
            first: first.into_iter().map(Value::of).collect(),
            // JSON has no infinity, which squares of f64 may have.
            mean: mean.filter(|mean| mean.is_finite()),
            std: std.filter(|std| std.is_finite()),
            min,
            max,
            nan,
            inf,
            zeros,
            range,
        }
    }
}

/// A mean or a deviation, to seven digits.
pub(super) fn moment_text(moment: f64) -> String {
    let rounded: f64 = format!("{moment:.6e}").parse().unwrap_or(moment);
    short(format!("{rounded}"), format!("{rounded:e}"))
}

/// As many digits as distinguish the number from its neighbours.
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

/// Exact, even for 64-bit integers.
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

    /// Its columns, before those of percentiles.
    pub(super) fn cells(&self) -> [String; 7] {
        let Self { nan, inf, zeros, text: [min, max, mean, std], .. } = self;
        let ends = [min, max, mean, std].map(String::clone);
        let [min, max, mean, std] = ends;
        [min, max, mean, std, nan.to_string(), inf.to_string(), zeros.to_string()]
    }

    /// One for each percentile, or empty if there are no numbers.
    pub(super) fn percentiles(&self) -> impl Iterator<Item = String> {
        self.percentiles.iter().map(|(_, value)| value.text.clone())
    }

    /// The first elements.
    pub(super) fn first(&self) -> Vec<String> {
        self.first.iter().map(|value| value.text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgclip::f8_e4m3fn;

    #[test]
    fn values_are_counted_and_the_ends_are_finite() {
        let mut values = Values::<f32>::new(5);
        values.add(&[f32::NAN, f32::INFINITY, -0.0, 2.5]);
        values.add(&[-1e30, f32::NEG_INFINITY, 0.0]);
        let summary = values.finish(&[("p50", -0.0)]);
        assert_eq!(summary.cells(), ["-1e30", "2.5", "-2.5e29", "4.330127e29", "1", "2", "2"]);
        assert_eq!(summary.first(), ["NaN", "inf", "-0", "2.5", "-1e30"]);
        assert_eq!(
            serde_json::to_string(&summary.first).unwrap(),
            r#"["NaN","inf",-0.0,2.5,-1.0000000150474662e+30]"#
        );
        assert_eq!(summary.range(), Some((f64::from(-1e30f32), 2.5)));

        let mut values = Values::<u64>::new(0);
        values.add(&[u64::MAX, 7]);
        assert_eq!(values.finish(&[]).max.unwrap().to_string(), u64::MAX.to_string());
        let mut values = Values::<f8_e4m3fn>::new(0);
        values.add(&[f8_e4m3fn::MAX, f8_e4m3fn::NAN]);
        assert_eq!(values.finish(&[]).cells(), ["448", "448", "448", "0", "1", "0", "0"]);
        // With several threads, far from 0: as numpy.mean and numpy.std of the same in longdouble.
        let mut values = Values::<u32>::new(0);
        values.add(&(0..1_000_003).map(|n| 4_000_000_000 + n % 7).collect::<Vec<_>>());
        let summary = values.finish(&[]);
        let (mean, std) = (summary.mean.unwrap(), summary.std.unwrap());
        assert!(
            (mean - 4_000_000_002.999_991).abs() < 1e-5 && (std - 1.999_999_7).abs() < 1e-5,
            "{mean} {std}"
        );
        // Squares that overflow, and that underflow.
        for unit in [1e300, 1e-300] {
            let mut values = Values::<f64>::new(0);
            values.add(&[3.0 * unit, 5.0 * unit]);
            values.add_moments(&[3.0 * unit, 5.0 * unit], values.wants_unit().unwrap());
            let summary = values.finish(&[]);
            assert!((summary.mean.unwrap() / unit - 4.0).abs() < 1e-9, "{unit}");
            assert!((summary.std.unwrap() / unit - 1.0).abs() < 1e-9, "{unit}");
        }
        assert_eq!(Values::<f32>::new(0).finish(&[]).cells(), ["", "", "", "", "0", "0", "0"]);
    }
}
