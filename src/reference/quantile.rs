//! Quantiles, from elements in order.

use std::cmp::Ordering;

use crate::Element;

/// The quantile of a share, from 0 to 1, of the elements that are numbers: the least of them that at least so many are at most (numpy's
/// `method="inverted_cdf"`). It is an element itself, so nothing rounds but the product of the share and the number of elements, in f64. Of a share
/// of 0 it is the least element. Where both zeros are among them, -0 comes before +0. None if there are no numbers.
pub fn quantile<T: Element>(x: &[T], share: f64) -> Option<T> {
    let mut numbers: Vec<T> = x.iter().copied().filter(|x| !x.is_nan()).collect();
    // Only zeros of two signs are equal and have other bits.
    let sign = |x: T| T::TYPE.is_float() && x.to_bits() & T::TYPE.layout().sign() != 0;
    numbers.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal).then(sign(*b).cmp(&sign(*a))));
    let at_most = (share * numbers.len() as f64).ceil() as usize;
    numbers.get(at_most.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, and as `numpy.quantile(x, share, method="inverted_cdf")` has them.
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
