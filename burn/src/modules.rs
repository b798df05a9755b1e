//! Layers that limit their outputs.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use wgclip::{BackwardRule, Error, NanRule, OutsideRule, Result, TieRule};

use crate::{Bounds, clip_with};

/// Clips its input between two values, like [`clip`](crate::clip).
#[derive(Module, Debug)]
pub struct ClipByValue {
    lo: f64,
    hi: f64,
    #[module(skip)]
    rule: BackwardRule,
}

impl ClipByValue {
    /// A layer that clips to `lo..=hi`; an infinite end means no bound. The gradient is that of Burn's
    /// own `clamp`. Bounds and rule are not parameters: a record does not contain them.
    ///
    /// # Errors
    /// [`Error::NanBound`].
    pub fn new(lo: f64, hi: f64) -> Result<Self> {
        for (bound, operand) in [(lo, "lower bound"), (hi, "upper bound")] {
            if bound.is_nan() {
                return Err(Error::NanBound { operand });
            }
        }
        Ok(Self { lo, hi, rule: BackwardRule::default() })
    }

    /// With another rule for the gradient.
    #[must_use]
    pub fn with_rule(self, rule: BackwardRule) -> Self {
        Self { rule, ..self }
    }

    /// Clips `x`, of any shape.
    ///
    /// # Panics
    /// Like Burn's own operations: on tensors of a type or a device without kernels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        apply(x, self.bounds(), self.rule)
    }

    fn bounds(&self) -> Bounds {
        let lo = (self.lo != f64::NEG_INFINITY).then_some(self.lo);
        (lo, (self.hi != f64::INFINITY).then_some(self.hi)).into()
    }
}

pub(crate) fn check(lo: f64, hi: f64, channels: usize, device: &Device) -> Result<()> {
    ClipByValue::new(lo, hi)?;
    match channels {
        0 => Err(Error::Unsupported {
            what: "learned bounds of 0 channels".into(),
            device: format!("{device:?}"),
            instead: "give 1, or as many as the last dimension has".into(),
        }),
        _ => Ok(()),
    }
}

/// A module's forward pass returns a plain tensor, like Burn's own modules.
fn apply<const D: usize>(x: Tensor<D>, bounds: Bounds, rule: BackwardRule) -> Tensor<D> {
    clip_with(x, bounds, rule).unwrap_or_else(|error| panic!("{error}"))
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, $lo:expr, $hi:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Module, Debug, Default)]
        pub struct $name {}

        impl $name {
            /// The layer.
            pub fn new() -> Self {
                Self {}
            }

            /// Clips `x`, of any shape.
            ///
            /// # Panics
            /// As [`ClipByValue::forward`].
            pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
                apply(x, ($lo..=$hi).into(), $rule)
            }
        }
    };
}

/// The rule of PyTorch's hard activations, and of learned bounds: the gradient of a tie goes to the bound.
const HARD: BackwardRule =
    BackwardRule { outside: OutsideRule::Masked, ties: TieRule::Exclusive, nan: NanRule::Pass };

fixed!(
    /// `min(max(x, -1), 1)`, with PyTorch's gradient.
    HardTanh, -1.0, 1.0, HARD
);

fixed!(
    /// `min(max(x, 0), 6)`, with PyTorch's gradient.
    Relu6, 0.0, 6.0, HARD
);

/// `min(max(x, -3), 3) / 6 + 1 / 2`, with PyTorch's gradient: 1/6 between -3 and 3, otherwise 0, also for NaN.
#[derive(Module, Debug, Default)]
pub struct HardSigmoid {}

impl HardSigmoid {
    /// The layer.
    pub fn new() -> Self {
        Self {}
    }

    /// The hard sigmoid of `x`, of any shape.
    ///
    /// # Panics
    /// As [`ClipByValue::forward`].
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let rule = BackwardRule { nan: NanRule::Zero, ..HARD };
        apply(x, (-3.0..=3.0).into(), rule).div_scalar(6.0).add_scalar(0.5)
    }
}

/// Clips its input between two values, and passes the whole gradient: for quantisers.
#[derive(Module, Debug)]
pub struct StraightThroughClip {
    clip: ClipByValue,
}

impl StraightThroughClip {
    /// A layer that clips to `lo..=hi`, like [`ClipByValue::new`].
    ///
    /// # Errors
    /// [`Error::NanBound`].
    pub fn new(lo: f64, hi: f64) -> Result<Self> {
        let rule = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
        Ok(Self { clip: ClipByValue::new(lo, hi)?.with_rule(rule) })
    }

    /// Clips `x`, of any shape.
    ///
    /// # Panics
    /// As [`ClipByValue::forward`].
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.clip.forward(x)
    }
}

/// Clips its input to learned bounds: one for all elements, or one for each channel, which is the last dimension.
///
/// A bound receives the gradient of elements that are clipped to it, or tie with it (PACT, Choi et al. 2018): sums are exact, and the
/// same on every device on which the kernels run.
#[derive(Module, Debug)]
pub struct LearnedClip {
    /// The lower bound, of shape `[1]` or `[channels]`, if it is learned.
    pub lo: Option<Param<Tensor<1>>>,
    /// The upper bound, of shape `[1]` or `[channels]`.
    pub hi: Param<Tensor<1>>,
    fixed_lo: f64,
    #[module(skip)]
    rule: BackwardRule,
}

impl LearnedClip {
    /// Both bounds are learned, with initial values `lo` and `hi`.
    ///
    /// # Errors
    /// [`Error::NanBound`]; [`Error::Unsupported`] for 0 channels.
    pub fn new(lo: f64, hi: f64, channels: usize, device: &Device) -> Result<Self> {
        check(lo, hi, channels, device)?;
        let bound = |value| Initializer::Constant { value }.init([channels], device);
        Ok(Self { lo: Some(bound(lo)), hi: bound(hi), fixed_lo: lo, rule: HARD })
    }

    /// Only the upper bound is learned, with initial value `hi`; the lower one is 0.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn pact(hi: f64, channels: usize, device: &Device) -> Result<Self> {
        check(0.0, hi, channels, device)?;
        let hi = Initializer::Constant { value: hi }.init([channels], device);
        Ok(Self { lo: None, hi, fixed_lo: 0.0, rule: HARD })
    }

    /// With another rule for the gradient.
    #[must_use]
    pub fn with_rule(self, rule: BackwardRule) -> Self {
        Self { rule, ..self }
    }

    /// Clips `x`, of any shape `[.., channels]`.
    ///
    /// # Panics
    /// As [`ClipByValue::forward`]; and if x and the bounds have different numbers of channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bounds = match &self.lo {
            Some(lo) => (lo.val(), self.hi.val()).into(),
            None => (self.fixed_lo, self.hi.val()).into(),
        };
        apply(x, bounds, self.rule)
    }
}
