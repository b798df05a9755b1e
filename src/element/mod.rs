//! The element types, and the layout of their bits.

// The only folder that knows the types; `shaders/lib/element.wgsl` is its twin on the GPU. A new type is a row of the table `elements!` and of
// `with_element!` here, a row of `float!` or `integer!` in types.rs, and one in lane.rs; a type that neither std nor `half` has is defined in f8.rs.

pub(crate) mod convert;
mod f8;
pub(crate) mod lane;
mod layout;
mod types;

use std::fmt;

pub use f8::{f8_e4m3fn, f8_e5m2};
pub use layout::{BitLayout, NumberClass};
pub(crate) use types::{Code, Integer, Real};

/// Lists the types: the variant, the Rust type, its name, and how to read its bits.
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
    /// The type with this [name](Self::name), or `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self.layout().class, NumberClass::Float { .. })
    }

    /// Whether codes of quantised values may have it: i8, u8, i16, u16, i32, and the 8-bit floats.
    pub fn is_code(self) -> bool {
        self.code_range().is_some() || self.is_float8()
    }

    /// Whether it is an 8-bit float.
    pub const fn is_float8(self) -> bool {
        self.is_float() && self.size() == 1
    }

    /// The least and the greatest integer code that it holds, if these may have it.
    pub fn code_range(self) -> Option<[i64; 2]> {
        with_code!(self, C => [C::MIN, C::MAX].map(i64::from))
    }

    /// The norm type of tensors of these types together: f64 if any of them is f64, so that nothing is lost, else f32.
    ///
    /// ```
    /// use wgclip::ElementType::{self, F16, F32, F64};
    ///
    /// assert_eq!(ElementType::of_norm([F16, F64]), F64);
    /// assert_eq!(ElementType::of_norm([F16]), F32);
    /// ```
    pub fn of_norm(elements: impl IntoIterator<Item = Self>) -> Self {
        if elements.into_iter().any(|element| element == Self::F64) { Self::F64 } else { Self::F32 }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A type whose tensors can be clipped. Sealed: the shaders know the same types.
pub trait Element:
    bytemuck::Pod + PartialOrd + fmt::Debug + fmt::Display + Send + Sync + types::Sealed
{
    /// The type as a value.
    const TYPE: ElementType;

    /// The norm type of these elements: f32, or f64 for f64.
    type Norm: Element;

    /// Positive zero: the gradient where none flows.
    const ZERO: Self;

    /// The value nearest to a number: floats round to nearest, ties to even, and overflow to infinity (to NaN in types
    /// without infinity); integers truncate and saturate, and NaN becomes 0.
    fn from_f64(value: f64) -> Self;

    /// The number as an f64: exact except for integers beyond 2^53, which are rounded to nearest.
    fn to_f64(self) -> f64;

    /// Whether this is a NaN; never for integers.
    fn is_nan(self) -> bool;

    /// The bit pattern, in the low bits.
    fn to_bits(self) -> u64;

    /// The value of the low bits of `bits`; the others are ignored.
    fn from_bits(bits: u64) -> Self;
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

/// Does the same for some types: `None` for others.
macro_rules! with_one_of {
    ($element:expr, $T:ident => $body:expr; $($variant:ident: $type:ty),+) => {
        match $element {
            $($crate::ElementType::$variant => {
                type $T = $type;
                Some($body)
            })+
            _ => None,
        }
    };
}

/// Does the same for float types.
macro_rules! with_float {
    ($element:expr, $T:ident => $body:expr) => {
        $crate::element::with_one_of!($element, $T => $body;
            F32: f32, F64: f64, F16: half::f16, Bf16: half::bf16,
            F8E4M3Fn: $crate::f8_e4m3fn, F8E5M2: $crate::f8_e5m2)
    };
}

/// Does the same for floats of up to 16 bits.
macro_rules! with_short_float {
    ($element:expr, $T:ident => $body:expr) => {
        $crate::element::with_one_of!($element, $T => $body;
            F16: half::f16, Bf16: half::bf16, F8E4M3Fn: $crate::f8_e4m3fn, F8E5M2: $crate::f8_e5m2)
    };
}

/// Does the same for 8-bit floats.
macro_rules! with_float8 {
    ($element:expr, $T:ident => $body:expr) => {
        $crate::element::with_one_of!($element, $T => $body; F8E4M3Fn: $crate::f8_e4m3fn, F8E5M2: $crate::f8_e5m2)
    };
}

/// Does the same for integers that may be codes of quantised values.
macro_rules! with_code {
    ($element:expr, $T:ident => $body:expr) => {
        $crate::element::with_one_of!($element, $T => $body;
            I8: i8, U8: u8, I16: i16, U16: u16, I32: i32)
    };
}

/// Does the same for all integers.
macro_rules! with_integer {
    ($element:expr, $T:ident => $body:expr) => {
        $crate::element::with_one_of!($element, $T => $body;
            I8: i8, U8: u8, I16: i16, U16: u16, I32: i32, U32: u32, I64: i64, U64: u64)
    };
}
pub(crate) use {with_code, with_float, with_float8, with_integer, with_one_of, with_short_float};

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
            assert_eq!(with_float!(element, T => T::TYPE), element.is_float().then_some(element));
            assert_eq!(ElementType::from_name(element.name()), Some(element));
        }
        assert_eq!(ElementType::F16.layout().max_number(), 0x7c00);
        assert_eq!(ElementType::F8E5M2.layout().max_number(), 0x7c);
        assert_eq!(ElementType::F8E4M3Fn.layout().max_number(), 0x7e);
        assert_eq!(ElementType::F32.layout().min_normal(), 0x0080_0000);
    }
}
