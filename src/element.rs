//! The element types: the one Rust file that knows them (`shaders/lane.wgsl` is its twin on the GPU).
//!
//! A new type is one row of the table below, and one [`Element`] impl, which the macros write for most.

use std::fmt;

use half::{bf16, f16};

use crate::accumulator::Accumulator;
use crate::decimal::{self, Decimal};
use crate::format::{Format, Kind};

/// Lists the types: the variant, the Rust type, its name, numpy's type string less the byte order, and its kind.
macro_rules! elements {
    ($($(#[$doc:meta])* $variant:ident: $type:ty, $name:literal, $numpy:expr, $kind:expr;)+) => {
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

            /// The numpy type string less its byte order, where numpy has the type: `"f4"`.
            pub const fn numpy(self) -> Option<&'static str> {
                match self { $(Self::$variant => $numpy),+ }
            }

            /// The layout of the bits.
            pub const fn format(self) -> Format {
                match self {
                    $(Self::$variant => Format { bits: 8 * size_of::<$type>() as u32, kind: $kind },)+
                }
            }
        }

        mod sealed {
            pub trait Sealed {}
            $(impl Sealed for $type {})+
        }
    };
}

elements! {
    /// IEEE 754 binary32.
    F32: f32, "f32", Some("f4"), Kind::Float { exponent: 8 };
    /// IEEE 754 binary16.
    F16: half::f16, "f16", Some("f2"), Kind::Float { exponent: 5 };
    /// The upper half of an f32. numpy has no name for it.
    Bf16: half::bf16, "bf16", None, Kind::Float { exponent: 8 };
    /// IEEE 754 binary64.
    F64: f64, "f64", Some("f8"), Kind::Float { exponent: 11 };
    /// 8-bit signed integer.
    I8: i8, "i8", Some("i1"), Kind::Signed;
    /// 8-bit unsigned integer.
    U8: u8, "u8", Some("u1"), Kind::Unsigned;
    /// 16-bit signed integer.
    I16: i16, "i16", Some("i2"), Kind::Signed;
    /// 16-bit unsigned integer.
    U16: u16, "u16", Some("u2"), Kind::Unsigned;
    /// 32-bit signed integer.
    I32: i32, "i32", Some("i4"), Kind::Signed;
    /// 32-bit unsigned integer.
    U32: u32, "u32", Some("u4"), Kind::Unsigned;
    /// 64-bit signed integer.
    I64: i64, "i64", Some("i8"), Kind::Signed;
    /// 64-bit unsigned integer.
    U64: u64, "u64", Some("u8"), Kind::Unsigned;
}

impl ElementType {
    /// The type of a [name](Self::name), or `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// The type behind a numpy type string less its byte order: `"f4"`, or `None` if there is none.
    pub fn from_numpy(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.numpy() == Some(code))
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self.format().kind, Kind::Float { .. })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text of a number, read as an [`Element`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Parsed<T> {
    /// A value of the type (rounded to nearest for floats), infinities included.
    Value(T),
    /// A number below everything finite that the type holds, with the value it saturates to.
    Below(T),
    /// A number above everything finite that the type holds, with the value it saturates to.
    Above(T),
    /// Not a whole number, for an integer type.
    Fraction,
    /// NaN.
    Nan,
    /// Not a number.
    Invalid,
}

/// A type whose tensors can be clipped. Sealed: the shaders know the same types.
pub trait Element:
    bytemuck::Pod + PartialOrd + fmt::Debug + fmt::Display + Send + Sync + sealed::Sealed
{
    /// The type as a value.
    const TYPE: ElementType;

    /// Positive zero: the gradient where none flows.
    const ZERO: Self;

    /// What gradients of bounds are summed in: f32 for floats up to 32 bits, f64 for f64, and the type itself,
    /// wrapping, for integers.
    type Sum: Accumulator;

    /// Whether this is a NaN; never for integers.
    fn is_nan(self) -> bool;

    /// Whether this is less than `other`; never where either is NaN. As `<`, in a form that vectorises for every type.
    fn less(self, other: Self) -> bool;

    /// Whether this equals `other`, zeros of either sign each other; never where either is NaN.
    fn equals(self, other: Self) -> bool;

    /// Half of this value, rounded to nearest with ties to even (which only a subnormal or an odd integer
    /// needs). NaN and infinities are returned as they are, NaN with its payload.
    fn halve(self) -> Self;

    /// The half that the other operand of a tie gets: as [`halve`](Self::halve) for floats, and what is left of
    /// an integer, so that nothing of an odd one is lost.
    fn other_half(self) -> Self;

    /// The bit pattern, in the low bits.
    fn to_bits(self) -> u64;

    /// The value of the low bits of `bits`; the others are ignored.
    fn from_bits(bits: u64) -> Self;

    /// Reads a number.
    fn parse(text: &str) -> Parsed<Self>;

    /// This value, to be summed.
    fn to_sum(self) -> Self::Sum;

    /// The value nearest to a sum.
    fn from_sum(sum: Self::Sum) -> Self;
}

macro_rules! float {
    (
        $type:ty, $variant:ident, $bits:ty, $sum:ty, $to_sum:expr, $from_sum:expr, $less:expr, $equals:expr, $parse:expr
    ) => {
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
            const ZERO: Self = <$type>::from_bits(0);
            type Sum = $sum;

            #[inline(always)]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }

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
                let format = Self::TYPE.format();
                let (normal, infinity) = (format.normal() as $bits, format.infinity() as $bits);
                let bits = <$type>::to_bits(self);
                let magnitude = bits & !(format.sign() as $bits);
                let floor = magnitude >> 1;
                // One off the exponent, or, where that leaves the normal numbers, a shift of the whole significand.
                let half = match magnitude < 2 * normal {
                    true => floor + (floor & magnitude & 1),
                    false => magnitude.wrapping_sub(normal),
                };
                <$type>::from_bits(if magnitude >= infinity { bits } else { bits - magnitude + half })
            }

            #[inline(always)]
            fn other_half(self) -> Self {
                self.halve()
            }

            #[inline(always)]
            fn to_bits(self) -> u64 {
                <$type>::to_bits(self).into()
            }

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                <$type>::from_bits(bits as $bits)
            }

            fn parse(text: &str) -> Parsed<Self> {
                let parse: fn(&str) -> Option<$type> = $parse;
                let Some(value) = parse(text) else { return Parsed::Invalid };
                // Infinite although written in digits: it was rounded there.
                let rounded = text.contains(|c: char| c.is_ascii_digit());
                match value {
                    v if Element::is_nan(v) => Parsed::Nan,
                    v if v == <$type>::INFINITY && rounded => Parsed::Above(v),
                    v if v == <$type>::NEG_INFINITY && rounded => Parsed::Below(v),
                    v => Parsed::Value(v),
                }
            }

            #[inline(always)]
            fn to_sum(self) -> $sum {
                let wide: fn($type) -> $sum = $to_sum;
                wide(self)
            }

            #[inline(always)]
            fn from_sum(sum: $sum) -> Self {
                let narrow: fn($sum) -> $type = $from_sum;
                narrow(sum)
            }
        }
    };
}

float!(f32, F32, u32, f32, |v| v, |v| v, |a, b| a < b, |a, b| a == b, |text| text.parse().ok());
float!(f64, F64, u64, f64, |v| v, |v| v, |a, b| a < b, |a, b| a == b, |text| text.parse().ok());
float!(f16, F16, u16, f32, f16::to_f32, f16::from_f32, short_less, short_equals, |text| {
    decimal::rounded(text, 10, -14).map(|v| f16::from_f32(v as f32))
});
float!(bf16, Bf16, u16, f32, bf16::to_f32, bf16::from_f32, short_less, short_equals, |text| {
    decimal::rounded(text, 7, -126).map(|v| bf16::from_f32(v as f32))
});

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

macro_rules! integer {
    ($($type:ident, $variant:ident, $unsigned:ty;)+) => {$(
        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
            const ZERO: Self = 0;
            type Sum = $type;

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }

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
            fn other_half(self) -> Self {
                self - self.halve()
            }

            #[inline(always)]
            fn to_bits(self) -> u64 {
                (self as $unsigned).into()
            }

            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                bits as $type
            }

            fn parse(text: &str) -> Parsed<Self> {
                match decimal::whole(text) {
                    Decimal::Whole(v) if v < $type::MIN.into() => Parsed::Below($type::MIN),
                    Decimal::Whole(v) if v > $type::MAX.into() => Parsed::Above($type::MAX),
                    Decimal::Whole(v) => Parsed::Value(v as $type),
                    Decimal::Lowest => Parsed::Below($type::MIN),
                    Decimal::Highest => Parsed::Above($type::MAX),
                    Decimal::Fraction => Parsed::Fraction,
                    Decimal::Nan => Parsed::Nan,
                    Decimal::Invalid => Parsed::Invalid,
                }
            }

            #[inline(always)]
            fn to_sum(self) -> $type {
                self
            }

            #[inline(always)]
            fn from_sum(sum: $type) -> Self {
                sum
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
        let format = element.format();
        assert_eq!(T::TYPE, element);
        assert_eq!(size_of::<T>(), element.size());
        assert_eq!(T::ZERO.to_bits(), 0);
        assert_eq!(T::from_bits(u64::MAX).to_bits(), format.mask());
        assert!(!T::from_bits(format.infinity()).is_nan(), "{element}");
        assert_eq!(T::from_bits(format.infinity() | 1).is_nan(), element.is_float(), "{element}");
    }

    #[test]
    fn a_type_says_the_same_of_itself_everywhere() {
        for &element in ElementType::ALL {
            with_element!(element, T => says_the_same::<T>(element));
            assert_eq!(ElementType::from_name(element.name()), Some(element));
            if let Some(code) = element.numpy() {
                assert_eq!(ElementType::from_numpy(code), Some(element));
            }
        }
        assert_eq!(ElementType::from_numpy("c8"), None);
        assert_eq!(ElementType::F16.format().infinity(), 0x7c00);
        assert_eq!(ElementType::F32.format().normal(), 0x0080_0000);
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
    }

    #[test]
    fn halves_of_integers_add_up() {
        assert_eq!([-3i8, -1, 1, 3, 5].map(|v| v.halve()), [-2, 0, 0, 2, 2]);
        for v in i8::MIN..=i8::MAX {
            assert_eq!(v.halve() + v.other_half(), v);
        }
        assert_eq!(u64::MAX.halve(), 1 << 63);
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(f32::parse("-1"), Parsed::Value(-1.0));
        assert_eq!(f32::parse("-inf"), Parsed::Value(f32::NEG_INFINITY));
        assert_eq!(f32::parse("1e50"), Parsed::Above(f32::INFINITY));
        assert_eq!(f32::parse("-1e50"), Parsed::Below(f32::NEG_INFINITY));
        assert_eq!(f32::parse("nan"), Parsed::Nan);
        assert_eq!(f32::parse("one"), Parsed::Invalid);
        assert_eq!(f32::parse(""), Parsed::Invalid);
        assert_eq!(f16::parse("70000"), Parsed::Above(f16::INFINITY));
        assert_eq!(f16::parse("65519"), Parsed::Value(f16::MAX));
        assert_eq!(bf16::parse("0.1"), Parsed::Value(bf16::from_f32(0.1)));
        assert_eq!(u8::parse("300"), Parsed::Above(255));
        assert_eq!(u8::parse("-inf"), Parsed::Below(0));
        assert_eq!(i64::parse("-9223372036854775808"), Parsed::Value(i64::MIN));
        assert_eq!(i16::parse("1.5"), Parsed::Fraction);
        assert_eq!(i16::parse("15e2"), Parsed::Value(1500));
    }
}
