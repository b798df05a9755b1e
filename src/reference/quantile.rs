//! Quantiles, from elements in order.

use std::cmp::Ordering;

use crate::Element;

/// The quantile of a share, 0 to 1, of the elements that are numbers: the smallest with at least this share of them less than or equal to it (numpy's
/// `method="inverted_cdf"`). It is one of the elements, so nothing is rounded except the product of the share and the number of elements, in f64. A
/// share of 0 gives the smallest element. If both zeros are present, -0 comes before +0. None if there are no numbers.
pub fn quantile<T: Element>(x: &[T], share: f64) -> Option<T> {
    let mut numbers: Vec<T> = x.iter().copied().filter(|x| !x.is_nan()).collect();
    // Only zeros of opposite signs are equal but differ in bits.
    let sign = |x: T| T::TYPE.is_float() && x.to_bits() & T::TYPE.layout().sign() != 0;
    numbers.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal).then(sign(*b).cmp(&sign(*a))));
    let at_most = (share * numbers.len() as f64).ceil() as usize;
    numbers.get(at_most.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, and as `numpy.quantile(x, share, method="inverted_cdf")` returns them.
    #[test]
    fn a_share_of_the_elements_is_at_most_a_quantile() {
        let x = [30.0f32, f32::NAN, 10.0, f32::INFINITY, 20.0];
        for (share, expected) in
            [(0.0, 10.0), (0.25, 10.0), (0.26, 20.0), (0.5, 20.0), (0.75, 30.0), (0.76, f32::INFINITY)]
        {
            assert_eq!(quantile(&x, share), Some(expected), "{share}");
        }
        assert_eq!(quantile(&[f32::NAN], 0.5), None);
        let zeros = [0.0f32, -0.0, 0.0];
        assert_eq!(
            [0.1, 0.4].map(|share| quantile(&zeros, share).unwrap().to_bits()),
            [(-0f32).to_bits(), 0]
        );
        assert_eq!(quantile(&[3u8, 200, 9], 0.5), Some(9));
    }
}
