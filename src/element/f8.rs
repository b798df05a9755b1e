//! The 8-bit floats: a byte each, with the arithmetic of f32.

use std::cmp::Ordering;
use std::fmt;

use super::ElementType;
use super::convert::{Overflow, round_to_odd};

macro_rules! f8 {
    ($(#[$doc:meta])* $name:ident, $variant:ident) => {
        $(#[$doc])*
        #[expect(non_camel_case_types, reason = "named as primitive types are, and f16 of half")]
        #[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(transparent)]
        pub struct $name(u8);

        impl $name {
            const LAYOUT: super::BitLayout = ElementType::$variant.layout();

            /// The greatest finite number.
            pub const MAX: Self = Self(Self::LAYOUT.max_finite() as u8);

            /// The minimum finite number.
            pub const MIN: Self = Self(Self::MAX.0 | 0x80);

            /// The smallest positive normal number.
            pub const MIN_POSITIVE: Self = Self(Self::LAYOUT.min_normal() as u8);

            /// The positive quiet NaN.
            pub const NAN: Self = Self(Self::LAYOUT.quiet_nan() as u8);

            /// The value of these bits.
            pub const fn from_bits(bits: u8) -> Self {
                Self(bits)
            }

            /// The bits.
            pub const fn to_bits(self) -> u8 {
                self.0
            }

            /// The value nearest to a number, ties to even. Beyond the range it is infinity, or NaN in a type without
            /// infinity; NaN keeps its sign.
            #[inline(always)]
            pub fn from_f32(value: f32) -> Self {
                Self(Self::LAYOUT.narrow(value, Overflow::Infinity) as u8)
            }

            /// The value nearest to an f64, rounded once.
            #[inline(always)]
            pub fn from_f64(value: f64) -> Self {
                Self::from_f32(round_to_odd(value))
            }

            /// The exact number.
            #[inline(always)]
            pub fn to_f32(self) -> f32 {
                Self::LAYOUT.widen(self.0.into())
            }

            /// The exact number.
            pub fn to_f64(self) -> f64 {
                self.to_f32().into()
            }

            /// Whether this is a NaN.
            #[inline(always)]
            pub const fn is_nan(self) -> bool {
                self.0 & 0x7f > Self::LAYOUT.max_number() as u8
            }

            /// Whether this is neither infinite nor a NaN.
            pub const fn is_finite(self) -> bool {
                self.0 & 0x7f <= Self::LAYOUT.max_finite() as u8
            }
        }

        impl From<$name> for f32 {
            fn from(value: $name) -> Self {
                value.to_f32()
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> Self {
                value.to_f64()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.to_f32() == other.to_f32()
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                self.to_f32().partial_cmp(&other.to_f32())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.to_f32(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.to_f32(), f)
            }
        }
    };
}

f8! {
    /// An 8-bit float with 4 exponent bits and 3 fraction bits, up to 448, without infinity and with one NaN of each sign:
    /// E4M3 of the OCP 8-bit floating point specification (OFP8), `float8_e4m3fn` of torch and ml_dtypes.
    ///
    /// ```
    /// use wgclip::f8_e4m3fn;
    ///
    /// assert_eq!(f8_e4m3fn::from_f32(0.3).to_f32(), 0.3125);
    /// assert!(f8_e4m3fn::from_f32(1000.0).is_nan());
    /// assert_eq!(f8_e4m3fn::MAX.to_f32(), 448.0);
    /// ```
    f8_e4m3fn, F8E4M3Fn
}

f8! {
    /// An 8-bit float with 5 exponent bits and 2 fraction bits, up to 57344, the upper half of an f16: E5M2 of the OCP
    /// 8-bit floating point specification (OFP8), `float8_e5m2` of torch and ml_dtypes.
    ///
    /// ```
    /// use wgclip::f8_e5m2;
    ///
    /// assert_eq!(f8_e5m2::from_f32(0.3).to_f32(), 0.3125);
    /// assert_eq!(f8_e5m2::from_f32(1e6), f8_e5m2::INFINITY);
    /// ```
    f8_e5m2, F8E5M2
}

impl f8_e5m2 {
    /// Positive infinity.
    pub const INFINITY: Self = Self(Self::LAYOUT.max_number() as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::f16;

    #[test]
    fn e5m2_is_the_upper_half_of_f16() {
        for bits in 0..=u8::MAX {
            let (short, half) = (f8_e5m2::from_bits(bits), f16::from_bits(u16::from(bits) << 8));
            assert_eq!(short.is_nan(), half.is_nan());
            assert!(short.is_nan() || short.to_f32() == half.to_f32(), "{bits:#x}");
            assert!(short.is_nan() || f8_e5m2::from_f32(short.to_f32()).to_bits() == bits, "{bits:#x}");
        }
    }

    #[test]
    fn e4m3fn_is_as_its_specification_says() {
        let is = |bits: u8, value: f32| assert_eq!(f8_e4m3fn::from_bits(bits).to_f32(), value, "{bits:#x}");
        is(0x01, 2f32.powi(-9));
        is(0x07, 0.875 * 2f32.powi(-6));
        is(0x08, 2f32.powi(-6));
        is(0x38, 1.0);
        is(0x7e, 448.0);
        is(0xfe, -448.0);
        for bits in 0..=u8::MAX {
            let value = f8_e4m3fn::from_bits(bits);
            assert_eq!(value.is_nan(), bits & 0x7f == 0x7f);
            assert_eq!(f8_e4m3fn::from_f32(value.to_f32()).to_bits(), bits);
        }
        assert_eq!(f8_e4m3fn::from_bits(0x80), f8_e4m3fn::from_bits(0));
        assert!(f8_e4m3fn::NAN != f8_e4m3fn::NAN);
    }
}
