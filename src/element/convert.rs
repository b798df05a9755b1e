//! Conversions between floats of 8, 16, 32 and 64 bits, on their bits: one function for all layouts, in a form that
//! vectorises. The twin of `to_f32` and `from_f32` in `shaders/lib/softfloat.wgsl`.

use super::layout::{BitLayout, NumberClass};
use super::{Element, ElementType};

/// What happens to a number beyond the range of the type that it is rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Infinity, or NaN in a type without infinity: as IEEE 754 requires, and OFP8 "without saturation".
    Infinity,
    /// The greatest finite number for finite ones: OFP8 "with saturation". Infinity stays, in a type with infinity.
    Saturate,
}

/// Rounds an f64 to odd: to an adjacent f32 whose last bit is set if it is inexact, so that rounding it again is
/// rounding once. The conversions of `half` 2.7 from f64 round twice, or ignore the lower word.
#[inline(always)]
pub(crate) fn round_to_odd(value: f64) -> f32 {
    let near = value as f32;
    let wide = f64::from(near);
    let bits = near.to_bits();
    // Toward the value, which for a float is one step of its bits. An infinity stays, unless it came from rounding.
    let away = (wide.abs() < value.abs()) as u32;
    let back = (wide.abs() > value.abs()) as u32;
    let inexact = (away | back) & !bits & 1;
    f32::from_bits(bits.wrapping_add(inexact & away).wrapping_sub(inexact & back))
}

/// A float as an f32. An f64 that f32 cannot represent is rounded to nearest and saturated, or to odd if `odd`, so that rounding it again is
/// rounding once.
#[inline(always)]
pub(crate) fn to_f32<T: Element>(value: T, odd: bool) -> f32 {
    let (layout, bits) = (T::TYPE.layout(), Element::to_bits(value));
    match layout.bits {
        64 if odd => round_to_odd(f64::from_bits(bits)),
        64 => f64_to_f32(f64::from_bits(bits)),
        32 => f32::from_bits(bits as u32),
        _ => layout.widen(bits as u32),
    }
}

/// The float nearest to an f32, ties to even. A NaN becomes quiet and keeps only its sign.
#[inline(always)]
pub(crate) fn from_f32<T: Element>(value: f32, overflow: Overflow) -> T {
    let layout = T::TYPE.layout();
    let nan = layout.quiet_nan() | u64::from(value.to_bits() >> 31) << (layout.bits - 1);
    let bits = match layout.bits {
        64 => f64::from(value).to_bits(),
        32 => value.to_bits().into(),
        _ => layout.narrow(value, overflow).into(),
    };
    T::from_bits(if value.is_nan() { nan } else { bits })
}

/// The f32 nearest to an f64; beyond the range, the greatest finite one of its sign. A NaN becomes quiet and keeps only its
/// sign.
#[inline(always)]
fn f64_to_f32(value: f64) -> f32 {
    let near = value as f32;
    // An infinity that came from rounding.
    let near = if near.is_infinite() && value.is_finite() { f32::MAX.copysign(near) } else { near };
    if value.is_nan() { f32::NAN.copysign(near) } else { near }
}

/// Whether elements can be converted from one type to another: floats, or the same type.
pub(crate) fn converts(from: ElementType, to: ElementType) -> bool {
    from == to || from.is_float() && to.is_float()
}

impl BitLayout {
    /// Bits of an f32's fraction that do not fit into a float, and how much smaller its bias is than an f32's.
    #[inline]
    const fn to_f32_shifts(self) -> (u32, u32) {
        match self.class {
            NumberClass::Float { exponent, .. } => (24 + exponent - self.bits, 128 - (1 << (exponent - 1))),
            _ => (0, 0),
        }
    }

    /// The exact number of a float of up to 16 bits. A NaN becomes quiet and keeps only its sign.
    #[inline(always)]
    pub(crate) fn widen(self, bits: u32) -> f32 {
        let (excess, rebias) = self.to_f32_shifts();
        let sign = (bits & self.sign() as u32) << (32 - self.bits);
        let magnitude = bits & (self.sign() as u32 - 1);
        let value = f32::from_bits(magnitude << excess);
        // The difference of the biases as a factor, which makes subnormal numbers normal.
        let value = if rebias == 0 { value } else { value * f32::from_bits((127 + rebias) << 23) };
        let wide =
            if magnitude > self.max_finite() as u32 { f32::INFINITY.to_bits() } else { value.to_bits() };
        let wide = if magnitude > self.max_number() as u32 { f32::NAN.to_bits() } else { wide };
        f32::from_bits(sign | wide)
    }

    /// The float of up to 16 bits nearest to a number, ties to even. A NaN becomes quiet and keeps only its sign.
    #[inline(always)]
    pub(crate) fn narrow(self, value: f32, overflow: Overflow) -> u32 {
        let (excess, rebias) = self.to_f32_shifts();
        let bits = value.to_bits();
        let sign = (bits >> 31) << (self.bits - 1);
        let size = bits & (u32::MAX >> 1);
        let round = |size: u32| (size + (1 << (excess - 1)) - 1 + (size >> excess & 1)) >> excess;
        // Rounds to normal numbers by the bits, to subnormal ones by adding a power of two with their ulp.
        let normal = round(size.saturating_sub(rebias << 23));
        let least = (rebias + 1) << 23;
        let unit = f32::from_bits((rebias + 1 + excess) << 23);
        let subnormal = (f32::from_bits(size) + unit).to_bits().wrapping_sub(unit.to_bits());
        let rounded = if rebias != 0 && size < least { subnormal } else { normal };

        let (max_finite, infinite) = (self.max_finite() as u32, size == f32::INFINITY.to_bits());
        // One beyond the greatest finite number is infinity, or NaN in a type without infinity.
        let saturates =
            overflow == Overflow::Saturate && (!infinite || self.max_number() == self.max_finite());
        let most = if saturates { max_finite } else { max_finite + 1 };
        let rounded = if infinite { most } else { rounded.min(most) };
        let rounded = if size > f32::INFINITY.to_bits() { self.quiet_nan() as u32 } else { rounded };
        sign | rounded
    }
}

impl BitLayout {
    /// For a float of up to 16 bits: how many bits of an f32's fraction do not fit, and the bits of the f32 that is its
    /// smallest normal number.
    #[inline]
    pub(crate) const fn f32_rest(self) -> (u32, u32) {
        let (excess, rebias) = self.to_f32_shifts();
        (excess, (rebias + 1) << 23)
    }

    /// The same as [`narrow`](Self::narrow), for zeros and numbers that become normal, or overflow.
    #[inline(always)]
    pub(crate) fn narrow_normal(self, value: f32) -> u32 {
        let (excess, rebias) = self.to_f32_shifts();
        let bits = value.to_bits();
        let sign = (bits >> 31) << (self.bits - 1);
        let size = (bits & (u32::MAX >> 1)).saturating_sub(rebias << 23);
        let rounded = (size + (1 << (excess - 1)) - 1 + (size >> excess & 1)) >> excess;
        sign | rounded.min(self.max_finite() as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bf16, f16};

    /// All numbers of a type in order, without NaN.
    fn numbers(layout: BitLayout) -> Vec<f64> {
        (0..=layout.max_finite() as u32).map(|bits| layout.widen(bits).into()).collect()
    }

    #[test]
    fn wide_numbers_are_those_of_half() {
        for bits in 0..=u16::MAX {
            let wide =
                |wide: f32, half: f32| wide.to_bits() == half.to_bits() || wide.is_nan() && half.is_nan();
            assert!(
                wide(ElementType::F16.layout().widen(bits.into()), f16::from_bits(bits).to_f32()),
                "{bits:#x}"
            );
            assert!(
                wide(ElementType::Bf16.layout().widen(bits.into()), bf16::from_bits(bits).to_f32()),
                "{bits:#x}"
            );
        }
    }

    /// Each number of a type, the midpoints between them, and the neighbours of both.
    #[test]
    fn numbers_are_rounded_to_nearest_even_once() {
        for element in [ElementType::F8E4M3Fn, ElementType::F8E5M2, ElementType::F16, ElementType::Bf16] {
            let layout = element.layout();
            let values = numbers(layout);
            let narrow = |value: f64| layout.narrow(round_to_odd(value), Overflow::Infinity);
            for (bits, pair) in values.windows(2).enumerate() {
                let bits = bits as u32;
                let middle = (pair[0] + pair[1]) / 2.0;
                let even = bits + (bits & 1);
                for (value, expected) in [
                    (pair[0], bits),
                    (pair[0].next_up(), bits),
                    (middle.next_down(), bits),
                    (middle, even),
                    (middle.next_up(), bits + 1),
                    (pair[1].next_down(), bits + 1),
                ] {
                    assert_eq!(narrow(value), expected, "{element} of {value:e}");
                    assert_eq!(narrow(-value), expected | layout.sign() as u32, "{element} of -{value:e}");
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_the_range_overflows_or_saturates() {
        let (fn_, e5) = (ElementType::F8E4M3Fn.layout(), ElementType::F8E5M2.layout());
        for (value, overflowed, saturated) in
            [(464.0, 0x7e, 0x7e), (464.001, 0x7f, 0x7e), (1e30, 0x7f, 0x7e), (f32::INFINITY, 0x7f, 0x7e)]
        {
            assert_eq!(fn_.narrow(value, Overflow::Infinity), overflowed, "{value}");
            assert_eq!(fn_.narrow(-value, Overflow::Saturate), saturated | 0x80, "{value}");
        }
        for (value, overflowed, saturated) in
            [(61439.0, 0x7b, 0x7b), (61440.0, 0x7c, 0x7b), (1e30, 0x7c, 0x7b), (f32::INFINITY, 0x7c, 0x7c)]
        {
            assert_eq!(e5.narrow(value, Overflow::Infinity), overflowed, "{value}");
            assert_eq!(e5.narrow(-value, Overflow::Saturate), saturated | 0x80, "{value}");
        }
        assert_eq!(fn_.narrow(f32::from_bits(0xff80_0001), Overflow::Saturate), 0xff);
        assert_eq!(e5.narrow(f32::NAN, Overflow::Saturate), 0x7e);
    }

    #[test]
    fn the_f32_before_a_second_rounding_tells_that_it_is_inexact() {
        assert_eq!(round_to_odd(0.1).to_bits() & 1, 1);
        assert_eq!(round_to_odd(-1.0), -1.0);
        assert_eq!(round_to_odd(1e300), f32::MAX, "which is odd");
        assert_eq!(round_to_odd(-1e-300), -f32::from_bits(1));
        assert_eq!(round_to_odd(f64::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(round_to_odd(f64::NAN).is_nan());
        assert!(Element::to_f64(<f16 as Element>::from_f64(1e300)).is_infinite());
    }
}
