//! Operations to, from and between codes. Their broadcast inputs, f32 or f64, are derived from those of the case.

use wgclip::bounds::BroadcastInputs;
use wgclip::op::{Arguments, Codes, Op, Operand};
use wgclip::quantize::{CodeFormat, QuantRule};
use wgclip::{Bound, DynTensor, Element, ElementType, Result, f8_e4m3fn, f8_e5m2, reference, with_element};

use super::case::{Uploaded, bits_of, on_device, poison, supported};
use crate::case::{Case, Host, Mismatch, Tally, Variant};
use crate::parallel;

/// A broadcast input in f64, which holds every f32.
type Input = Bound<f64, Host<f64>>;

impl<T: Element> Case<T> {
    /// Compares an operation to or from codes: with one type of output, or with each.
    pub(super) fn compare_codes(&self, on: &Uploaded<'_, T>, variant: Variant) -> Result<Tally> {
        let (op, quant) = (variant.op, variant.quant);
        if op.info().codes == Codes::Both {
            return self.compare_packed(on, variant);
        }
        let on_gpu = on.device.info().limits.is_some();
        let is_e2m1 = quant.format == CodeFormat::E2M1;
        let holds = |to: &ElementType| {
            let is_for_device = op.info().codes == Codes::Output || !on_gpu || *to != ElementType::F64;
            is_for_device && op.makes(T::TYPE, *to) && op.check_codes(quant, T::TYPE, *to).is_ok()
        };
        let types: Vec<_> = ElementType::ALL.iter().copied().filter(holds).collect();
        if types.is_empty() {
            return Ok(Tally::default());
        }
        // Any one will do: upstream gradients are random. A rule goes with one type, since both make a pipeline.
        let any = match op.info().codes {
            Codes::Output => variant.quant_index(),
            _ => self.g.iter().map(|g| g.to_bits()).fold(0, u64::wrapping_add) as usize,
        };
        let any = any % types.len();
        let mut tally = Tally::default();
        for (_, &to) in types.iter().enumerate().filter(|&(n, _)| self.all_types || n == any) {
            let wide = op.broadcast_type(T::TYPE, to) == ElementType::F64;
            let is_float = is_e2m1 || op.code_type(T::TYPE, to).is_some_and(ElementType::is_float8);
            let zero_point = if is_float { Bound::Value(0.0) } else { self.code_input(1, op, wide) };
            let inputs = [self.code_input(0, op, wide), zero_point];
            poison(on.device, to, self.x.len(), 1)?;
            let actual = match wide {
                true => run::<T, f64>(on, variant, &inputs, to, |value| value),
                false => run::<T, f32>(on, variant, &inputs, to, |value| value as f32),
            };
            let Some(actual) = supported(actual)? else { continue };
            let inputs_of = |i: usize| inputs.each_ref().map(|input| self.at(input, i).unwrap_or_default());
            let expected = |i: usize| {
                let x = (T::TYPE, Element::to_bits(self.x[i]));
                expected_bits((op, i), x, to, inputs_of(i), quant)
            };
            let expected = parallel::map_many(self.x.len(), &expected);
            tally.compare(&expected, &actual, |mismatch| Mismatch {
                device: on.device.info().to_string(),
                element: T::TYPE,
                op: format!("{variant} to {to}"),
                operands: format!(
                    "scale and zero point {:?}, x of {:?}",
                    inputs_of(mismatch.index),
                    self.dims
                ),
                inputs: Some([self.x.get(mismatch.index).map_or(0, |x| x.to_bits()), 0]),
                ..mismatch
            });
        }
        Ok(tally)
    }

    /// Compares the packing of pairs of codes, or its reverse.
    fn compare_packed(&self, on: &Uploaded<'_, T>, variant: Variant) -> Result<Tally> {
        let Variant { op, quant, .. } = variant;
        let to = if op == Op::Pack4 { ElementType::U8 } else { ElementType::U16 };
        poison(on.device, to, self.x.len(), 1)?;
        let none = BroadcastInputs::none(T::TYPE);
        let arguments = Arguments { quant, to: Some(to), ..Arguments::new(&none) };
        let outputs = DynTensor::run(op, &[on.x.as_dyn()], &[Operand::Y], &arguments)?;
        let expected = |x: &T| match op {
            Op::Pack4 => u64::from(reference::pack4(Element::to_bits(*x) as u16)),
            _ => reference::unpack4(Element::to_bits(*x) as u8, quant).into(),
        };
        let mut tally = Tally::default();
        tally.compare(
            &self.x.iter().map(expected).collect::<Vec<_>>(),
            &bits_of(&outputs, to)?,
            |mismatch| Mismatch {
                device: on.device.info().to_string(),
                element: T::TYPE,
                op: variant.to_string(),
                operands: format!("x of {:?}", self.dims),
                inputs: Some([self.x.get(mismatch.index).map_or(0, |x| x.to_bits()), 0]),
                ..mismatch
            },
        );
        Ok(tally)
    }

    /// The scale (0) or the zero point (1). For floats it has the values of the case, every second scale moved to the next f32, which a short float
    /// does not hold. For codes it has random values, seeded by those of the case: a tensor in place of one value where x is long and has one axis.
    fn code_input(&self, index: usize, op: Op, wide: bool) -> Input {
        let of_floats = op.info().codes == Codes::Output;
        let value = |bits: u64, i: usize, any: bool| {
            let rng = &mut fastrand::Rng::with_seed(bits.wrapping_add(i as u64));
            let value = match (of_floats, index) {
                (true, _) => {
                    let value = T::from_bits(bits).to_f64();
                    match i % 2 == 1 && index == 0 && value.is_normal() && !wide {
                        true => f64::from(f32::from_bits((value as f32).to_bits() + 1)),
                        false => value,
                    }
                }
                (_, 0) => match rng.u8(..8) {
                    0 => f32::from_bits(rng.u32(..)).into(),
                    1 => [0.0, -0.0, f64::INFINITY, f64::NAN, 1e-45, 3e38][rng.usize(..6)],
                    _ => f64::from((rng.f32() + 0.5) * f32::from(rng.i8(-9..9)).exp2()),
                },
                _ => match rng.u8(..8) {
                    0 => [f64::NAN, f64::INFINITY, -1e30, 0.5][rng.usize(..4)],
                    1 => 0.0,
                    _ => f64::from(rng.i32(-300..600)) / 2.0,
                },
            };
            let value = if wide { value } else { f64::from(value as f32) };
            if value.is_nan() && !any { 1.0 } else { value }
        };
        match &self.others[index] {
            Bound::Tensor(host) => {
                let data = host.data.iter().enumerate().map(|(i, of)| value(of.to_bits(), i, true));
                Bound::Tensor(Host { data: data.collect(), dims: host.dims.clone() })
            }
            Bound::Value(of) if !of_floats && self.dims.len() == 1 && self.x.len() > 64 => {
                let data = (0..self.x.len()).map(|i| value(of.to_bits(), i, true));
                Bound::Tensor(Host { data: data.collect(), dims: self.dims.clone() })
            }
            Bound::Value(of) => Bound::Value(value(of.to_bits(), 0, false)),
            Bound::Absent => Bound::Value(1.0),
        }
    }
}

/// The bits that the reference gives. The types are values here, since few pairs of them occur: compiled for all pairs it would be a third of this crate.
fn expected_bits(
    (op, index): (Op, usize),
    (element, bits): (ElementType, u64),
    to: ElementType,
    [scale, zero]: [f64; 2],
    quant: QuantRule,
) -> u64 {
    let is_output = op.info().codes == Codes::Output;
    match (is_output, quant.format, if is_output { to } else { element }) {
        (true, CodeFormat::E2M1, _) => with_element!(element, T => {
            reference::quantize_to_e2m1(<T as Element>::from_bits(bits), scale, quant).into()
        }),
        (true, _, ElementType::F8E4M3Fn) => with_element!(element, T => {
            reference::quantize_to_float::<T, f8_e4m3fn>(<T as Element>::from_bits(bits), scale, quant).to_bits().into()
        }),
        (true, _, ElementType::F8E5M2) => with_element!(element, T => {
            reference::quantize_to_float::<T, f8_e5m2>(<T as Element>::from_bits(bits), scale, quant).to_bits().into()
        }),
        (true, ..) => with_element!(element, T => {
            let code = reference::quantize(<T as Element>::from_bits(bits), scale, zero, quant, index as u64);
            u64::from(code as u32) & to.layout().mask()
        }),
        (false, CodeFormat::E2M1, _) => with_element!(to, U => {
            Element::to_bits(reference::dequantize_e2m1::<U>(bits as u8, scale))
        }),
        (false, _, ElementType::F8E4M3Fn) => with_element!(to, U => {
            Element::to_bits(reference::dequantize_float::<_, U>(f8_e4m3fn::from_bits(bits as u8), scale))
        }),
        (false, _, ElementType::F8E5M2) => with_element!(to, U => {
            Element::to_bits(reference::dequantize_float::<_, U>(f8_e5m2::from_bits(bits as u8), scale))
        }),
        (false, ..) => {
            let code = with_element!(element, T => Element::to_f64(<T as Element>::from_bits(bits))) as i32;
            with_element!(to, U => Element::to_bits(reference::dequantize::<U>(code, scale, zero, quant)))
        }
    }
}

/// The bits of the output, by broadcast inputs of a type.
fn run<T: Element, P: Element>(
    on: &Uploaded<'_, T>,
    variant: Variant,
    inputs: &[Input; 2],
    to: ElementType,
    param: fn(f64) -> P,
) -> Result<Vec<u64>> {
    let of_type = |input: &Input| match input {
        Bound::Absent => Bound::Absent,
        Bound::Value(value) => Bound::Value(param(*value)),
        Bound::Tensor(host) => {
            let data = host.data.iter().map(|&value| param(value)).collect();
            Bound::Tensor(Host { data, dims: host.dims.clone() })
        }
    };
    let uploads = inputs.iter().map(|input| on_device(&of_type(input), on.device));
    let uploads = uploads.collect::<Result<Vec<_>>>()?;
    let given = uploads.iter().map(Bound::as_dyn);
    let broadcast = BroadcastInputs::new(variant.op.info().broadcast, on.x.shape(), given)?;
    let arguments = Arguments { quant: variant.quant, to: Some(to), ..Arguments::new(&broadcast) };
    let outputs = DynTensor::run(variant.op, &[on.x.as_dyn()], &[Operand::Y], &arguments)?;
    bits_of(&outputs, to)
}
