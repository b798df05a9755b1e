//! The scales and zero points of codes in a file, and how they lie along them.

use anyhow::{Context, Result, bail};
use wgclip::quantize::{CodeFormat, QuantRule};
use wgclip::{Element, ElementType, with_element};

use super::E8M0;
use super::packed::Packing;
use crate::files::Kind;
use crate::source::{Place, Source};

/// Codes of a file.
pub(super) struct Coded {
    /// The name of their values.
    pub name: String,
    pub codes: Place,
    pub scale: Place,
    pub zero_point: Option<Place>,
    /// If they are packed: how, and the tensor of their shape.
    pub packing: Option<(Packing, Option<Place>)>,
    pub dims: Vec<usize>,
}

impl Coded {
    /// The tensors beside the codes.
    pub(super) fn aside(&self) -> impl Iterator<Item = Place> {
        let shape = self.packing.and_then(|(_, shape)| shape);
        [Some(self.scale), self.zero_point, shape].into_iter().flatten()
    }

    /// How codes of a type are read, and their zero point where none is written.
    fn rule(&self, codes: ElementType) -> Result<(QuantRule, f32)> {
        self.packing.map_or_else(|| Ok((rule_of(codes)?, 0.0)), |(packing, _)| Ok(packing.rule()))
    }
}

/// The scales and zero points of codes.
pub(super) struct Scales {
    /// Their dimensions, as many as the codes have.
    pub dims: Vec<usize>,
    pub scale: Vec<f32>,
    pub zero_point: Vec<f32>,
    /// How many codes of the last axis share one.
    pub group: usize,
    pub rule: QuantRule,
}

impl Scales {
    pub(super) fn read(source: &mut Source, coded: &Coded) -> Result<Self> {
        let (codes, what) = (&coded.dims, source.describe(coded.scale));
        let scale = match &source.entry(coded.scale).kind {
            Kind::Other(name) if name == E8M0 => powers_of_two(source, coded.scale)?,
            _ => {
                let element = source.element(coded.scale)?;
                if !element.is_float() || element == ElementType::F64 {
                    bail!("{what} holds {element}, and scales are floats of up to 32 bits");
                }
                numbers(source, coded.scale)?
            }
        };
        let (dims, group) = fit(source.entry(coded.scale).shape.dims(), codes).with_context(|| {
            format!("{what} has a shape that does not fit the codes of shape {codes:?}: one scale, one for each row, or for each group of a row")
        })?;
        let element = if coded.packing.is_some() { ElementType::U8 } else { source.element(coded.codes)? };
        let (rule, zero) = coded.rule(element)?;
        let is_float = element.is_float8() || rule.format == CodeFormat::E2M1;
        let zero_point = match coded.zero_point {
            None => vec![zero],
            Some(place) => numbers(source, place)?,
        };
        // Floats have none.
        let is_zero = zero_point.iter().all(|&zero| zero == 0.0);
        let zero_point = if is_float && is_zero { vec![0.0] } else { zero_point };
        let of_zero_point = || coded.zero_point.map_or(String::new(), |place| source.describe(place));
        if zero_point.len() != 1 && zero_point.len() != scale.len() {
            bail!(
                "{} has the length {}, and the scales have {}: give one zero point, or one for each scale",
                of_zero_point(),
                zero_point.len(),
                scale.len()
            );
        }
        let is_code =
            |zero: &&f32| zero.fract() == 0.0 && (rule.min as f32..=rule.max as f32).contains(*zero);
        if let Some(zero) = zero_point.iter().find(|zero| !is_code(zero)) {
            bail!(
                "{} holds {zero}, and zero points are whole numbers from {} to {} here",
                of_zero_point(),
                rule.min,
                rule.max
            );
        }
        Ok(Self { dims, scale, zero_point, group, rule })
    }
}

/// The scales of a tensor of E8M0.
fn powers_of_two(source: &mut Source, place: Place) -> Result<Vec<f32>> {
    let mut exponents = Vec::new();
    source.files[place.file].copy_as_new(place.index, &mut exponents)?;
    // 2^-127 is subnormal, and 255 is NaN.
    let power = |exponent: u8| match exponent {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(exponent) << 23),
    };
    Ok(exponents.into_iter().map(power).collect())
}

/// A small tensor as f32.
pub(super) fn numbers(source: &mut Source, place: Place) -> Result<Vec<f32>> {
    Ok(with_element!(source.element(place)?, T => {
        let numbers = source.files[place.file].read::<T>(place.index)?;
        numbers.into_iter().map(|number| number.to_f64() as f32).collect()
    }))
}

/// The dimensions of scales for codes, one for each of theirs, and how many codes of the last axis share a scale. Of one axis, scales
/// are those of rows.
fn fit(scales: &[usize], codes: &[usize]) -> Option<(Vec<usize>, usize)> {
    if scales.iter().product::<usize>() == 1 {
        return Some((vec![1; codes.len()], 1));
    }
    if let ([len], [rows, rest @ ..]) = (scales, codes)
        && len == rows
        && !rest.is_empty()
    {
        return Some(([&[*len][..], &vec![1; rest.len()]].concat(), 1));
    }
    let ([before @ .., scales_last], [rows @ .., last]) = (scales, codes) else { return None };
    let fits = |(scale, codes): (&usize, &usize)| *scale == 1 || scale == codes;
    if before.len() != rows.len() || !before.iter().zip(rows).all(fits) {
        return None;
    }
    let is_grouped = *scales_last > 1 && scales_last != last;
    match is_grouped {
        false => Some((scales.to_vec(), 1)),
        true if last.is_multiple_of(*scales_last) => Some((scales.to_vec(), last / scales_last)),
        true => None,
    }
}

/// The rule for codes of a type. Its range matters alone, in which zero points lie: that of the type, if 16 bits hold it.
fn rule_of(codes: ElementType) -> Result<QuantRule> {
    let signed = QuantRule::EXACT.bits(16)?;
    Ok(match codes.code_range().map(|ends| ends.map(i32::try_from)) {
        Some([Ok(min), Ok(max)]) => QuantRule::range(min, max).unwrap_or(signed),
        _ => signed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_fit_codes_as_checkpoints_have_them() {
        let one = |rank| Some((vec![1; rank], 1));
        assert_eq!(fit(&[], &[4, 6]), one(2));
        assert_eq!(fit(&[1], &[4, 6]), one(2));
        assert_eq!(fit(&[4], &[4, 6]), Some((vec![4, 1], 1)));
        assert_eq!(fit(&[4], &[4, 4]), Some((vec![4, 1], 1)));
        assert_eq!(fit(&[4, 1], &[4, 6]), Some((vec![4, 1], 1)));
        assert_eq!(fit(&[1, 6], &[4, 6]), Some((vec![1, 6], 1)));
        assert_eq!(fit(&[4, 3], &[4, 6]), Some((vec![4, 3], 2)));
        assert_eq!(fit(&[3], &[6]), Some((vec![3], 2)));
        for wrong in [&[3][..], &[6], &[4, 4], &[3, 1], &[4, 6, 1]] {
            assert_eq!(fit(wrong, &[4, 6]), None, "{wrong:?}");
        }
    }
}
