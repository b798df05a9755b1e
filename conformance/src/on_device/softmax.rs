//! The table of softmax and its gradient.

use wgclip::reference::{softmax, softmax_backward};
use wgclip::{Element, Result};

use super::reductions::Case;
use crate::case::Tally;
use crate::inputs::hard_to_sum;
use crate::parallel;

/// The number of kinds.
const KINDS: usize = 10;

/// Elements whose softmax is hard, of one of several kinds.
fn hard_to_share<T: Element>(rng: &mut fastrand::Rng, kind: usize, len: usize) -> Vec<T> {
    let (layout, infinity) = (T::TYPE.layout(), T::from_f64(f64::INFINITY));
    // Of a type without infinity the number that is furthest down, which is as good as that.
    let mask = T::from_bits(layout.max_number() | layout.sign());
    let uniform = |rng: &mut fastrand::Rng, scale: f64| T::from_f64((rng.f64() - 0.5) * scale);
    let mut elements: Vec<T> = match kind % KINDS {
        // Random bits, with NaN and infinities.
        0 => (0..len).map(|_| T::from_bits(rng.u64(..) & layout.mask())).collect(),
        1 => (0..len).map(|_| uniform(rng, 2.0)).collect(),
        2 => (0..len).map(|_| uniform(rng, 20.0)).collect(),
        // Subnormal results.
        3 => (0..len).map(|_| uniform(rng, 210.0)).collect(),
        // Equal elements: results are powers of two; of f8_e4m3fn, 2^-10 is a tie.
        4 => {
            let large = uniform(rng, 1e30);
            let mut equal = vec![if large.is_nan() { uniform(rng, 9.0) } else { large }; len];
            equal.iter_mut().skip(1024).for_each(|x| *x = mask);
            equal
        }
        // Few values, a few units of the fixed-point numbers apart, around 0.
        5 => (0..len).map(|_| T::from_f64((rng.i32(-9..9) as f64) * 2f64.powi(-33))).collect(),
        // Around the end of the fixed-point numbers.
        6 => (0..len).map(|_| T::from_f64(2f64.powi(31) + f64::from(rng.i32(-3..4)) * 128.0)).collect(),
        // Masked, some slices whole.
        7 => (0..len).map(|_| if rng.u8(..) < 9 { uniform(rng, 9.0) } else { mask }).collect(),
        // All magnitudes, negative: the greatest is near to 0.
        8 => (0..len).map(|_| T::from_f64(-(rng.f64() * 60.0 - 30.0).exp2())).collect(),
        // Multiples of ln 2, where the number of halvings changes, and of 128ths of it.
        _ => (0..len)
            .map(|_| {
                T::from_f64(
                    -f64::from(rng.u8(..)) * std::f64::consts::LN_2 * [1.0, 1.0 / 128.0][rng.usize(..2)],
                )
            })
            .collect(),
    };
    if !kind.is_multiple_of(KINDS) && kind / KINDS % 3 == 2 && len > 0 {
        elements[rng.usize(..len)] = [T::from_bits(layout.quiet_nan()), infinity][rng.usize(..2)];
    }
    elements
}

impl<T: Element> Case<'_, T> {
    pub(super) fn softmax(&self, tally: &mut Tally, rng: &mut fastrand::Rng, n: usize) -> Result<()> {
        let x = hard_to_share::<T>(rng, n, self.x.len());
        let tensor = self.device.tensor(&x, self.dims)?;
        self.compare(tally, "softmax".into(), &softmax(&x), &tensor.softmax(..)?.to_vec()?);
        let slices = self.slices(&x);
        let expected = self.joined(parallel::map(slices.len(), &|n| softmax(&slices[n])));
        self.compare(tally, "softmax of slices".into(), &expected, &tensor.softmax(self.axes)?.to_vec()?);
        Ok(())
    }

    pub(super) fn softmax_backward(
        &self,
        tally: &mut Tally,
        rng: &mut fastrand::Rng,
        n: usize,
    ) -> Result<()> {
        let y = match n % 3 {
            0 => hard_to_sum::<T>(rng, n / 3, self.x.len()),
            _ => self.joined(
                self.slices(&hard_to_share::<T>(rng, n, self.x.len())).iter().map(|x| softmax(x)).collect(),
            ),
        };
        let g = hard_to_sum::<T>(rng, n / 2, self.x.len());
        let (result, upstream) = (self.device.tensor(&y, self.dims)?, self.device.tensor(&g, self.dims)?);
        let gradients = result.softmax_backward(&upstream, ..)?.to_vec()?;
        self.compare(tally, "softmax_backward".into(), &softmax_backward(&y, &g), &gradients);
        let (ys, gs) = (self.slices(&y), self.slices(&g));
        let expected = self.joined(parallel::map(ys.len(), &|n| softmax_backward(&ys[n], &gs[n])));
        let gradients = result.softmax_backward(&upstream, self.axes)?.to_vec()?;
        self.compare(tally, "softmax_backward of slices".into(), &expected, &gradients);
        Ok(())
    }
}
