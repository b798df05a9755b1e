//! Calibration: scales and zero points for the elements of a tensor.

use super::{Axes, Bounds, Tensor};
use crate::backend::cpu;
use crate::quantize::{Calibration, Grid, QuantParams, Scheme, ValueRange};
use crate::{DeviceKind, Element, ElementType, NormKind, Result, Shape};

impl<T: Element> Tensor<T> {
    /// The scale and the zero point of each slice along some axes, or of all elements (`..`), that cover the values which
    /// [`Calibration`] says: tensors of the shape that the norms of these slices have, which broadcast to this one. Take the axes that a scale is
    /// shared along: `[0]` of a matrix for one scale per column. The codes are those of a [`QuantRule`](crate::quantize::QuantRule), or
    /// [floats](crate::quantize::FloatCodes), whose zero points are 0.
    ///
    /// On a GPU the least and greatest elements of [symmetric and affine](crate::quantize::Scheme) codes are found there; for everything else the
    /// elements are read to the CPU. Not in a browser, since it waits.
    ///
    /// ```
    /// use wgclip::Device;
    /// use wgclip::quantize::{Calibration, QuantRule};
    ///
    /// let x = Device::cpu().tensor(&[0.5f32, -1.27, 2.54, 0.0], [2, 2])?;
    /// let [scale, zero_point] = x.calibrate([1], Calibration::default(), QuantRule::EXACT)?;
    /// assert_eq!(scale.to_vec()?, [0.01, 0.02]);
    /// assert_eq!(x.quantize::<i8>(&scale, &zero_point, QuantRule::EXACT)?.to_vec()?, [50, -127, 127, 0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NonFiniteValues`](crate::Error::NonFiniteValues), unless these are left out;
    /// [`Error::InvalidRange`](crate::Error::InvalidRange); [`Error::QuantRange`](crate::Error::QuantRange); otherwise as [`norm`](Self::norm).
    pub fn calibrate(
        &self,
        axes: impl Into<Axes>,
        calibration: Calibration,
        codes: impl Into<Grid>,
    ) -> Result<[Tensor<f32>; 2]> {
        let ((axes, kept), codes) = (slices_of(self.shape(), axes.into()), codes.into());
        let params = match self.ends_on_device(&axes, calibration)? {
            Some(ends) => {
                ends.into_iter().map(|[lo, hi]| codes.params(calibration, lo, hi)).collect::<Result<_>>()?
            }
            None => cpu::calibrate(&self.to_vec()?, self.shape(), &axes, calibration, codes)?,
        };
        let tensor = |of: fn(&QuantParams) -> f32| {
            self.device().tensor_from_vec(params.iter().map(of).collect(), &kept[..])
        };
        Ok([tensor(|params| params.scale)?, tensor(|params| params.zero_point as f32)?])
    }

    /// The ends of each slice, extended to 0, where they are found without reading the elements: as the greatest magnitudes below and above 0. None
    /// if not, or if an element is not finite.
    fn ends_on_device(&self, axes: &[usize], calibration: Calibration) -> Result<Option<Vec<[f64; 2]>>> {
        let is_on_gpu = self.device().info().kind != DeviceKind::Cpu && T::TYPE != ElementType::F64;
        let extends =
            matches!(calibration.scheme, Scheme::Symmetric | Scheme::SymmetricHalf | Scheme::Affine);
        if !is_on_gpu || !extends || calibration.range != ValueRange::MinMax || !T::TYPE.is_float() {
            return Ok(None);
        }
        let side = |bounds: Bounds<T>| self.clip(bounds)?.norm(NormKind::Max, axes)?.to_vec();
        let (below, above) = (side(Bounds::at_most(T::ZERO)?)?, side(Bounds::at_least(T::ZERO)?)?);
        let ends = below.iter().zip(&above).map(|(below, above)| [-below.to_f64(), above.to_f64()]);
        let ends: Vec<_> = ends.collect();
        Ok(ends.iter().flatten().all(|end| end.is_finite()).then_some(ends))
    }
}

/// Axes by their numbers, and the dimensions of what is left with one element for each slice.
fn slices_of(shape: &Shape, axes: Axes) -> (Vec<usize>, Vec<usize>) {
    let dims = shape.dims();
    match axes {
        Axes::All => ((0..dims.len()).collect(), Vec::new()),
        Axes::Some(axes) => {
            let kept = dims.iter().enumerate();
            let kept = kept.map(|(axis, &len)| if axes.contains(&axis) { 1 } else { len }).collect();
            (axes, kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::QuantRule;
    use crate::{Device, Error};

    #[test]
    fn parameters_broadcast_to_the_tensor() {
        let x = Device::cpu().tensor(&[0.5f32, -1.27, 2.54, 0.0, 1.0, 0.254], [2, 3]).unwrap();
        let scales = |axes: Axes| {
            let [scale, zero_point] = x.calibrate(axes, Calibration::default(), QuantRule::EXACT).unwrap();
            assert_eq!(scale.shape(), zero_point.shape());
            assert!(x.quantize::<i8>(&scale, &zero_point, QuantRule::EXACT).is_ok());
            (scale.shape().dims().to_vec(), scale.to_vec().unwrap())
        };
        assert_eq!(scales(Axes::All), (vec![], vec![0.02]));
        assert_eq!(scales([1].into()), (vec![2, 1], vec![0.02, 1.0 / 127.0]));
        assert_eq!(scales([0].into()), (vec![1, 3], vec![0.5 / 127.0, 0.01, 0.02]));
        let wrong = x.calibrate([2], Calibration::default(), QuantRule::EXACT);
        assert!(matches!(wrong, Err(Error::InvalidAxes { .. })), "{wrong:?}");
    }
}
