//! What the loops of the CPU path compare: an element in a form that vectorises.
//!
//! The floats of 16 bits are compared alike, and so are those of 8: as integers of their size, by order keys. They differ
//! in a few bit patterns, which a loop is given as values ([`Lane::Format`]), so that it is compiled once for both.

use super::BitLayout;
use super::compute::Compute;

/// An element of a loop.
pub(crate) trait Lane: bytemuck::Pod + Send + Sync {
    /// What a loop has to know besides the lane. A loop takes it by value.
    type Format: Copy + Send + Sync;

    /// Positive zero.
    const ZERO: Self;

    /// The lane of an element's bits.
    fn from_bits(bits: u64) -> Self;

    /// The format of a type.
    fn format(layout: BitLayout) -> Self::Format;

    /// Whether this is a NaN; never for integers.
    fn is_nan(self, format: Self::Format) -> bool;

    /// Whether this is less than `other`; never where either is NaN.
    fn less(self, other: Self, format: Self::Format) -> bool;

    /// Whether this equals `other`, zeros of either sign each other; never where either is NaN.
    fn equals(self, other: Self, format: Self::Format) -> bool;

    /// Half of this value, as [`Compute::halve`].
    fn halve(self, format: Self::Format) -> Self;

    /// The half that the other operand of a tie gets, as [`Compute::halve_remainder`].
    fn halve_remainder(self, format: Self::Format) -> Self;
}

/// Types of the language are lanes as they are.
macro_rules! plain {
    ($($type:ident, $bits:ty, $zero:literal, $from_bits:expr, $is_nan:expr;)+) => {$(
        impl Lane for $type {
            type Format = ();
            const ZERO: Self = $zero;

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                let from_bits: fn($bits) -> $type = $from_bits;
                from_bits(bits as $bits)
            }

            fn format(_: BitLayout) {}

            #[inline(always)]
            fn is_nan(self, (): ()) -> bool {
                let is_nan: fn($type) -> bool = $is_nan;
                is_nan(self)
            }

            #[inline(always)]
            fn less(self, other: Self, (): ()) -> bool {
                self < other
            }

            #[inline(always)]
            fn equals(self, other: Self, (): ()) -> bool {
                self == other
            }

            #[inline(always)]
            fn halve(self, (): ()) -> Self {
                Compute::halve(self)
            }

            #[inline(always)]
            fn halve_remainder(self, (): ()) -> Self {
                Compute::halve_remainder(self)
            }
        }
    )+};
}

plain! {
    f32, u32, 0.0, f32::from_bits, f32::is_nan;
    f64, u64, 0.0, f64::from_bits, f64::is_nan;
    i8, u8, 0, |bits| bits as i8, |_| false;
    u8, u8, 0, |bits| bits, |_| false;
    i16, u16, 0, |bits| bits as i16, |_| false;
    u16, u16, 0, |bits| bits, |_| false;
    i32, u32, 0, |bits| bits as i32, |_| false;
    u32, u32, 0, |bits| bits, |_| false;
    i64, u64, 0, |bits| bits as i64, |_| false;
    u64, u64, 0, |bits| bits, |_| false;
}

/// The bit patterns by which the floats of one size differ.
#[derive(Clone, Copy)]
pub(crate) struct ShortFormat<B> {
    min_normal: B,
    max_finite: B,
    max_number: B,
}

/// A float of 8 or 16 bits by its bits.
macro_rules! short {
    ($(#[$doc:meta])* $name:ident, $bits:ty, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(transparent)]
        pub(crate) struct $name($bits);

        impl $name {
            /// The order key: sign and magnitude to two's complement, one key for both zeros.
            #[inline(always)]
            fn key(self) -> $int {
                let bits = self.0 as $int;
                if bits < 0 { <$int>::MIN.wrapping_sub(bits) } else { bits }
            }

            #[inline(always)]
            fn magnitude(self) -> $bits {
                self.0 & (<$bits>::MAX >> 1)
            }
        }

        impl Lane for $name {
            type Format = ShortFormat<$bits>;
            const ZERO: Self = Self(0);

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                Self(bits as $bits)
            }

            fn format(layout: BitLayout) -> ShortFormat<$bits> {
                ShortFormat {
                    min_normal: layout.min_normal() as $bits,
                    max_finite: layout.max_finite() as $bits,
                    max_number: layout.max_number() as $bits,
                }
            }

            #[inline(always)]
            fn is_nan(self, format: Self::Format) -> bool {
                self.magnitude() > format.max_number
            }

            #[inline(always)]
            fn less(self, other: Self, format: Self::Format) -> bool {
                (self.key() < other.key()) & !(self.is_nan(format) | other.is_nan(format))
            }

            #[inline(always)]
            fn equals(self, other: Self, format: Self::Format) -> bool {
                (self.key() == other.key()) & !(self.is_nan(format) | other.is_nan(format))
            }

            #[inline(always)]
            fn halve(self, format: Self::Format) -> Self {
                let (magnitude, min_normal) = (self.magnitude(), format.min_normal);
                let floor = magnitude >> 1;
                // One off the exponent, or, where that leaves the normal numbers, a shift of the whole significand.
                let half = match magnitude < 2 * min_normal {
                    true => floor + (floor & magnitude & 1),
                    false => magnitude.wrapping_sub(min_normal),
                };
                Self(if magnitude > format.max_finite { self.0 } else { self.0 - magnitude + half })
            }

            #[inline(always)]
            fn halve_remainder(self, format: Self::Format) -> Self {
                self.halve(format)
            }
        }
    };
}

short!(
    /// f16 and bf16.
    Short, u16, i16
);
short!(
    /// The 8-bit floats.
    Byte, u8, i8
);

/// Runs a block with a type parameter set to the lane of an [`ElementType`](super::ElementType).
macro_rules! with_lane {
    ($element:expr, $L:ident => $body:expr) => {
        $crate::element::lane::with_lane!(@ $element, $L => $body;
            F32: f32, F64: f64,
            F16 | Bf16: $crate::element::lane::Short, F8E4M3Fn | F8E5M2: $crate::element::lane::Byte,
            I8: i8, U8: u8, I16: i16, U16: u16, I32: i32, U32: u32, I64: i64, U64: u64)
    };
    (@ $element:expr, $L:ident => $body:expr; $($($variant:ident)|+: $type:ty),+) => {
        match $element {
            $($($crate::ElementType::$variant)|+ => {
                type $L = $type;
                $body
            })+
        }
    };
}

/// The same with the unsigned integer of an element's size, for loops that select bits and compare nothing.
macro_rules! with_bits {
    ($element:expr, $B:ident => $body:expr) => {
        match $element.size() {
            1 => {
                type $B = u8;
                $body
            }
            2 => {
                type $B = u16;
                $body
            }
            4 => {
                type $B = u32;
                $body
            }
            _ => {
                type $B = u64;
                $body
            }
        }
    };
}
pub(crate) use {with_bits, with_lane};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Element, ElementType, bf16, f8_e4m3fn, f8_e5m2, f16};

    /// Every pair of bit patterns of 8 bits, and of 16 bits every pattern with some.
    fn is_as_its_type<T: Element, L: Lane>(others: impl Iterator<Item = u64> + Clone) {
        let layout = T::TYPE.layout();
        let format = L::format(layout);
        for bits in 0..=layout.mask() {
            let (value, lane) = (T::from_bits(bits), L::from_bits(bits));
            assert_eq!(lane.is_nan(format), value.is_nan(), "{bits:#x}");
            let halves = [lane.halve(format), lane.halve_remainder(format)];
            let halves = halves.map(|half| bytemuck::bytes_of(&half).to_vec());
            let expected = [value.halve(), value.halve_remainder()];
            assert_eq!(halves, expected.map(|half| bytemuck::bytes_of(&half).to_vec()), "{bits:#x}");
            for other in others.clone() {
                let (value_too, lane_too) = (T::from_bits(other), L::from_bits(other));
                assert_eq!(lane.less(lane_too, format), value < value_too, "{bits:#x} {other:#x}");
                assert_eq!(lane.equals(lane_too, format), value == value_too, "{bits:#x} {other:#x}");
            }
        }
    }

    #[test]
    fn short_floats_compare_and_halve_as_their_types_do() {
        is_as_its_type::<f8_e4m3fn, Byte>(0..=0xff);
        is_as_its_type::<f8_e5m2, Byte>(0..=0xff);
        let some =
            (0..=0xffff).step_by(257).chain([1, 0x7c00, 0x7c01, 0x7f80, 0x7f81, 0x8000, 0xfc00, 0xff80]);
        is_as_its_type::<f16, Short>(some.clone());
        is_as_its_type::<bf16, Short>(some);
    }

    #[test]
    fn lanes_have_the_size_of_their_types() {
        for &element in ElementType::ALL {
            with_lane!(element, L => assert_eq!(size_of::<L>(), element.size(), "{element}"));
            with_bits!(element, B => assert_eq!(size_of::<B>(), element.size(), "{element}"));
        }
    }
}
