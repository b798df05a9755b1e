//! The implementations of [`Element`].

use std::ops::{Add, Div, Mul};

use half::{bf16, f16};

use super::convert::round_to_odd;
use super::{Element, ElementType, f8_e4m3fn, f8_e5m2};

/// Seals [`Element`]: the shaders know the same types.
pub trait Sealed {}

/// The type of a norm: f32 or f64, with the language's arithmetic.
pub(crate) trait Real:
    Element + Add<Output = Self> + Mul<Output = Self> + Div<Output = Self> + PartialOrd
{
    fn nearest(value: f64) -> Self;

    fn is_finite(self) -> bool;
}

macro_rules! real {
    ($($type:ident),+) => {$(
        impl Real for $type {
            fn nearest(value: f64) -> Self {
                value as $type
            }

            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
        }
    )+};
}

real!(f32, f64);

/// An integer that can be summed.
pub(crate) trait Integer: Element {
    /// A type with enough bits that no sum of a slice overflows.
    type Sum: Copy + Default + Send + Add<Output = Self::Sum> + From<Self>;

    /// The integer of this type that is nearest to a sum.
    fn clipped(sum: Self::Sum) -> Self;
}

/// An integer that may be the code of a quantised value.
pub(crate) trait Code: Element + Into<i32> {
    /// A code that the type holds.
    fn of(code: i32) -> Self;
}

macro_rules! codes {
    ($($type:ident),+) => {$(
        impl Code for $type {
            #[inline(always)]
            fn of(code: i32) -> Self {
                code as $type
            }
        }
    )+};
}

codes!(i8, u8, i16, u16, i32);

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

        impl Sealed for $type {}
    };
}

float!(f32, F32, u32, f32, |v| v as f32);
float!(f64, F64, u64, f64, |v| v);
float!(f16, F16, u16, f32, |v| f16::from_f32(round_to_odd(v)));
float!(bf16, Bf16, u16, f32, |v| bf16::from_f32(round_to_odd(v)));
float!(f8_e4m3fn, F8E4M3Fn, u8, f32, f8_e4m3fn::from_f64);
float!(f8_e5m2, F8E5M2, u8, f32, f8_e5m2::from_f64);

macro_rules! integer {
    ($($type:ident, $variant:ident, $unsigned:ty, $sum:ident;)+) => {$(
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

        impl Sealed for $type {}

        impl Integer for $type {
            type Sum = $sum;

            fn clipped(sum: $sum) -> Self {
                sum.clamp($type::MIN.into(), $type::MAX.into()) as $type
            }
        }
    )+};
}

integer! {
    i8, I8, u8, i64;
    u8, U8, u8, i64;
    i16, I16, u16, i64;
    u16, U16, u16, i64;
    i32, I32, u32, i128;
    u32, U32, u32, i128;
    i64, I64, u64, i128;
    u64, U64, u64, i128;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_the_nearest_value() {
        assert_eq!(f16::from_f64(0.1), f16::from_f32(0.1));
        // A tie of bf16 and of f16, and a little more than each: less than an f32, or its upper word, resolves.
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
