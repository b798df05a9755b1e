//! The element types: the one Rust file that knows them (`shaders/lane.wgsl` is its twin on the GPU).
//!
//! A new type is one variant of [`ElementType`], one [`Element`] impl and one arm of [`with_element!`](crate::with_element).

use std::fmt;

/// The types whose tensors can be clipped, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
}

impl ElementType {
    /// Every type, in the order of the enum.
    pub const ALL: &[Self] = &[Self::F32];

    /// The name that Rust gives the type: `"f32"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
        }
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
        }
    }

    /// The `override` constants that tell `shaders/lane.wgsl` what the type is.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code))]
    pub(crate) const fn shader_constants(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::F32 => &[("INFINITY", 0x7f80_0000u32 as f64), ("NORMAL", 0x0080_0000u32 as f64)],
        }
    }

    /// The type behind a numpy type string less its byte order: `"f4"`, or `None` if there is none.
    pub fn from_numpy(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.numpy() == Some(code))
    }

    /// The numpy type string less its byte order, where numpy has the type: `"f4"`.
    pub const fn numpy(self) -> Option<&'static str> {
        match self {
            Self::F32 => Some("f4"),
        }
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
    /// A finite number below everything finite that the type holds, with the value it saturates to.
    Below(T),
    /// A finite number above everything finite that the type holds, with the value it saturates to.
    Above(T),
    /// NaN.
    Nan,
    /// Not a number of this type.
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

    /// The bits that no value comes before in the order of keys, by which the shaders compare: for floats a NaN
    /// beyond the infinity. They stand for a lower bound that is absent.
    #[doc(hidden)]
    const FIRST_BITS: u64;

    /// The bits that no value comes after, for an upper bound that is absent.
    #[doc(hidden)]
    const LAST_BITS: u64;

    /// Whether this is a NaN; never for integers.
    fn is_nan(self) -> bool;

    /// Half of this value, rounded to nearest with ties to even (which only a subnormal needs).
    /// NaN and infinities are returned as they are, NaN with its payload.
    fn halve(self) -> Self;

    /// The bit pattern, in the low bits.
    fn to_bits(self) -> u64;

    /// The value of the low bits of `bits`; the others are ignored.
    fn from_bits(bits: u64) -> Self;

    /// Reads a number.
    fn parse(text: &str) -> Parsed<Self>;
}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
    const ZERO: Self = 0.0;
    const FIRST_BITS: u64 = 0xffff_ffff;
    const LAST_BITS: u64 = 0x7fff_ffff;

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn halve(self) -> Self {
        // Arithmetic may set the quiet bit of a NaN, so a NaN stays out of it.
        if self.is_nan() { self } else { self * 0.5 }
    }

    fn to_bits(self) -> u64 {
        self.to_bits().into()
    }

    fn from_bits(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }

    fn parse(text: &str) -> Parsed<Self> {
        let digits = text.contains(|c: char| c.is_ascii_digit());
        match text.parse::<Self>() {
            Err(_) => Parsed::Invalid,
            Ok(v) if v.is_nan() => Parsed::Nan,
            // Infinite although written in digits: it was rounded there.
            Ok(v) if v == Self::INFINITY && digits => Parsed::Above(v),
            Ok(v) if v == Self::NEG_INFINITY && digits => Parsed::Below(v),
            Ok(v) => Parsed::Value(v),
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
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
        match $element {
            $crate::ElementType::F32 => {
                type $T = f32;
                $body
            }
            #[allow(unreachable_patterns)] // outside this crate there may be more
            other => unreachable!("{other} has no arm in with_element!"),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_says_the_same_of_itself_everywhere() {
        for &element in ElementType::ALL {
            with_element!(element, T => {
                assert_eq!(T::TYPE, element);
                assert_eq!(size_of::<T>(), element.size());
                assert_eq!(T::ZERO.to_bits(), 0);
            });
            if let Some(code) = element.numpy() {
                assert_eq!(ElementType::from_numpy(code), Some(element));
            }
        }
        assert_eq!(ElementType::from_numpy("c8"), None);
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
    }
}
