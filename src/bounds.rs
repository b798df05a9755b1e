//! The bounds that values are clipped to.

mod number;

use crate::broadcast::check_not_nan;
use crate::op::Operand;
use crate::{Element, Result, Tensor};

pub use crate::broadcast::BroadcastInputs;
pub use crate::tensor::{Bounds, IntoBounds};
pub use number::{BoundRounding, Number};

/// One end of the interval: absent, one value for all elements, or a tensor of values.
#[derive(Debug, Clone, Default)]
pub enum Bound<T, S = Tensor<T>> {
    /// No limit: infinities pass, and nothing ties with it.
    #[default]
    Absent,
    /// One value for all.
    Value(T),
    /// A tensor that broadcasts to the one that is clipped, by numpy's rules. A NaN in it propagates.
    Tensor(S),
}

impl<T: Element, S> Bound<T, S> {
    /// The value, if it is one.
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(*value),
            _ => None,
        }
    }

    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&S> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Whether there is no bound.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(crate) fn checked(self, operand: Operand) -> Result<Self> {
        match self {
            Self::Value(value) => check_not_nan(value, operand).map(Self::Value),
            bound => Ok(bound),
        }
    }
}
