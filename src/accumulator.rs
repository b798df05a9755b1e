//! The arithmetic of the gradients of bounds: what they are summed in. The twin of `shaders/arithmetic.wgsl`.

/// What gradients of bounds are summed in. One addition and one multiplication have the same bits on every device.
pub trait Accumulator: bytemuck::Pod + Send + Sync {
    /// What changes no sum: negative zero for floats.
    const NONE: Self;

    /// One addition; integers wrap. A NaN comes out as the one canonical NaN (positive, quiet, no payload), since
    /// machines differ there.
    fn add(self, other: Self) -> Self;

    /// One multiplication; NaN as in [`add`](Self::add).
    fn mul(self, other: Self) -> Self;

    /// A constant to multiply by or to add; `None` for integers.
    fn constant(value: f64) -> Option<Self>;
}

macro_rules! canonical {
    ($value:expr, $type:ty) => {{
        let value = $value;
        if value.is_nan() { <$type>::NAN } else { value }
    }};
}

macro_rules! float {
    ($($type:ty),+) => {$(
        impl Accumulator for $type {
            const NONE: Self = -0.0;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                canonical!(self + other, $type)
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                canonical!(self * other, $type)
            }

            fn constant(value: f64) -> Option<Self> {
                Some(value as $type)
            }
        }
    )+};
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl Accumulator for $type {
            const NONE: Self = 0;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            fn constant(_: f64) -> Option<Self> {
                None
            }
        }
    )+};
}

float!(f32, f64);
integer!(i8, u8, i16, u16, i32, u32, i64, u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Element, bf16, f16};

    #[test]
    fn a_sum_is_canonical_where_it_is_nan() {
        let nan = f32::from_bits(0xffc1_2345);
        for sum in [f32::add(nan, 1.0), f32::add(1.0, nan), f32::add(f32::INFINITY, f32::NEG_INFINITY)] {
            assert_eq!(sum.to_bits(), 0x7fc0_0000);
        }
        assert_eq!((-0.0f32).add(f32::NONE).to_bits(), 0x8000_0000);
        assert_eq!(f16::from_sum(f32::NAN).to_bits(), 0x7e00);
        assert_eq!(bf16::from_sum(f32::NAN).to_bits(), 0x7fc0);
        assert_eq!(i8::add(127, 1), -128);
    }
}
