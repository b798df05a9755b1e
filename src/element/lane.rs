//! The lanes of the CPU path's loops: an element in a form that vectorises.
//!
//! 16-bit floats are all compared alike, and so are 8-bit ones: as integers of their size, by order keys. They differ in
//! a few bit patterns, which a loop gets as values ([`Lane::Format`]), so that it is compiled once for both.

use super::{BitLayout, ElementType};

/// An element of a loop.
pub(crate) trait Lane: bytemuck::Pod + Send + Sync {
    /// The bit patterns of the type that a loop needs, taken by value.
    type Format: Copy + Send + Sync;

    /// Positive zero.
    const ZERO: Self;

    /// The lane of an element's bits.
    fn from_bits(bits: u64) -> Self;

    /// The format of a type.
    fn format(layout: BitLayout) -> Self::Format;

    /// Whether this is a NaN; never for integers.
    fn is_nan(self, format: Self::Format) -> bool;

    /// Whether this is less than `other`; never if either is NaN.
    fn less(self, other: Self, format: Self::Format) -> bool;

    /// Whether this equals `other`, as zeros of both signs do; never if either is NaN.
    fn equals(self, other: Self, format: Self::Format) -> bool;

    /// Half of this value, rounded to nearest with ties to even (which matters only for a subnormal or an odd integer). NaN and
    /// infinities are unchanged, NaN with its payload.
    fn halve(self, format: Self::Format) -> Self;

    /// The half that the other operand of a tie gets: the same for a float, the remainder for an integer, so that nothing of an odd
    /// one is lost.
    fn halve_remainder(self, format: Self::Format) -> Self;
}

/// Half of a float, by its bits: arithmetic may quiet a NaN, and on short floats it does not vectorise.
macro_rules! half_of_float {
    ($bits:expr, $type:ty, $min_normal:expr, $max_finite:expr) => {{
        let (bits, min_normal, max_finite): ($type, $type, $type) = ($bits, $min_normal, $max_finite);
        let magnitude = bits & (<$type>::MAX >> 1);
        let floor = magnitude >> 1;
        // Subtracts one from the exponent, or, if that leaves the normal numbers, shifts the whole significand.
        let half = match magnitude < 2 * min_normal {
            true => floor + (floor & magnitude & 1),
            false => magnitude.wrapping_sub(min_normal),
        };
        if magnitude > max_finite { bits } else { bits - magnitude + half }
    }};
}

/// Primitive types are lanes themselves.
macro_rules! plain {
    ($type:ident, $from_bits:expr, $is_nan:expr, $halve:expr, $rest:expr) => {
        impl Lane for $type {
            type Format = ();
            const ZERO: Self = 0 as $type;

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                let from_bits: fn(u64) -> $type = $from_bits;
                from_bits(bits)
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
                let halve: fn($type) -> $type = $halve;
                halve(self)
            }

            #[inline(always)]
            fn halve_remainder(self, (): ()) -> Self {
                let rest: fn($type, $type) -> $type = $rest;
                rest(self, self.halve(()))
            }
        }
    };
}

macro_rules! float {
    ($type:ident, $bits:ty, $element:ident) => {
        plain!(
            $type,
            |bits| $type::from_bits(bits as $bits),
            $type::is_nan,
            |value| {
                let layout = const { ElementType::$element.layout() };
                let (min_normal, max_finite) = (layout.min_normal() as $bits, layout.max_finite() as $bits);
                $type::from_bits(half_of_float!(value.to_bits(), $bits, min_normal, max_finite))
            },
            |_, half| half
        );
    };
}

macro_rules! integer {
    ($($type:ident),+) => {$(
        plain!(
            $type,
            |bits| bits as $type,
            |_| false,
            |value| {
                let floor = value >> 1;
                floor + (floor & value & 1)
            },
            |value, half| value - half
        );
    )+};
}

float!(f32, u32, F32);
float!(f64, u64, F64);
integer!(i8, u8, i16, u16, i32, u32, i64, u64);

/// The bit patterns in which floats of one size differ.
#[derive(Clone, Copy)]
pub(crate) struct ShortFormat<B> {
    min_normal: B,
    max_finite: B,
    max_number: B,
}

/// A float of 8 or 16 bits, by its bits.
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
                Self(half_of_float!(self.0, $bits, format.min_normal, format.max_finite))
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

/// Does the same with the unsigned integer of an element's size, for loops that select bits without comparing.
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
    use crate::{Element, bf16, f8_e4m3fn, f8_e5m2, f16};

    fn lane<L: Lane>(element: ElementType, bits: u64) -> (L, L::Format) {
        (L::from_bits(bits), L::format(element.layout()))
    }

    /// The bits of the two halves.
    fn halves<L: Lane>(element: ElementType, bits: u64) -> [u64; 2] {
        let (lane, format) = lane::<L>(element, bits);
        [lane.halve(format), lane.halve_remainder(format)].map(|half| {
            let mut bits = [0; 8];
            bits[..size_of::<L>()].copy_from_slice(bytemuck::bytes_of(&half));
            u64::from_le_bytes(bits)
        })
    }

    /// Compares every bit pattern with some others.
    fn compares_as_its_type<T: Element, L: Lane>(others: impl Iterator<Item = u64> + Clone) {
        for bits in 0..=T::TYPE.layout().mask() {
            let (value, (lane, format)) = (T::from_bits(bits), lane::<L>(T::TYPE, bits));
            assert_eq!(lane.is_nan(format), value.is_nan(), "{bits:#x}");
            for other in others.clone() {
                let (value_too, lane_too) = (T::from_bits(other), L::from_bits(other));
                assert_eq!(lane.less(lane_too, format), value < value_too, "{bits:#x} {other:#x}");
                assert_eq!(lane.equals(lane_too, format), value == value_too, "{bits:#x} {other:#x}");
            }
        }
    }

    #[test]
    fn short_floats_compare_as_their_types_do() {
        compares_as_its_type::<f8_e4m3fn, Byte>(0..=0xff);
        compares_as_its_type::<f8_e5m2, Byte>(0..=0xff);
        let some =
            (0..=0xffff).step_by(257).chain([1, 0x7c00, 0x7c01, 0x7f80, 0x7f81, 0x8000, 0xfc00, 0xff80]);
        compares_as_its_type::<f16, Short>(some.clone());
        compares_as_its_type::<bf16, Short>(some);
    }

    #[test]
    fn halving_is_exact_and_keeps_nan_and_infinity() {
        use ElementType::{Bf16, F8E4M3Fn, F8E5M2, F16, F32};
        let f32 = |bits: u64| halves::<f32>(F32, bits)[0];
        assert_eq!(f32(0x4040_0000), 0x3fc0_0000, "3 to 1.5");
        assert_eq!(f32(0x0080_0000), 0x0040_0000, "least normal to subnormal");
        assert_eq!(f32(0x0080_0001), 0x0040_0000, "tie to even, down");
        assert_eq!(f32(0x0080_0003), 0x0040_0002, "tie to even, up");
        assert_eq!(f32(0x8000_0001), 0x8000_0000, "-2^-149 / 2 ties to -0");
        assert_eq!(f32(0x0000_0003), 0x0000_0002);
        assert_eq!(f32(0x7f80_0000), 0x7f80_0000);
        assert_eq!(f32(0xff80_0001), 0xff80_0001, "signalling NaN stays");
        assert_eq!(halves::<Short>(F16, 0x0403), [0x0202; 2], "tie to even, up");
        assert_eq!(halves::<Short>(Bf16, 0x0081), [0x0040; 2], "tie to even, down");
        assert_eq!(halves::<Byte>(F8E4M3Fn, 0x7e), [0x76; 2], "448 to 224");
        assert_eq!(halves::<Byte>(F8E4M3Fn, 0x7f), [0x7f; 2], "NaN");
        assert_eq!(halves::<Byte>(F8E5M2, 0x7c), [0x7c; 2], "infinity");
    }

    #[test]
    fn halves_of_integers_add_up() {
        for (value, half) in [(-3i8, -2), (-1, 0), (1, 0), (3, 2), (5, 2)] {
            assert_eq!(value.halve(()), half);
        }
        for value in i8::MIN..=i8::MAX {
            assert_eq!(value.halve(()) + value.halve_remainder(()), value);
        }
        assert_eq!(u64::MAX.halve(()), 1 << 63);
    }

    #[test]
    fn lanes_have_the_size_of_their_types() {
        for &element in ElementType::ALL {
            with_lane!(element, L => assert_eq!(size_of::<L>(), element.size(), "{element}"));
            with_bits!(element, B => assert_eq!(size_of::<B>(), element.size(), "{element}"));
        }
    }
}
