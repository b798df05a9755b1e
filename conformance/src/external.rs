//! Cases for a device that another program drives: a web page, or a binding to another language. That program runs them and
//! returns the outputs.

use wgclip::bounds::Number;
use wgclip::op::{Codes, Op, Operand};
use wgclip::quantize::QuantRule;
use wgclip::reference;
use wgclip::{Bound, Element, ElementType, NonFinitePolicy, NormKind, NormLimit, with_element};

use crate::case::{Case, Host, Oracle, Results, Variant};
use crate::{Mismatch, Plan, Tally, Tier, inputs};

/// A broadcast input of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum ExternalBound<'a> {
    /// Absent.
    Absent,
    /// A number.
    Value(Number),
    /// Bytes of elements, and their shape.
    Tensor(&'a [u8], &'a [usize]),
}

/// An operation to run, with its operands as bytes in native order.
pub trait ExternalCase {
    /// The operation, its form and its rule.
    fn variant(&self) -> Variant;
    /// The shape of x and g.
    fn dims(&self) -> &[usize];
    /// The elements of x.
    fn x(&self) -> &[u8];
    /// The upstream gradient.
    fn g(&self) -> &[u8];
    /// The broadcast inputs, in the order of the operation's row; for an operation that reads a mask, those of the mask.
    fn broadcast(&self) -> Vec<ExternalBound<'_>>;
    /// The parameters.
    fn params(&self) -> &[f64];
    /// The needed outputs, in the order of the list. A mask is replaced by the result of applying it to g, which is also the output of
    /// operations that read a mask.
    fn outputs(&self) -> Vec<Operand>;
    /// Compares the bytes of these outputs with the reference.
    fn compare(&self, device: &str, outputs: &[&[u8]]) -> Tally;
}

/// The cases of the table for one type and one form of an operation.
pub fn external_cases(
    element: ElementType,
    (op, in_place): (Op, bool),
    tier: Tier,
    seed: u64,
) -> Box<dyn Iterator<Item = Box<dyn ExternalCase + Send>> + Send> {
    with_element!(element, T => {
        let mut rng = fastrand::Rng::with_seed(seed);
        Box::new(Plan::table::<T>(tier).into_iter().flat_map(move |plan| {
            let case = plan.case::<T>(&mut rng);
            // The rule of quantisation is the default one.
            let chosen = |variant: &Variant| {
                let is_default = variant.quant == QuantRule::default();
                // Operands of two types are for the device of a process.
                (variant.op, variant.in_place) == (op, in_place) && is_default && op.info().codes == Codes::None
            };
            let variants = plan.variants().into_iter().filter(chosen);
            variants.map(move |variant| Box::new(External { case: case.clone(), variant }) as _).collect::<Vec<_>>()
        }))
    })
}

struct External<T> {
    case: Case<T>,
    variant: Variant,
}

impl<T: Element> External<T> {
    fn bound<'a>(&self, bound: &'a Bound<T, Host<T>>) -> ExternalBound<'a> {
        match bound {
            Bound::Absent => ExternalBound::Absent,
            Bound::Value(value) => ExternalBound::Value(number(*value)),
            Bound::Tensor(host) => ExternalBound::Tensor(bytemuck::cast_slice(&host.data), &host.dims),
        }
    }

    fn expected(&self) -> Results<T> {
        let mut expected = self.case.run_reference(&Oracle::REFERENCE, self.variant);
        // A mask is compared by the gradient that it passes.
        if let (Op::ClipWithMask, Some(mask)) =
            (self.variant.op, expected.iter_mut().find(|(output, _)| *output == Operand::Mask))
        {
            let by_mask = Variant { op: Op::MaskBackward, ..self.variant };
            mask.1 = self.case.run_reference(&Oracle::REFERENCE, by_mask).remove(0).1;
        }
        expected
    }
}

impl<T: Element> ExternalCase for External<T> {
    fn variant(&self) -> Variant {
        self.variant
    }

    fn dims(&self) -> &[usize] {
        &self.case.dims
    }

    fn x(&self) -> &[u8] {
        bytemuck::cast_slice(&self.case.x)
    }

    fn g(&self) -> &[u8] {
        bytemuck::cast_slice(&self.case.g)
    }

    fn broadcast(&self) -> Vec<ExternalBound<'_>> {
        self.case.broadcast(self.variant.op).into_iter().map(|(_, input)| self.bound(input)).collect()
    }

    fn params(&self) -> &[f64] {
        self.case.params_of(self.variant.op)
    }

    fn outputs(&self) -> Vec<Operand> {
        let outputs = self.variant.op.info().outputs.iter().copied();
        outputs.filter(|&output| self.case.needs(self.variant.op, output)).collect()
    }

    fn compare(&self, device: &str, outputs: &[&[u8]]) -> Tally {
        let made = outputs.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes));
        let actual = self.outputs().into_iter().zip(made).collect();
        self.case.compare_results(device, self.variant, &self.expected(), &actual)
    }
}

/// A value as a number, exactly.
fn number<T: Element>(value: T) -> Number {
    match T::TYPE.is_float() {
        true => Number::Float(value.to_f64()),
        false => {
            let layout = T::TYPE.layout();
            let bits = i128::from(value.to_bits());
            let signed = layout.class == wgclip::element::NumberClass::Signed;
            Number::Integer(if signed && bits as u64 & layout.sign() != 0 {
                bits - (1 << layout.bits)
            } else {
                bits
            })
        }
    }
}

/// Tensors of floats to clip by their common norm.
pub struct ExternalNorm {
    /// Their type.
    pub element: ElementType,
    /// Their elements, as bytes.
    pub tensors: Vec<Vec<u8>>,
    /// The limit.
    pub limit: NormLimit,
}

/// Lists of tensors with limits below, at and above their norm, with every policy.
pub fn external_norms(element: ElementType, seed: u64) -> Box<dyn Iterator<Item = ExternalNorm> + Send> {
    with_element!(element, T => {
        let mut rng = fastrand::Rng::with_seed(seed);
        let lengths = [[0usize, 1], [3, 5], [16, 1], [255, 1027], [4096, 3], [70_001, 33]];
        let ways = lengths.into_iter().flat_map(|lengths| (0..inputs::SUM_KINDS).map(move |way| (lengths, way)));
        Box::new(ways.flat_map(move |(lengths, way)| {
            let lists: Vec<Vec<T>> = lengths.iter().map(|&len| inputs::hard_to_sum(&mut rng, way, len)).collect();
            let tensors: Vec<Vec<u8>> = lists.iter().map(|list| bytemuck::cast_slice(list).to_vec()).collect();
            let all: Vec<T> = lists.concat();
            let kind = NormKind::ALL[rng.usize(..3)];
            let norm = reference::norm(&all, kind).to_f64();
            let limits = [norm / 3.0, norm, f64::INFINITY];
            let limits = limits.map(|limit| if limit.is_finite() || limit > 0.0 { limit } else { 2.0 });
            limits.map(|limit| ExternalNorm {
                element,
                tensors: tensors.clone(),
                limit: NormLimit::new(limit)
                    .kind(kind)
                    .eps([0.0, 1e-6, 0.5][rng.usize(..3)])
                    .nonfinite(NonFinitePolicy::ALL[rng.usize(..NonFinitePolicy::ALL.len())]),
            })
        }))
    })
}

impl ExternalNorm {
    /// Compares the norm, as a number, whether it was an error, and the resulting bytes of the tensors.
    pub fn compare(&self, device: &str, norm: f64, failed: bool, tensors: &[&[u8]]) -> Tally {
        with_element!(self.element, T => {
            let given: Vec<Vec<T>> = self.tensors.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
            let actual: Vec<T> = tensors.iter().flat_map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
            let all = given.concat();
            let expected_norm = reference::norm(&all, self.limit.kind);
            let fails = self.limit.nonfinite == NonFinitePolicy::Error && !expected_norm.to_f64().is_finite();
            let scaling = reference::scaling(expected_norm, &self.limit);
            let scaled = |&x: &T| if fails { x } else { reference::scale(x, scaling) };
            let expected: Vec<T> = all.iter().map(scaled).collect();
            let mut tally = Tally::default();
            let of = |result: &str| {
                let op = format!("clip_by_global_norm ({:?}), {result}", self.limit);
                let lengths: Vec<_> = given.iter().map(Vec::len).collect();
                let (device, operands) = (device.to_owned(), format!("tensors of {lengths:?} elements"));
                move |mismatch| Mismatch { device, element: T::TYPE, op, operands, ..mismatch }
            };
            // As a number of another language, NaN may have any bits.
            let number = expected_norm.to_f64();
            let told = if number.is_nan() && norm.is_nan() { number } else { norm };
            tally.compare(&[number], &[told], of("the norm"));
            tally.compare(&[u8::from(fails)], &[u8::from(failed)], of("whether it is an error"));
            tally.compare(&expected, &actual, of("the tensors"));
            tally
        })
    }
}
