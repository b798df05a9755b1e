//! Clipping by norm: the kind of norm, its limit, and what happens if it is not finite.

pub(crate) mod exact;
mod state;

use std::fmt;
use std::str::FromStr;

pub use crate::tensor::{AnyTensor, GlobalNorm, clip_by_global_norm, global_norm, scale_in_place};
pub use state::NormState;

use crate::{Element, Error, Result};
use exact::ReduceOp;

/// A norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NormKind {
    /// The sum of the magnitudes.
    L1,
    /// The square root of the sum of the squares.
    #[default]
    L2,
    /// The greatest magnitude.
    Max,
}

impl NormKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::L1, Self::L2, Self::Max];

    /// Its name: `"l1"`, `"l2"` or `"max"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Max => "max",
        }
    }

    pub(crate) const fn reduce_op(self) -> ReduceOp {
        match self {
            Self::L1 => ReduceOp::SumAbs,
            Self::L2 => ReduceOp::SumSquares,
            Self::Max => ReduceOp::MaxAbs,
        }
    }
}

impl fmt::Display for NormKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NormKind {
    type Err = Error;

    /// Parses its [name](Self::name), or the number that numpy and torch use for it: `"1"`, `"2"`, `"inf"`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "1" => Ok(Self::L1),
            "2" => Ok(Self::L2),
            "inf" => Ok(Self::Max),
            _ => Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| unknown(name)),
        }
    }
}

/// What happens to elements whose norm is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NonFinitePolicy {
    /// The arithmetic result: with an infinite norm finite elements are scaled to 0, and NaN spreads.
    #[default]
    Propagate,
    /// All elements become +0.
    Zero,
    /// All elements are unchanged.
    Skip,
    /// The same, and [`Error::NonFiniteNorm`] is returned: at once on the CPU; on a GPU, which does not wait for it, by the
    /// next call that reads or waits.
    Error,
}

impl NonFinitePolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Propagate, Self::Zero, Self::Skip, Self::Error];

    /// Its name: `"propagate"`, `"zero"`, `"skip"` or `"error"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Propagate => "propagate",
            Self::Zero => "zero",
            Self::Skip => "skip",
            Self::Error => "error",
        }
    }
}

impl FromStr for NonFinitePolicy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Error {
    Error::UnknownName { name: name.into() }
}

/// The maximum norm, and the other parameters of clipping by norm.
///
/// ```
/// use wgclip::{Device, NonFinitePolicy, NormKind, NormLimit};
///
/// let x = Device::cpu().tensor(&[3.0f32, 4.0], [2])?;
/// assert_eq!(x.clip_by_norm(2.5, ..)?.to_vec()?, [1.5, 2.0]);
/// let limit = NormLimit::new(3.5).kind(NormKind::L1).nonfinite(NonFinitePolicy::Skip);
/// assert_eq!(x.clip_by_norm(limit, ..)?.to_vec()?, [1.5, 2.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormLimit {
    /// The maximum norm: not negative, not NaN.
    pub max_norm: f64,
    /// Which norm.
    pub kind: NormKind,
    /// Added to the norm before the limit is divided by it.
    pub eps: f64,
    /// What happens to elements whose norm is not finite.
    pub nonfinite: NonFinitePolicy,
}

impl NormLimit {
    /// The names of the presets.
    pub const PRESETS: [&str; 5] = ["torch", "tensorflow", "keras", "optax", "jax"];

    /// A limit of the 2-norm, without eps.
    pub const fn new(max_norm: f64) -> Self {
        Self { max_norm, kind: NormKind::L2, eps: 0.0, nonfinite: NonFinitePolicy::Propagate }
    }

    /// The limit of torch's `clip_grad_norm_`, which adds 1e-6 to the norm. Errors of frameworks are not imitated: see
    /// [`like`](Self::like).
    pub const fn torch(max_norm: f64) -> Self {
        Self::new(max_norm).eps(1e-6)
    }

    /// Sets the kind of norm.
    #[must_use]
    pub const fn kind(self, kind: NormKind) -> Self {
        Self { kind, ..self }
    }

    /// Sets the eps.
    #[must_use]
    pub const fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Sets the policy for norms that are not finite.
    #[must_use]
    pub const fn nonfinite(self, nonfinite: NonFinitePolicy) -> Self {
        Self { nonfinite, ..self }
    }

    /// The coefficient of a framework: `torch` adds 1e-6 to the norm, the others add nothing. Their errors are not
    /// imitated: norms that overflow or vanish, and elements that change although their norm is at the limit.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name that is not in [`PRESETS`](Self::PRESETS).
    pub fn like(preset: &str, max_norm: f64) -> Result<Self> {
        match preset {
            "torch" => Ok(Self::torch(max_norm)),
            "tensorflow" | "keras" | "optax" | "jax" => Ok(Self::new(max_norm)),
            name => Err(unknown(name)),
        }
    }

    /// # Errors
    /// [`Error::InvalidLimit`] if limit or eps are negative or NaN, or eps is infinite.
    pub(crate) fn check(&self) -> Result<()> {
        let valid = self.max_norm >= 0.0 && self.eps >= 0.0 && self.eps.is_finite();
        if valid {
            return Ok(());
        }
        Err(Error::InvalidLimit { limit: self.max_norm.to_string(), eps: self.eps.to_string() })
    }
}

impl From<f64> for NormLimit {
    fn from(max_norm: f64) -> Self {
        Self::new(max_norm)
    }
}

/// What clipping by norm does to elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling<N> {
    /// Nothing: elements keep their bits.
    Keep,
    /// All become +0.
    Zero,
    /// They are multiplied.
    By(N),
}

impl<N: Element> Scaling<N> {
    /// Returns the same scaling with its coefficient in f64, which holds every f32.
    pub fn to_f64(self) -> Scaling<f64> {
        match self {
            Self::Keep => Scaling::Keep,
            Self::Zero => Scaling::Zero,
            Self::By(coefficient) => Scaling::By(coefficient.to_f64()),
        }
    }
}

/// What clipping by the 2-norm does to the gradient of elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalingBackward<N> {
    /// Nothing: x receives the upstream gradient, with its bits.
    Keep,
    /// x receives +0.
    Zero,
    /// x receives NaN: its norm is not finite, and has no gradient.
    Nan,
    /// x receives `coefficient * g - projection * (x * unit)`.
    By {
        /// The coefficient of the elements.
        coefficient: N,
        /// The power of two that normalises x by the exponent of its norm.
        unit: N,
        /// How much of the normalised x is subtracted.
        projection: N,
    },
}
