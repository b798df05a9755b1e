//! Quantisation: codes, their values, fake quantisation and its gradients.

use super::Tensor;
use super::run::{first, missing_output, run};
use crate::broadcast::BroadcastInputs;
use crate::op::{Arguments, MAX_OUTPUTS, first_outputs};
use crate::quantize::QuantRule;
use crate::{Bound, DynTensor, Element, Op, Result};

/// The gradients of the operands of [`fake_quantize`](Tensor::fake_quantize).
#[derive(Debug, Clone)]
pub struct QuantGradients<T: Element> {
    /// What x receives.
    pub x: Tensor<T>,
    /// What the scale receives, in its shape (`[]` for a value).
    pub scale: Tensor<T>,
    /// What the zero point receives, in its shape.
    pub zero_point: Tensor<T>,
}

impl<T: Element> Tensor<T> {
    /// Rounds to the values of codes: `(q - zero_point) * scale`, where `q = round(x / scale) + zero_point`, clipped to the codes of the rule. Floats only.
    /// Scale and zero point are values, or tensors that broadcast as bounds do: one of each channel, or of each group where x is
    /// shaped so. To the bit as [`reference::fake_quantize`](crate::reference::fake_quantize) says.
    ///
    /// ```
    /// use wgclip::Device;
    /// use wgclip::quantize::QuantRule;
    ///
    /// let x = Device::cpu().tensor(&[-9.0f32, 0.3, 1.2, 9.0], [2, 2])?;
    /// let of_rows = x.device().tensor(&[0.5f32, 1.0], [2, 1])?;
    /// let y = x.fake_quantize(of_rows, 0.0, QuantRule::EXACT.bits(4)?)?;
    /// assert_eq!(y.to_vec()?, [-4.0, 0.5, 1.0, 7.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::QuantRange`](crate::Error::QuantRange), [`Error::NanBound`](crate::Error::NanBound);
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, for f64 on a GPU, and without a scale or a zero point; otherwise as
    /// [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn fake_quantize(
        &self,
        scale: impl Into<Bound<T>>,
        zero_point: impl Into<Bound<T>>,
        rule: QuantRule,
    ) -> Result<Self> {
        let (scale, zero_point) = (scale.into(), zero_point.into());
        let broadcast = self.grid(&scale, &zero_point)?;
        let arguments = Arguments { quant: rule, ..Arguments::new(&broadcast) };
        first(Op::FakeQuantize, &[self.as_dyn()], &arguments).map(Self::of)
    }

    /// The gradients of [`fake_quantize`](Self::fake_quantize): to the bit as
    /// [`reference::fake_quantize_backward`](crate::reference::fake_quantize_backward) and [`reference::sum`](crate::reference::sum) say.
    ///
    /// # Errors
    /// As [`fake_quantize`](Self::fake_quantize) and [`clip_backward`](Self::clip_backward).
    pub fn fake_quantize_backward(
        &self,
        upstream: &Self,
        scale: impl Into<Bound<T>>,
        zero_point: impl Into<Bound<T>>,
        rule: QuantRule,
    ) -> Result<QuantGradients<T>> {
        let (scale, zero_point) = (scale.into(), zero_point.into());
        let gradients = self.quant_gradients(upstream, [&scale, &zero_point], rule, first_outputs(3))?;
        let [x, scale, zero_point] =
            gradients.map(|gradient| gradient.ok_or_else(|| missing_output(Op::FakeQuantizeBackward)));
        Ok(QuantGradients { x: x?, scale: scale?, zero_point: zero_point? })
    }

    /// The gradient of x alone.
    ///
    /// # Errors
    /// As [`fake_quantize_backward`](Self::fake_quantize_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn fake_quantize_backward_x(
        &self,
        upstream: &Self,
        scale: impl Into<Bound<T>>,
        zero_point: impl Into<Bound<T>>,
        rule: QuantRule,
    ) -> Result<Self> {
        let (scale, zero_point) = (scale.into(), zero_point.into());
        let [x, ..] = self.quant_gradients(upstream, [&scale, &zero_point], rule, first_outputs(1))?;
        x.ok_or_else(|| missing_output(Op::FakeQuantizeBackward))
    }

    /// The codes of floats: `round(x / scale) + zero_point`, clipped to the codes of the rule, as integers of a type that holds these: i8, u8,
    /// i16, u16 or i32. To the bit as [`reference::quantize`](crate::reference::quantize) says. Or as 8-bit floats: `x / scale` rounded to f8_e4m3fn or
    /// f8_e5m2, saturated, as [`reference::quantize_to_float`](crate::reference::quantize_to_float) says; the zero point is the value 0 then. Scale and zero point are f32, whatever the type
    /// of x is: values, or tensors that broadcast. (An f64 has scales of f64: [`DynTensor::run`] takes them.)
    ///
    /// ```
    /// use wgclip::Device;
    /// use wgclip::quantize::QuantRule;
    ///
    /// let x = Device::cpu().tensor(&[-9.0f32, 0.3, 1.2, 99.0], [2, 2])?;
    /// let rule = QuantRule::EXACT.bits(4)?;
    /// let codes = x.quantize::<i8>(0.5, 0.0, rule)?;
    /// assert_eq!(codes.to_vec()?, [-8, 1, 2, 7]);
    /// assert_eq!(codes.dequantize::<f32>(0.5, 0.0, rule)?.to_vec()?, x.fake_quantize(0.5, 0.0, rule)?.to_vec()?);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, for a type that does not hold the codes, for f64, and for 8-bit floats with a zero
    /// point or a rule whose rounding is not half-even; otherwise as [`fake_quantize`](Self::fake_quantize).
    #[must_use = "the tensor itself is not changed"]
    pub fn quantize<C: Element>(
        &self,
        scale: impl Into<Bound<f32>>,
        zero_point: impl Into<Bound<f32>>,
        rule: QuantRule,
    ) -> Result<Tensor<C>> {
        self.to_or_from_codes(Op::Quantize, [&scale.into(), &zero_point.into()], rule)
    }

    /// The values of codes: `(q - zero_point) * scale`, rounded to a type of float once. To the bit as
    /// [`reference::dequantize`](crate::reference::dequantize) says, of the rule the range matters alone, to which the zero point is clipped; for codes that
    /// are 8-bit floats, as [`reference::dequantize_float`](crate::reference::dequantize_float) says, with the zero point 0.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for other types of codes than i8, u8, i16, u16, i32 and the 8-bit floats, and of values than floats of
    /// up to 32 bits; otherwise as [`quantize`](Self::quantize).
    #[must_use = "the tensor itself is not changed"]
    pub fn dequantize<F: Element>(
        &self,
        scale: impl Into<Bound<f32>>,
        zero_point: impl Into<Bound<f32>>,
        rule: QuantRule,
    ) -> Result<Tensor<F>> {
        self.to_or_from_codes(Op::Dequantize, [&scale.into(), &zero_point.into()], rule)
    }

    fn to_or_from_codes<U: Element>(
        &self,
        op: Op,
        inputs: [&Bound<f32>; 2],
        rule: QuantRule,
    ) -> Result<Tensor<U>> {
        let broadcast = BroadcastInputs::new(op.info().broadcast, self.shape(), inputs.map(Bound::as_dyn))?;
        let arguments = Arguments { quant: rule, to: Some(U::TYPE), ..Arguments::new(&broadcast) };
        first(op, &[self.as_dyn()], &arguments).map(Tensor::of)
    }

    fn grid<'a>(
        &self,
        scale: &'a Bound<T>,
        zero_point: &'a Bound<T>,
    ) -> Result<BroadcastInputs<&'a DynTensor>> {
        let inputs = [scale, zero_point].map(Bound::as_dyn);
        BroadcastInputs::new(Op::FakeQuantize.info().broadcast, self.shape(), inputs)
    }

    fn quant_gradients(
        &self,
        upstream: &Self,
        [scale, zero_point]: [&Bound<T>; 2],
        rule: QuantRule,
        needs: [bool; MAX_OUTPUTS],
    ) -> Result<[Option<Self>; 3]> {
        let broadcast = self.grid(scale, zero_point)?;
        let arguments = Arguments { quant: rule, ..Arguments::new(&broadcast) };
        let inputs = [self.as_dyn(), upstream.as_dyn()];
        let [x, scale, zero_point, _] = run(Op::FakeQuantizeBackward, &inputs, needs, &arguments)?;
        Ok([x, scale, zero_point].map(|gradient| gradient.map(Self::of)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error};

    #[test]
    fn operands_and_rules_that_no_kernel_takes_are_refused() {
        let device = Device::cpu();
        let x = device.tensor(&[0.3f32, 200.0], [2]).unwrap();
        let rule = QuantRule { min: 1, max: 0, ..QuantRule::EXACT };
        let range = Error::QuantRange { min: 1, max: 0 };
        assert_eq!(x.fake_quantize(1.0, 0.0, rule).unwrap_err(), range);
        assert_eq!(x.fake_quantize_backward(&x, 1.0, 0.0, rule).unwrap_err(), range);
        assert!(matches!(
            x.fake_quantize(f32::NAN, 0.0, QuantRule::EXACT),
            Err(Error::NanBound { operand: "scale" })
        ));
        let absent = x.fake_quantize(Bound::Absent, 0.0, QuantRule::EXACT);
        assert!(matches!(absent, Err(Error::Unsupported { .. })));
        let integers = device.tensor(&[1i32, 2], [2]).unwrap();
        assert!(matches!(integers.fake_quantize(1, 0, QuantRule::EXACT), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn codes_may_be_8_bit_floats() {
        use crate::f8_e4m3fn;

        let x = Device::cpu().tensor(&[-900.0f32, 0.3, 34.0, f32::NAN], [2, 2]).unwrap();
        let scale = x.device().tensor(&[2.0f32, 1.0], [2, 1]).unwrap();
        let codes = x.quantize::<f8_e4m3fn>(&scale, 0.0, QuantRule::EXACT).unwrap();
        let bits: Vec<_> = codes.to_vec().unwrap().iter().map(|code| code.to_bits()).collect();
        assert_eq!(bits, [0xfe, 0x22, 0x60, 0x7f]);
        let values = codes.dequantize::<f32>(&scale, 0.0, QuantRule::EXACT).unwrap().to_vec().unwrap();
        assert_eq!((&values[..3], values[3].is_nan()), (&[-896.0, 0.3125, 32.0][..], true));
        let up = QuantRule::TENSORFLOW;
        for refused in [
            x.quantize::<f8_e4m3fn>(&scale, 1.0, QuantRule::EXACT),
            x.quantize::<f8_e4m3fn>(&scale, &scale, QuantRule::EXACT),
            x.quantize::<f8_e4m3fn>(&scale, 0.0, up),
        ] {
            assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
        }
    }

    #[test]
    fn gradients_have_the_shapes_of_what_they_are_of() {
        let device = Device::cpu();
        let x = device.tensor(&[0.3f32, 200.0, 1.25, -300.0], [2, 2]).unwrap();
        let g = device.tensor(&[1.0f32, 10.0, 100.0, 1000.0], [2, 2]).unwrap();
        let scale = device.tensor(&[1.0f32, 2.0], [2, 1]).unwrap();
        let gradients = x.fake_quantize_backward(&g, &scale, 0.0, QuantRule::EXACT).unwrap();
        assert_eq!(gradients.x.to_vec().unwrap(), [1.0, 0.0, 100.0, 0.0]);
        assert_eq!(gradients.scale.shape().dims(), [2, 1]);
        // (0 - 0.3) + 10 * 127, and 100 * (1 - 0.625) + 1000 * -128.
        assert_eq!(gradients.scale.to_vec().unwrap(), [1269.7, -127962.5]);
        assert_eq!(
            (gradients.zero_point.shape().dims(), gradients.zero_point.to_vec().unwrap()),
            (&[][..], vec![-2010.0])
        );
        let alone = x.fake_quantize_backward_x(&g, &scale, 0.0, QuantRule::EXACT).unwrap();
        assert_eq!(alone.to_vec().unwrap(), gradients.x.to_vec().unwrap());
    }
}
