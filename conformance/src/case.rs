//! Compares the results of a device with the reference, for every device, type and operation, with
//! zero tolerance.

use std::fmt;

use wgclip::op::{self, Codes, MAX_OUTPUTS, Op, Operand, RuleUse};
use wgclip::quantize::{CodeFormat, QuantRule};
use wgclip::reference::{self, Operands};
use wgclip::{BackwardRule, Bound, Element, ElementType};

use crate::parallel;

/// An operation of the list, in one of its forms, with a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// The operation.
    pub op: Op,
    /// Whether it overwrites an input.
    pub in_place: bool,
    /// The backward rule.
    pub rule: BackwardRule,
    /// How values are quantised.
    pub quant: QuantRule,
}

/// Ranges of codes.
const RANGES: [(i32, i32); 9] =
    [(-128, 127), (0, 255), (-8, 7), (-32768, 32767), (0, 65535), (0, 1), (-127, 127), (5, 5), (-2000, 2000)];

impl Variant {
    /// An operation with the default rules.
    pub fn new(op: Op) -> Self {
        Self { op, in_place: false, rule: BackwardRule::default(), quant: QuantRule::default() }
    }

    /// Every form of every operation, with every rule that it takes, including the identity, which tensors accept. Rules of quantisation
    /// have a range each.
    pub fn all() -> impl Iterator<Item = Self> {
        let quantised = |op: Op| op.info().rule == RuleUse::Quant;
        Op::variants().flat_map(move |(op, in_place)| {
            let rules = BackwardRule::all().filter(move |&rule| takes(op, rule));
            let forms = rules.map(move |rule| Self { in_place, rule, ..Self::new(op) });
            let quants = match quantised(op) {
                true => quant_rules().into_iter().filter(|&quant| takes_format(op, quant)).collect(),
                false => vec![QuantRule::default()],
            };
            forms.flat_map(move |form| quants.clone().into_iter().map(move |quant| Self { quant, ..form }))
        })
    }

    /// Its index among the rules of quantisation.
    pub(crate) fn quant_index(&self) -> usize {
        quant_rules().iter().position(|quant| *quant == self.quant).unwrap_or_default()
    }

    /// Its name, without the rule: `"clip_in_place"`.
    pub fn name(&self) -> String {
        self.op.variant_name(self.in_place)
    }

    /// Whether it applies to a type.
    pub fn is_for(&self, element: ElementType) -> bool {
        self.op.is_for(element, false)
    }
}

/// How many of these rules, the first, are presets that every type meets.
pub(crate) const PRESETS: usize = 6;

/// Rules with every choice, and every range.
pub(crate) fn quant_rules() -> Vec<QuantRule> {
    let ranges = RANGES.iter().cycle();
    QuantRule::choices().zip(ranges).map(|(rule, &(min, max))| QuantRule { min, max, ..rule }).collect()
}

/// Whether an operation has codes of the format of a rule.
fn takes_format(op: Op, quant: QuantRule) -> bool {
    quant.format == CodeFormat::Integer || matches!(op.info().codes, Codes::Output | Codes::Input)
}

/// Whether an operation is tested with a rule. Operations that read a mask are tested with each rule that produces one.
fn takes(op: Op, rule: BackwardRule) -> bool {
    match op.info().rule {
        _ if op.has(Operand::Mask) => rule.fits_mask() && !rule.is_identity(),
        RuleUse::Ignored | RuleUse::Quant => rule == BackwardRule::default(),
        RuleUse::Any | RuleUse::Mask => true,
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        match self.op.info().rule {
            RuleUse::Ignored if !self.op.has(Operand::Mask) => Ok(()),
            RuleUse::Quant => write!(f, " ({})", self.quant),
            _ => write!(f, " ({})", self.rule),
        }
    }
}

/// A tensor in host memory.
#[derive(Debug, Clone)]
pub(crate) struct Host<T> {
    pub data: Vec<T>,
    pub dims: Vec<usize>,
}

/// The operands of an operation.
#[derive(Debug, Clone)]
pub(crate) struct Case<T> {
    pub dims: Vec<usize>,
    pub x: Vec<T>,
    pub g: Vec<T>,
    pub lo: Bound<T, Host<T>>,
    pub hi: Bound<T, Host<T>>,
    /// The broadcast inputs other than the bounds, in order.
    pub others: [Bound<T, Host<T>>; 2],
    pub params: [f64; 4],
    /// Whether a conversion is tested to every type, or to any one type.
    pub all_types: bool,
}

/// The oracle for a device: the reference, or a wrong one to test that the comparison can fail.
#[derive(Debug, Clone, Copy)]
pub struct Oracle<T> {
    /// [`reference::evaluate`].
    pub evaluate: fn(Op, Operands<'_, T>) -> [T; MAX_OUTPUTS],
    /// [`reference::sum`].
    pub sum: fn(&[T]) -> T,
}

impl<T: Element> Oracle<T> {
    /// The reference.
    pub const REFERENCE: Self = Self { evaluate: reference::evaluate, sum: reference::sum };
}

/// The first element of an operation that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The device.
    pub device: String,
    /// The type.
    pub element: ElementType,
    /// The operation, and which of its results.
    pub op: String,
    /// The bounds, and the shape of x.
    pub operands: String,
    /// The index in the result.
    pub index: usize,
    /// The bits of x and g there, if the result has the shape of x.
    pub inputs: Option<[u64; 2]>,
    /// The expected bits, from the reference.
    pub expected: u64,
    /// The bits returned by the device.
    pub actual: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, element, op, operands, index, expected, actual, .. } = self;
        write!(f, "{op} of {element} on {device}, {operands}, element {index}")?;
        if let Some([x, g]) = self.inputs {
            write!(f, " (x {x:#x}, g {g:#x})")?;
        }
        write!(f, ": expected {expected:#x}, got {actual:#x}")
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Elements compared.
    pub cases: u64,
    /// Elements that differed.
    pub mismatches: u64,
    /// The first of them.
    pub first: Option<Mismatch>,
}

impl Tally {
    /// Compares the elements of a result, bit for bit. `describe` describes the result if it has the first mismatch.
    pub(crate) fn compare<T: Element>(
        &mut self,
        expected: &[T],
        actual: &[T],
        describe: impl FnOnce(Mismatch) -> Mismatch,
    ) {
        let differ = |(a, e): (&T, &T)| a.to_bits() != e.to_bits();
        let found = actual.iter().zip(expected).filter(|&pair| differ(pair)).count();
        // A result of the wrong length counts as entirely wrong.
        let found = if actual.len() == expected.len() { found } else { expected.len().max(1) };
        self.cases += expected.len() as u64;
        self.mismatches += found as u64;
        if found == 0 || self.first.is_some() {
            return;
        }
        let index = actual.iter().zip(expected).position(differ).unwrap_or_default();
        let bits = |values: &[T]| values.get(index).map_or(0, |value| value.to_bits());
        self.first = Some(describe(Mismatch {
            device: String::new(),
            element: T::TYPE,
            op: String::new(),
            operands: String::new(),
            index,
            inputs: None,
            expected: bits(expected),
            actual: bits(actual),
        }));
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.mismatches += other.mismatches;
        self.first = self.first.take().or(other.first);
    }
}

/// The results of an operation.
pub(crate) type Results<T> = Vec<(Operand, Vec<T>)>;

impl<T: Element> Case<T> {
    /// Compares each element of each result.
    pub(crate) fn compare_results(
        &self,
        device: &str,
        variant: Variant,
        expected: &Results<T>,
        actual: &Results<T>,
    ) -> Tally {
        let mut tally = Tally::default();
        for (operand, expected) in expected {
            let actual = actual.iter().find(|(made, _)| made == operand).map_or(&[][..], |(_, data)| data);
            tally.compare(expected, actual, |mismatch| Mismatch {
                device: device.to_owned(),
                op: format!("{variant}, {}", operand.name()),
                operands: self.describe(),
                inputs: (expected.len() == self.x.len()).then(|| {
                    [&self.x, &self.g].map(|of| of.get(mismatch.index).map_or(0, |value| value.to_bits()))
                }),
                ..mismatch
            });
        }
        tally
    }

    /// The broadcast inputs of an operation, in the order of its row; for one that reads a mask, those of the operation that produced it.
    pub(crate) fn broadcast(&self, op: Op) -> Vec<(Operand, &Bound<T, Host<T>>)> {
        let mut others = self.others.iter();
        let input = |&operand: &Operand| {
            let input = match operand {
                Operand::Lo => Some(&self.lo),
                Operand::Hi => Some(&self.hi),
                _ => others.next(),
            };
            (operand, input.unwrap_or(&Bound::Absent))
        };
        let op = if op.info().inputs.contains(&Operand::Mask) { Op::ClipWithMask } else { op };
        op.info().broadcast.iter().map(input).collect()
    }

    /// The parameters of an operation. A cap is positive and finite.
    pub(crate) fn params_of(&self, op: Op) -> &[f64] {
        match op.info().params {
            ["cap"] if !op::is_cap(self.params[0]) => &[30.0],
            row => &self.params[..row.len()],
        }
    }

    /// The element of a broadcast input for an element of x.
    pub(crate) fn at<U: Copy>(&self, bound: &Bound<U, Host<U>>, i: usize) -> Option<U> {
        match bound {
            Bound::Absent => None,
            Bound::Value(value) => Some(*value),
            Bound::Tensor(host) => Some(host.data[self.index_in(&host.dims, i)]),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let bound = |bound: &Bound<T, Host<T>>| match bound {
            Bound::Absent => "none".into(),
            Bound::Value(value) => format!("{value:?}"),
            Bound::Tensor(tensor) => format!("a tensor of {:?}", tensor.dims),
        };
        format!("lo {}, hi {}, x of {:?}", bound(&self.lo), bound(&self.hi), self.dims)
    }

    /// Whether an output is needed: an absent bound has no gradient.
    pub(crate) fn needs(&self, op: Op, output: Operand) -> bool {
        let inputs = self.broadcast(op);
        inputs.iter().all(|&(input, given)| output.gradient_of() != Some(input) || !given.is_absent())
    }

    pub(crate) fn run_reference(
        &self,
        oracle: &Oracle<T>,
        Variant { op, in_place: _, rule, quant }: Variant,
    ) -> Results<T> {
        let (outputs, inputs) = (op.info().outputs, self.broadcast(op));
        let evaluate = |i: usize| {
            let broadcast: Vec<_> = inputs.iter().map(|(_, input)| self.at(input, i)).collect();
            let (broadcast, params) = (&broadcast[..], self.params_of(op));
            (oracle.evaluate)(
                op,
                Operands { x: self.x[i], g: self.g[i], broadcast, rule, quant, params, index: i as u64 },
            )
        };
        let made = parallel::map_many(self.x.len(), &evaluate);
        let results = (0..outputs.len()).map(|index| made.iter().map(|made| made[index]).collect::<Vec<T>>());
        let results = outputs.iter().copied().zip(results).filter(|(output, _)| self.needs(op, *output));
        let summed = |(output, result): (Operand, Vec<T>)| {
            let of = inputs.iter().find(|&&(input, _)| output.gradient_of() == Some(input));
            (output, of.map_or_else(|| result.clone(), |(_, of)| self.reduce(oracle, of, &result)))
        };
        results.map(summed).collect()
    }

    /// The index in a broadcast input for element `i` of x: numpy's rule, dimension by dimension.
    pub(crate) fn index_in(&self, dims: &[usize], i: usize) -> usize {
        let missing = self.dims.len() - dims.len();
        let (mut rest, mut index, mut stride) = (i, 0, 1);
        for d in (0..self.dims.len()).rev() {
            let at = rest % self.dims[d];
            rest /= self.dims[d];
            if d >= missing {
                let len = dims[d - missing];
                index += if len == 1 { 0 } else { at * stride };
                stride *= len;
            }
        }
        index
    }

    /// An elementwise gradient, summed to the shape of a bound.
    fn reduce(&self, oracle: &Oracle<T>, bound: &Bound<T, Host<T>>, gradient: &[T]) -> Vec<T> {
        let Bound::Tensor(host) = bound else { return vec![(oracle.sum)(gradient)] };
        let mut leaves = vec![Vec::new(); host.data.len()];
        for (i, &g) in gradient.iter().enumerate() {
            leaves[self.index_in(&host.dims, i)].push(g);
        }
        leaves.iter().map(|leaves| (oracle.sum)(leaves)).collect()
    }
}
