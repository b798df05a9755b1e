//! The arithmetic of sums and affine maps. The twin of `shaders/lib/softfloat.wgsl`.

/// What elements are summed and multiplied in. One addition and one multiplication have the same bits on every device.
pub trait Accumulator: bytemuck::Pod + Send + Sync {
    /// One addition. A NaN comes out as the one canonical NaN (positive, quiet, no payload), since
    /// machines differ there.
    fn add(self, other: Self) -> Self;

    /// One multiplication; NaN as in [`add`](Self::add).
    fn mul(self, other: Self) -> Self;

    /// The nearest float; `None` for integers, which take no factors.
    fn factor(value: f64) -> Option<Self>;
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
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                canonical!(self + other, $type)
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                canonical!(self * other, $type)
            }

            fn factor(value: f64) -> Option<Self> {
                Some(value as $type)
            }
        }
    )+};
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl Accumulator for $type {
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }

            fn factor(_: f64) -> Option<Self> {
                None
            }
        }
    )+};
}

float!(f32, f64);
integer!(i64, i128);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::compute::Compute;
    use crate::{bf16, f16};

    #[test]
    fn a_sum_is_canonical_where_it_is_nan() {
        let nan = f32::from_bits(0xffc1_2345);
        for sum in [f32::add(nan, 1.0), f32::add(1.0, nan), f32::add(f32::INFINITY, f32::NEG_INFINITY)] {
            assert_eq!(sum.to_bits(), 0x7fc0_0000);
        }
        assert_eq!(f16::from_accum(f32::NAN).to_bits(), 0x7e00);
        assert_eq!(bf16::from_accum(f32::NAN).to_bits(), 0x7fc0);
        assert_eq!(i8::from_accum(127i8.to_accum().add(1)), 127, "clipped to the type");
        assert_eq!(u64::from_accum(u64::MAX.to_accum().add(u64::MAX.to_accum())), u64::MAX);
        assert_eq!(i64::from_accum(i64::MIN.to_accum().add(-1)), i64::MIN);
    }
}
