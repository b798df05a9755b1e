//! How each type is an [`Element`], and what the operations compute with it.

use half::{bf16, f16};

use super::convert::round_to_odd;
use super::{Element, ElementType, f8_e4m3fn, f8_e5m2};

/// The private half of [`Element`], which seals it.
pub trait Compute: Copy {
    /// Half of this value, rounded to nearest with ties to even (which only a subnormal or an odd integer needs).
    /// NaN and infinities are returned as they are, NaN with its payload.
    fn halve(self) -> Self;

    /// The half that the other operand of a tie gets: as [`halve`](Self::halve) for floats, and what is left of an
    /// integer, so that nothing of an odd one is lost.
    fn halve_remainder(self) -> Self;
}

macro_rules! float {
    ($type:ty, $variant:ident, $bits:ty, $norm:ty, $from:expr) => {
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
            type Norm = $norm;
            const ZERO: Self = <$type>::from_bits(0);

            fn from_f64(value: f64) -> Self {
                let from: fn(f64) -> $type = $from;
                from(value)
            }

            fn to_f64(self) -> f64 {
                self.into()
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }

            #[inline(always)]
            fn to_bits(self) -> u64 {
                <$type>::to_bits(self).into()
            }

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                <$type>::from_bits(bits as $bits)
            }
        }

        impl Compute for $type {
            #[inline(always)]
            fn halve(self) -> Self {
                // By the bits: arithmetic may quiet a NaN, and that of the short floats does not vectorise.
                let layout = Self::TYPE.layout();
                let (min_normal, max_finite) = (layout.min_normal() as $bits, layout.max_finite() as $bits);
                let bits = <$type>::to_bits(self);
                let magnitude = bits & !(layout.sign() as $bits);
                let floor = magnitude >> 1;
                // One off the exponent, or, where that leaves the normal numbers, a shift of the whole significand.
                let half = match magnitude < 2 * min_normal {
                    true => floor + (floor & magnitude & 1),
                    false => magnitude.wrapping_sub(min_normal),
                };
                <$type>::from_bits(if magnitude > max_finite { bits } else { bits - magnitude + half })
            }

            #[inline(always)]
            fn halve_remainder(self) -> Self {
                self.halve()
            }
        }
    };
}

float!(f32, F32, u32, f32, |v| v as f32);
float!(f64, F64, u64, f64, |v| v);
float!(f16, F16, u16, f32, |v| f16::from_f32(round_to_odd(v)));
float!(bf16, Bf16, u16, f32, |v| bf16::from_f32(round_to_odd(v)));
float!(f8_e4m3fn, F8E4M3Fn, u8, f32, f8_e4m3fn::from_f64);
float!(f8_e5m2, F8E5M2, u8, f32, f8_e5m2::from_f64);

macro_rules! integer {
    ($($type:ident, $variant:ident, $unsigned:ty;)+) => {$(
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
            type Norm = f32;
            const ZERO: Self = 0;

            fn from_f64(value: f64) -> Self {
                value as $type
            }

            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }

            #[inline(always)]
            fn to_bits(self) -> u64 {
                (self as $unsigned).into()
            }

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                bits as $type
            }
        }

        impl Compute for $type {
            #[inline(always)]
            fn halve(self) -> Self {
                let floor = self >> 1;
                floor + (floor & self & 1)
            }

            #[inline(always)]
            fn halve_remainder(self) -> Self {
                self - self.halve()
            }
        }
    )+};
}

integer! {
    i8, I8, u8;
    u8, U8, u8;
    i16, I16, u16;
    u16, U16, u16;
    i32, I32, u32;
    u32, U32, u32;
    i64, I64, u64;
    u64, U64, u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_is_exact_and_keeps_nan_and_infinity() {
        let bits = |b: u32| Element::to_bits(f32::from_bits(b).halve()) as u32;
        assert_eq!(3.0f32.halve(), 1.5);
        assert_eq!(bits(0x0080_0000), 0x0040_0000, "least normal to subnormal");
        assert_eq!(bits(0x0080_0001), 0x0040_0000, "tie to even, down");
        assert_eq!(bits(0x0080_0003), 0x0040_0002, "tie to even, up");
        assert_eq!(bits(0x8000_0001), 0x8000_0000, "-2^-149 / 2 ties to -0");
        assert_eq!(bits(0x0000_0003), 0x0000_0002);
        assert_eq!(bits(0x7f80_0000), 0x7f80_0000);
        assert_eq!(bits(0xff80_0001), 0xff80_0001, "signalling NaN stays");
        assert_eq!(f16::from_bits(0x0403).halve().to_bits(), 0x0202, "f16, tie to even, up");
        assert_eq!(bf16::from_bits(0x0081).halve().to_bits(), 0x0040, "bf16, tie to even, down");
        assert_eq!(f8_e4m3fn::MAX.halve().to_f32(), 224.0);
        assert_eq!(f8_e4m3fn::NAN.halve().to_bits(), 0x7f);
        assert_eq!(f8_e5m2::INFINITY.halve().to_bits(), 0x7c);
    }

    #[test]
    fn halves_of_integers_add_up() {
        assert_eq!([-3i8, -1, 1, 3, 5].map(|v| v.halve()), [-2, 0, 0, 2, 2]);
        for v in i8::MIN..=i8::MAX {
            assert_eq!(v.halve() + v.halve_remainder(), v);
        }
        assert_eq!(u64::MAX.halve(), 1 << 63);
    }

    #[test]
    fn numbers_become_the_nearest_value() {
        assert_eq!(f16::from_f64(0.1), f16::from_f32(0.1));
        // A tie of bf16 and of f16, and a little more than each: less than an f32 tells, or than its upper word.
        for (tie, even, up) in [(1.0f64 + 1.0 / 256.0, 0x3f80, 0x3f81), (-1.0 - 3.0 / 256.0, 0xbf82, 0xbf82)]
        {
            for more in [0.0, 1e-15, 1e-7] {
                let value = tie + tie.signum() * more;
                let expected = if more == 0.0 { even } else { up };
                assert_eq!(<bf16 as Element>::from_f64(value).to_bits(), expected, "{value}");
            }
        }
        let tie = 1.0 + 1.0 / 2048.0;
        let bits = [0.0, 1e-15, 1e-7].map(|more| <f16 as Element>::from_f64(tie + more).to_bits());
        assert_eq!(bits, [0x3c00, 0x3c01, 0x3c01]);
        assert_eq!(<bf16 as Element>::from_f64(1e300).to_bits(), 0x7f80);
        assert_eq!(<bf16 as Element>::from_f64(f64::NEG_INFINITY).to_bits(), 0xff80);
        assert!(<f16 as Element>::from_f64(f64::NAN).is_nan());
        assert_eq!((u8::from_f64(300.0), u8::from_f64(-1.0), i8::from_f64(6.0)), (255, 0, 6));
        assert_eq!(<bf16 as Element>::from_f64(6.0).to_f32(), 6.0);
    }
}
