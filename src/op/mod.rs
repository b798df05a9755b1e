//! The list of operations, as data. Everything that treats operations alike follows from it: the kernels' bindings and
//! entry points, both backends, conformance, the benchmarks, the fuzz target and the kernels for the caller's own passes.
//!
//! To add one: a row here, its function in [`mod@crate::reference`], its twin `shaders/<name>.wgsl`, the same for the CPU in
//! `backend/cpu/functions.rs`, and a method of [`Tensor`](crate::Tensor).

mod operand;
mod row;

use std::fmt;

pub use crate::broadcast::MAX_BROADCAST;
pub use crate::call::Arguments;
use crate::element::convert;
use crate::quantize::{CodeFormat, QuantRule};
use crate::{BackwardRule, ElementType, Error, Result};

pub use operand::Operand;
pub use row::{Accuracy, Codes, Domain, MAX_OUTPUTS, OpInfo, Pass, RuleUse};
pub(crate) use row::{MAX_PARAMS, first_outputs};

/// A row: the operation's function in the shader of its name, or of another's.
macro_rules! row {
    ($name:literal { $($row:tt)* }) => { row!($name in $name { $($row)* }) };
    ($name:literal in $module:literal { $($field:ident: $value:expr,)* ..$like:expr }) => {
        OpInfo {
            name: $name,
            module: $module,
            shader: include_str!(concat!("../../shaders/", $module, ".wgsl")),
            $($field: $value,)*
            ..$like
        }
    };
}

macro_rules! ops {
    (
        elements { $($(#[$doc:meta])* $variant:ident: $name:literal $(in $module:literal)? { $($info:tt)* };)+ }
        slices { $($(#[$of:meta])* $slices:ident: $called:literal in $file:literal { $($row:tt)* };)+ }
    ) => {
        /// An operation of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Op {
            $($(#[$doc])* $variant,)+
            $($(#[$of])* $slices,)+
        }

        impl Op {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+ $(Self::$slices,)+];

            /// Those that go over [elements](Pass::Elements): what [`cpu::run`](crate::cpu::run), the kernels and the plans of
            /// elementwise operations take.
            pub const ELEMENTWISE: &[Self] = &[$(Self::$variant),+];

            /// Those that go over [slices](Pass::Slices).
            pub const SLICES: &[Self] = &[$(Self::$slices),+];

            /// Its row in the list.
            pub const fn info(self) -> &'static OpInfo {
                match self {
                    $(Self::$variant => const { &row!($name $(in $module)? { $($info)* }) },)+
                    $(Self::$slices => const { &row!($called in $file { $($row)* }) },)+
                }
            }
        }
    };
}

use Operand::{
    G, Ghi, Glo, Gscale, Gslope, Gx, Gzero, Hi, Lo, Mask, Norm, Scale, Slope, Sum, X, Y, ZeroPoint,
};

/// What most operations are: forward, in place too, between bounds.
const FORWARD: OpInfo = OpInfo {
    name: "",
    inputs: &[X],
    broadcast: &[Lo, Hi],
    outputs: &[Y],
    in_place: Some(X),
    params: &[],
    rule: RuleUse::Ignored,
    domain: Domain::All,
    accuracy: Accuracy::Selected,
    converts: false,
    codes: Codes::None,
    pass: Pass::Elements,
    shader: "",
    module: "",
};

/// The same for the backward pass to x.
const BACKWARD: OpInfo =
    OpInfo { inputs: &[X, G], outputs: &[Gx], in_place: Some(G), rule: RuleUse::Any, ..FORWARD };

/// A function of x that bounds it.
const ACTIVATION: OpInfo =
    OpInfo { broadcast: &[], domain: Domain::Floats32, accuracy: Accuracy::RoundedOnce, ..FORWARD };

/// Its gradient, from its result.
const ACTIVATION_BACKWARD: OpInfo =
    OpInfo { inputs: &[Y, G], outputs: &[Gx], in_place: Some(G), ..ACTIVATION };

/// What is scaled by its norm.
const SCALED: OpInfo = OpInfo {
    broadcast: &[],
    in_place: None,
    domain: Domain::Arithmetic,
    accuracy: Accuracy::RoundedOnce,
    pass: Pass::Slices,
    ..FORWARD
};

ops! {
    elements {
    /// `min(max(x, lo), hi)`: [`reference::clip`](crate::reference::clip).
    Clip: "clip" { ..FORWARD };
    /// The same in another type of float: [`reference::clip_to`](crate::reference::clip_to).
    ClipTo: "clip_to" in "clip" {
        in_place: None, domain: Domain::Floats, accuracy: Accuracy::RoundedOnce, converts: true, ..FORWARD
    };
    /// The gradient that reaches x: [`reference::clip_backward`](crate::reference::clip_backward).
    ClipBackward: "clip_backward" { ..BACKWARD };
    /// The gradients that reach x and the bounds:
    /// [`reference::clip_backward_bounds`](crate::reference::clip_backward_bounds).
    ClipBackwardBounds: "clip_backward_bounds" { outputs: &[Gx, Glo, Ghi], in_place: None, ..BACKWARD };
    /// Clip, and one bit per element that says whether its gradient reaches x.
    ClipWithMask: "clip_with_mask" {
        outputs: &[Y, Mask], in_place: None, rule: RuleUse::Mask, ..FORWARD
    };
    /// The gradient that reaches x, by such a mask.
    MaskBackward: "mask_backward" {
        inputs: &[Mask, G], broadcast: &[], rule: RuleUse::Ignored, ..BACKWARD
    };
    /// x beyond the bounds, zero between them: [`reference::hard_shrink`](crate::reference::hard_shrink).
    HardShrink: "hard_shrink" { ..FORWARD };
    /// Its gradient: [`reference::hard_shrink_backward`](crate::reference::hard_shrink_backward).
    HardShrinkBackward: "hard_shrink_backward" in "hard_shrink" { rule: RuleUse::Ignored, ..BACKWARD };
    /// A clip that goes on with a slope beyond its bounds: [`reference::leaky_clip`](crate::reference::leaky_clip).
    LeakyClip: "leaky_clip" {
        broadcast: &[Lo, Hi, Slope], domain: Domain::Arithmetic, accuracy: Accuracy::Defined, ..FORWARD
    };
    /// Its gradients: [`reference::leaky_clip_backward`](crate::reference::leaky_clip_backward).
    LeakyClipBackward: "leaky_clip_backward" in "leaky_clip" {
        broadcast: &[Lo, Hi, Slope], outputs: &[Gx, Glo, Ghi, Gslope], in_place: None, rule: RuleUse::Ignored,
        domain: Domain::Arithmetic, accuracy: Accuracy::Defined, ..BACKWARD
    };
    /// The values of codes: [`reference::fake_quantize`](crate::reference::fake_quantize).
    FakeQuantize: "fake_quantize" in "quantize" {
        broadcast: &[Scale, ZeroPoint], rule: RuleUse::Quant, domain: Domain::Arithmetic, accuracy: Accuracy::RoundedOnce, ..FORWARD
    };
    /// Their gradients: [`reference::fake_quantize_backward`](crate::reference::fake_quantize_backward).
    FakeQuantizeBackward: "fake_quantize_backward" in "quantize" {
        broadcast: &[Scale, ZeroPoint], outputs: &[Gx, Gscale, Gzero], in_place: None, rule: RuleUse::Quant,
        domain: Domain::Arithmetic, accuracy: Accuracy::Defined, ..BACKWARD
    };
    /// The codes of floats: [`reference::quantize`](crate::reference::quantize).
    Quantize: "quantize" {
        broadcast: &[Scale, ZeroPoint], in_place: None, rule: RuleUse::Quant, domain: Domain::Arithmetic, accuracy: Accuracy::RoundedOnce,
        converts: true, codes: Codes::Output, ..FORWARD
    };
    /// The values of codes: [`reference::dequantize`](crate::reference::dequantize).
    Dequantize: "dequantize" in "quantize" {
        broadcast: &[Scale, ZeroPoint], in_place: None, rule: RuleUse::Quant, domain: Domain::Codes, accuracy: Accuracy::RoundedOnce,
        converts: true, codes: Codes::Input, ..FORWARD
    };
    /// Pairs of 4-bit codes, each in a byte, in one byte: [`reference::pack4`](crate::reference::pack4).
    Pack4: "pack4" {
        broadcast: &[], in_place: None, domain: Domain::Pairs, converts: true, codes: Codes::Both, ..FORWARD
    };
    /// 4-bit codes, two a byte, each in a byte: [`reference::unpack4`](crate::reference::unpack4).
    Unpack4: "unpack4" in "pack4" {
        broadcast: &[], in_place: None, rule: RuleUse::Quant, domain: Domain::Packed, converts: true, codes: Codes::Both, ..FORWARD
    };
    /// `scale * x + offset`: [`reference::affine`](crate::reference::affine).
    Affine: "affine" {
        broadcast: &[], params: &["scale", "offset"], domain: Domain::Arithmetic, accuracy: Accuracy::Defined, ..FORWARD
    };
    /// The hyperbolic tangent: [`reference::tanh`](crate::reference::tanh).
    Tanh: "tanh" { ..ACTIVATION };
    /// Its gradient, from its result: [`reference::tanh_backward`](crate::reference::tanh_backward).
    TanhBackward: "tanh_backward" in "tanh" { ..ACTIVATION_BACKWARD };
    /// `cap * tanh(x / cap)`: [`reference::soft_cap`](crate::reference::soft_cap).
    SoftCap: "soft_cap" { params: &["cap"], accuracy: Accuracy::Defined, ..ACTIVATION };
    /// Its gradient, from its result: [`reference::soft_cap_backward`](crate::reference::soft_cap_backward).
    SoftCapBackward: "soft_cap_backward" in "soft_cap" {
        params: &["cap"], accuracy: Accuracy::Defined, ..ACTIVATION_BACKWARD
    };
    /// The logistic function: [`reference::sigmoid`](crate::reference::sigmoid).
    Sigmoid: "sigmoid" { ..ACTIVATION };
    /// Its gradient, from its result: [`reference::sigmoid_backward`](crate::reference::sigmoid_backward).
    SigmoidBackward: "sigmoid_backward" in "sigmoid" { ..ACTIVATION_BACKWARD };
    }
    slices {
    /// The sum of each slice: [`reference::sum`](crate::reference::sum).
    Sum: "sum" in "reduce" { outputs: &[Sum], domain: Domain::All, ..SCALED };
    /// The norm of each slice: [`reference::norm`](crate::reference::norm).
    Norm: "norm" in "reduce" { outputs: &[Norm], ..SCALED };
    /// Each slice scaled down to a norm: [`reference::scaling`](crate::reference::scaling) and [`reference::scale`](crate::reference::scale).
    ClipByNorm: "clip_by_norm" in "scale" { ..SCALED };
    /// Its gradient: [`reference::scale_backward`](crate::reference::scale_backward).
    ClipByNormBackward: "clip_by_norm_backward" in "scale" {
        inputs: &[X, G], outputs: &[Gx], accuracy: Accuracy::Defined, ..SCALED
    };
    /// `exp(x)` divided by the sum of those of the slice: [`reference::softmax`](crate::reference::softmax()).
    Softmax: "softmax" in "softmax" { domain: Domain::Floats32, accuracy: Accuracy::Defined, ..SCALED };
    /// Its gradient, from its result: [`reference::softmax_backward`](crate::reference::softmax_backward).
    SoftmaxBackward: "softmax_backward" in "softmax" {
        inputs: &[Y, G], outputs: &[Gx], domain: Domain::Floats32, accuracy: Accuracy::Defined, ..SCALED
    };
    /// Tensors of a list scaled down, in place, to a norm of all together.
    ClipByGlobalNorm: "clip_by_global_norm" in "scale" { outputs: &[Y, Norm], in_place: Some(X), ..SCALED };
    }
}

impl Op {
    /// Its name.
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// The operation of a name, or `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.name() == name)
    }

    /// Each elementwise operation, and again each that works in place.
    pub fn variants() -> impl Iterator<Item = (Self, bool)> {
        Self::ELEMENTWISE.iter().flat_map(|&op| {
            let in_place = op.info().in_place.map(|_| (op, true));
            std::iter::once((op, false)).chain(in_place)
        })
    }

    /// The name of a variant: `"clip"`, or `"clip_in_place"`.
    pub fn variant_name(self, in_place: bool) -> String {
        format!("{}{}", self.name(), if in_place { "_in_place" } else { "" })
    }

    /// Whether it is for elements of a type, if they are on a GPU or not.
    pub fn is_for(self, element: ElementType, on_gpu: bool) -> bool {
        match self.info().domain {
            Domain::All => true,
            Domain::Floats => element.is_float(),
            Domain::Arithmetic => element.is_float() && !(on_gpu && element == ElementType::F64),
            Domain::Floats32 => element.is_float() && element != ElementType::F64,
            Domain::Codes => element.is_code(),
            Domain::Pairs => element == ElementType::U16,
            Domain::Packed => element == ElementType::U8,
        }
    }

    /// Refuses elements of a type that the operation is for on no device.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub(crate) fn check_domain(self, element: ElementType) -> Result<()> {
        if self.is_for(element, false) {
            return Ok(());
        }
        let instead = match self.info().domain {
            Domain::Floats32 => "it takes floats of up to 32 bits",
            _ => "it takes floats",
        };
        Err(Error::Unsupported {
            what: format!("{self} of {element}"),
            device: "any device".into(),
            instead: instead.into(),
        })
    }

    /// Whether it makes elements of a type from those of another.
    pub fn makes(self, element: ElementType, to: ElementType) -> bool {
        match (self.info().codes, self.info().domain) {
            (Codes::None, _) => convert::converts(element, to),
            (Codes::Output, _) => element.is_float() && to.is_code(),
            (Codes::Input, _) => element.is_code() && to.is_float(),
            (Codes::Both, Domain::Pairs) => (element, to) == (ElementType::U16, ElementType::U8),
            (Codes::Both, _) => (element, to) == (ElementType::U8, ElementType::U16),
        }
    }

    /// Refuses codes that their type does not hold, or not in the format or with the rounding that a rule says.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_codes(self, quant: QuantRule, element: ElementType, to: ElementType) -> Result<()> {
        match (self.info().codes, quant.format) {
            (Codes::Output, _) => quant.check_fits(to),
            (Codes::Input, _) => quant.check_format(element),
            (Codes::None, CodeFormat::E2M1) if self.info().rule == RuleUse::Quant => {
                Err(Error::Unsupported {
                    what: format!("{self} to {}", quant.format),
                    device: "any device".into(),
                    instead: "quantize to codes, and dequantize them".into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The type of its broadcast inputs, for elements and an output of these types: that of the elements. For operations on [`Codes`] it is f32,
    /// or f64 where the floats are f64.
    pub fn broadcast_type(self, element: ElementType, to: ElementType) -> ElementType {
        match self.info().codes {
            Codes::None | Codes::Both => element,
            _ if element == ElementType::F64 || to == ElementType::F64 => ElementType::F64,
            _ => ElementType::F32,
        }
    }

    /// The type of its codes, for elements and an output of these types: `None` for an operation without codes.
    pub fn code_type(self, element: ElementType, to: ElementType) -> Option<ElementType> {
        match self.info().codes {
            Codes::None | Codes::Both => None,
            Codes::Output => Some(to),
            Codes::Input => Some(element),
        }
    }

    /// The sets of outputs for which kernels are listed: all, and of gradients of broadcast inputs all but the last, and the last.
    #[cfg(feature = "gpu")]
    pub(crate) fn output_sets(self) -> Vec<[bool; MAX_OUTPUTS]> {
        let outputs = self.info().outputs;
        let count = outputs.len();
        let mut sets = vec![first_outputs(count)];
        if outputs.iter().any(|output| output.gradient_of().is_some()) {
            sets.extend([first_outputs(count - 1), std::array::from_fn(|index| index + 1 == count)]);
        }
        sets
    }

    /// Whether an operand is among its inputs or outputs.
    pub fn has(self, operand: Operand) -> bool {
        self.info().inputs.contains(&operand) || self.info().outputs.contains(&operand)
    }

    /// The operand whose element count is that of the work: the first that is no mask.
    pub(crate) fn shaped_input(self) -> usize {
        self.info().inputs.iter().position(|&input| input != Mask).unwrap_or(0)
    }

    /// The index among the inputs of the one that may be overwritten.
    pub fn in_place_input(self) -> Option<usize> {
        let target = self.info().in_place?;
        self.info().inputs.iter().position(|&input| input == target)
    }

    /// The index of the upstream gradient among the inputs, where the rule makes it the gradient of x: no kernel computes that then.
    pub fn identity_input(self, rule: BackwardRule) -> Option<usize> {
        let info = self.info();
        let passes = info.rule == RuleUse::Any && rule.is_identity();
        passes.then(|| info.inputs.iter().position(|&input| input == G)).flatten()
    }

    /// Whether a kernel can follow a rule.
    ///
    /// # Errors
    /// [`Error::RuleWithoutKernel`].
    pub(crate) fn check_rule(self, rule: BackwardRule) -> Result<()> {
        let advice = match self.info().rule {
            RuleUse::Ignored | RuleUse::Quant => return Ok(()),
            _ if rule.is_identity() => "the gradient is the upstream gradient, use that",
            RuleUse::Mask if !rule.fits_mask() => {
                "one bit per element cannot tell its gradient: keep x, and use clip_backward"
            }
            _ => return Ok(()),
        };
        Err(Error::RuleWithoutKernel { op: self.name(), rule: rule.to_string(), advice })
    }
}

/// Whether a number can be the parameter `cap`: a positive finite f32.
pub fn is_cap(value: f64) -> bool {
    let rounded = value as f32;
    rounded > 0.0 && rounded.is_finite()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_consistent() {
        for &op in Op::ALL {
            let info = op.info();
            assert_eq!(Op::from_name(info.name), Some(op));
            assert!(info.inputs.iter().all(|input| !info.outputs.contains(input)), "{op}");
            assert!((1..=MAX_OUTPUTS).contains(&info.outputs.len()) && info.inputs.len() <= 2, "{op}");
            assert!(info.broadcast.len() <= MAX_BROADCAST && info.params.len() <= MAX_PARAMS, "{op}");
            let gradients = info.outputs.iter().filter_map(|output| output.gradient_of());
            assert!(gradients.clone().all(|of| info.broadcast.contains(&of)), "{op}");
            // The shaders take both bounds together, before what else broadcasts.
            assert!(!info.has_bounds() || info.broadcast.starts_with(&[Lo, Hi]), "{op}");
            assert_eq!(info.in_place.is_some(), op.in_place_input().is_some(), "{op}");
        }
    }

    #[test]
    fn the_table_of_packages_has_every_operation() {
        let table = include_str!("../../docs/operations.md");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let names: Vec<_> = rows.map(|(name, _)| name).collect();
        assert_eq!(names, Op::ALL.iter().map(|op| op.name()).collect::<Vec<_>>());
        assert_eq!(Op::ALL, [Op::ELEMENTWISE, Op::SLICES].concat());
        assert!(Op::SLICES.iter().all(|op| op.info().pass == Pass::Slices));
        assert!(Op::ELEMENTWISE.iter().all(|op| op.info().pass == Pass::Elements));
    }
}
