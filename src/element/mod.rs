//! The element types, and the layout of their bits.

// The one Rust file that knows the types; `shaders/lib/element.wgsl` is its twin on the GPU. A new type is a row of the table
// `elements!`, a row of `float!` or `integer!`, and a row of `with_element!`; one that neither the language nor `half` brings is
// made in f8.rs.

pub(crate) mod accum;
pub(crate) mod convert;
mod f8;
mod layout;

use std::fmt;

use half::{bf16, f16};

use accum::Accumulator;
use convert::round_to_odd;
pub use f8::{f8_e4m3fn, f8_e5m2};
pub use layout::{BitLayout, NumberClass};

/// Lists the types: the variant, the Rust type, its name, and how its bits are to be read.
macro_rules! elements {
    ($($(#[$doc:meta])* $variant:ident: $type:ty, $name:literal, $class:expr;)+) => {
        /// The types whose tensors can be clipped, as a value.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ElementType {
            $($(#[$doc])* $variant,)+
        }

        impl ElementType {
            /// Every type, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name that Rust gives the type: `"f32"`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Bytes of one element.
            pub const fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$type>()),+ }
            }

            /// The layout of the bits.
            pub const fn layout(self) -> BitLayout {
                match self {
                    $(Self::$variant => BitLayout { bits: 8 * size_of::<$type>() as u32, class: $class },)+
                }
            }
        }
    };
}

elements! {
    /// IEEE 754 binary32.
    F32: f32, "f32", NumberClass::Float { exponent: 8, infinity: true };
    /// IEEE 754 binary16.
    F16: half::f16, "f16", NumberClass::Float { exponent: 5, infinity: true };
    /// The upper half of an f32.
    Bf16: half::bf16, "bf16", NumberClass::Float { exponent: 8, infinity: true };
    /// IEEE 754 binary64.
    F64: f64, "f64", NumberClass::Float { exponent: 11, infinity: true };
    /// 4 bits of exponent and 3 of fraction, without infinity and with one NaN (OCP 8-bit floating point, "OFP8").
    F8E4M3Fn: f8_e4m3fn, "f8_e4m3fn", NumberClass::Float { exponent: 4, infinity: false };
    /// The upper half of an f16: 5 bits of exponent and 2 of fraction (OCP 8-bit floating point, "OFP8").
    F8E5M2: f8_e5m2, "f8_e5m2", NumberClass::Float { exponent: 5, infinity: true };
    /// 8-bit signed integer.
    I8: i8, "i8", NumberClass::Signed;
    /// 8-bit unsigned integer.
    U8: u8, "u8", NumberClass::Unsigned;
    /// 16-bit signed integer.
    I16: i16, "i16", NumberClass::Signed;
    /// 16-bit unsigned integer.
    U16: u16, "u16", NumberClass::Unsigned;
    /// 32-bit signed integer.
    I32: i32, "i32", NumberClass::Signed;
    /// 32-bit unsigned integer.
    U32: u32, "u32", NumberClass::Unsigned;
    /// 64-bit signed integer.
    I64: i64, "i64", NumberClass::Signed;
    /// 64-bit unsigned integer.
    U64: u64, "u64", NumberClass::Unsigned;
}

impl ElementType {
    /// The type of a [name](Self::name), or `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self.layout().class, NumberClass::Float { .. })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A type whose tensors can be clipped. Sealed: the shaders know the same types.
pub trait Element:
    bytemuck::Pod + PartialOrd + fmt::Debug + fmt::Display + Send + Sync + compute::Compute
{
    /// The type as a value.
    const TYPE: ElementType;

    /// Positive zero: the gradient where none flows.
    const ZERO: Self;

    /// The value nearest to a number: floats round to nearest, ties to even, and beyond their range to infinity (to NaN
    /// where there is none); integers truncate and saturate, and NaN becomes 0.
    fn from_f64(value: f64) -> Self;

    /// The number as an f64: exact but for integers beyond 2^53, which are rounded to nearest.
    fn to_f64(self) -> f64;

    /// Whether this is a NaN; never for integers.
    fn is_nan(self) -> bool;

    /// The bit pattern, in the low bits.
    fn to_bits(self) -> u64;

    /// The value of the low bits of `bits`; the others are ignored.
    fn from_bits(bits: u64) -> Self;
}

/// What the operations compute with elements.
pub(crate) mod compute {
    use super::Accumulator;

    /// The private half of [`Element`](super::Element), which seals it.
    pub trait Compute: Copy {
        /// What elements are summed and multiplied in: f32 for floats of up to 32 bits, f64 for f64, and for integers
        /// one of so many bits that no sum of a slice overflows.
        type Accum: Accumulator;

        /// Whether this is less than `other`; never where either is NaN. As `<`, in a form that vectorises for every
        /// type.
        fn less(self, other: Self) -> bool;

        /// Whether this equals `other`, zeros of either sign each other; never where either is NaN.
        fn equals(self, other: Self) -> bool;

        /// Half of this value, rounded to nearest with ties to even (which only a subnormal or an odd integer needs).
        /// NaN and infinities are returned as they are, NaN with its payload.
        fn halve(self) -> Self;

        /// The half that the other operand of a tie gets: as [`halve`](Self::halve) for floats, and what is left of an
        /// integer, so that nothing of an odd one is lost.
        fn halve_remainder(self) -> Self;

        /// This value as an accumulator.
        fn to_accum(self) -> Self::Accum;

        /// The value nearest to an accumulator: an integer beyond the range of the type is clipped to it.
        fn from_accum(accum: Self::Accum) -> Self;
    }
}
use compute::Compute;

macro_rules! float {
    ($type:ty, $variant:ident, $bits:ty, $accum:ty, $to_accum:expr, $from_accum:expr, $less:expr, $equals:expr, $from:expr) => {
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
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
            type Accum = $accum;

            #[inline(always)]
            fn less(self, other: Self) -> bool {
                let less: fn($type, $type) -> bool = $less;
                less(self, other)
            }

            #[inline(always)]
            fn equals(self, other: Self) -> bool {
                let equals: fn($type, $type) -> bool = $equals;
                equals(self, other)
            }

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

            #[inline(always)]
            fn to_accum(self) -> $accum {
                let wide: fn($type) -> $accum = $to_accum;
                wide(self)
            }

            #[inline(always)]
            fn from_accum(accum: $accum) -> Self {
                let narrow: fn($accum) -> $type = $from_accum;
                narrow(accum)
            }
        }
    };
}

float!(f32, F32, u32, f32, |v| v, |v| v, |a, b| a < b, |a, b| a == b, |v| v as f32);
float!(f64, F64, u64, f64, |v| v, |v| v, |a, b| a < b, |a, b| a == b, |v| v);
float!(f16, F16, u16, f32, f16::to_f32, f16::from_f32, short_less, short_equals, |v| f16::from_f32(
    round_to_odd(v)
));
float!(bf16, Bf16, u16, f32, bf16::to_f32, bf16::from_f32, short_less, short_equals, |v| bf16::from_f32(
    round_to_odd(v)
));

float!(
    f8_e4m3fn,
    F8E4M3Fn,
    u8,
    f32,
    f8_e4m3fn::to_f32,
    f8_e4m3fn::from_f32,
    byte_less,
    byte_equals,
    f8_e4m3fn::from_f64
);
float!(
    f8_e5m2,
    F8E5M2,
    u8,
    f32,
    f8_e5m2::to_f32,
    f8_e5m2::from_f32,
    byte_less,
    byte_equals,
    f8_e5m2::from_f64
);

/// Whether `a` is less than `b`, in 16-bit integers.
#[inline(always)]
fn short_less<T: Element>(a: T, b: T) -> bool {
    (short_key(a) < short_key(b)) & !(a.is_nan() | b.is_nan())
}

#[inline(always)]
fn short_equals<T: Element>(a: T, b: T) -> bool {
    (short_key(a) == short_key(b)) & !(a.is_nan() | b.is_nan())
}

/// The order key of a 16-bit float: sign and magnitude to two's complement, one for both zeros.
#[inline(always)]
fn short_key<T: Element>(v: T) -> i16 {
    let bits = v.to_bits() as i16;
    if bits < 0 { i16::MIN.wrapping_sub(bits) } else { bits }
}

/// The same in 8-bit integers.
#[inline(always)]
fn byte_less<T: Element>(a: T, b: T) -> bool {
    (byte_key(a) < byte_key(b)) & !(a.is_nan() | b.is_nan())
}

#[inline(always)]
fn byte_equals<T: Element>(a: T, b: T) -> bool {
    (byte_key(a) == byte_key(b)) & !(a.is_nan() | b.is_nan())
}

#[inline(always)]
fn byte_key<T: Element>(v: T) -> i8 {
    let bits = v.to_bits() as i8;
    if bits < 0 { i8::MIN.wrapping_sub(bits) } else { bits }
}

macro_rules! integer {
    ($($type:ident, $variant:ident, $unsigned:ty, $accum:ty;)+) => {$(
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
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
            type Accum = $accum;

            #[inline(always)]
            fn less(self, other: Self) -> bool {
                self < other
            }

            #[inline(always)]
            fn equals(self, other: Self) -> bool {
                self == other
            }

            #[inline(always)]
            fn halve(self) -> Self {
                let floor = self >> 1;
                floor + (floor & self & 1)
            }

            #[inline(always)]
            fn halve_remainder(self) -> Self {
                self - self.halve()
            }

            #[inline(always)]
            fn to_accum(self) -> $accum {
                self.into()
            }

            #[inline(always)]
            fn from_accum(accum: $accum) -> Self {
                accum.clamp(<$type>::MIN.into(), <$type>::MAX.into()) as $type
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

/// Runs a block with a type parameter set to the type behind an [`ElementType`].
///
/// ```
/// let bytes = wgclip::with_element!(wgclip::ElementType::F32, T => size_of::<T>());
/// assert_eq!(bytes, 4);
/// ```
#[macro_export]
macro_rules! with_element {
    ($element:expr, $T:ident => $body:expr) => {
        $crate::with_element!(@ $element, $T => $body;
            F32: f32, F16: $crate::f16, Bf16: $crate::bf16, F64: f64,
            F8E4M3Fn: $crate::f8_e4m3fn, F8E5M2: $crate::f8_e5m2,
            I8: i8, U8: u8, I16: i16, U16: u16, I32: i32, U32: u32, I64: i64, U64: u64)
    };
    (@ $element:expr, $T:ident => $body:expr; $($variant:ident: $type:ty),+) => {
        match $element {
            $($crate::ElementType::$variant => {
                type $T = $type;
                $body
            })+
            #[allow(unreachable_patterns)] // outside this crate there may be more
            other => unreachable!("{other} has no arm in with_element!"),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says_the_same<T: Element>(element: ElementType) {
        let layout = element.layout();
        assert_eq!(T::TYPE, element);
        assert_eq!(size_of::<T>(), element.size());
        assert_eq!(T::ZERO.to_bits(), 0);
        assert_eq!(T::from_bits(u64::MAX).to_bits(), layout.mask());
        assert!(!T::from_bits(layout.max_number()).is_nan(), "{element}");
        assert_eq!(T::from_bits(layout.max_number() + 1).is_nan(), element.is_float(), "{element}");
        assert_eq!(T::from_bits(layout.quiet_nan()).is_nan(), element.is_float(), "{element}");
    }

    #[test]
    fn a_type_says_the_same_of_itself_everywhere() {
        for &element in ElementType::ALL {
            with_element!(element, T => says_the_same::<T>(element));
            assert_eq!(ElementType::from_name(element.name()), Some(element));
        }
        assert_eq!(ElementType::F16.layout().max_number(), 0x7c00);
        assert_eq!(ElementType::F8E5M2.layout().max_number(), 0x7c);
        assert_eq!(ElementType::F8E4M3Fn.layout().max_number(), 0x7e);
        assert_eq!(ElementType::F32.layout().min_normal(), 0x0080_0000);
    }

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
