//! The operands of operations, by what they are.

/// What an operand of an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operand {
    /// The tensor that the operation works on.
    X,
    /// The upstream gradient.
    G,
    /// The lower bound.
    Lo,
    /// The upper bound.
    Hi,
    /// The slope beyond the bounds.
    Slope,
    /// The difference of the values of two codes that follow one another.
    Scale,
    /// The code whose value is 0.
    ZeroPoint,
    /// One bit per element: whether the gradient reaches x.
    Mask,
    /// The result of a forward pass.
    Y,
    /// The gradient that reaches x.
    Gx,
    /// The gradient that reaches the lower bound.
    Glo,
    /// The gradient that reaches the upper bound.
    Ghi,
    /// The gradient that reaches the slope.
    Gslope,
    /// The gradient that reaches the scale.
    Gscale,
    /// The gradient that reaches the zero point.
    Gzero,
    /// The sum of each slice.
    Sum,
    /// The norm of each slice.
    Norm,
}

impl Operand {
    /// Its name in the shaders and in reports, and what it is called in a sentence.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::X => ("x", "tensor"),
            Self::G => ("g", "upstream gradient"),
            Self::Lo => ("lo", "lower bound"),
            Self::Hi => ("hi", "upper bound"),
            Self::Slope => ("slope", "slope"),
            Self::Scale => ("scale", "scale"),
            Self::ZeroPoint => ("zero_point", "zero point"),
            Self::Mask => ("mask", "mask"),
            Self::Y => ("y", "result"),
            Self::Gx => ("gx", "gradient of x"),
            Self::Glo => ("glo", "gradient of the lower bound"),
            Self::Ghi => ("ghi", "gradient of the upper bound"),
            Self::Gslope => ("gslope", "gradient of the slope"),
            Self::Gscale => ("gscale", "gradient of the scale"),
            Self::Gzero => ("gzero", "gradient of the zero point"),
            Self::Sum => ("sum", "sum"),
            Self::Norm => ("norm", "norm"),
        }
    }

    /// The broadcast input that it is the gradient of: it has one element for each of x, which are summed to the shape of that input.
    pub const fn gradient_of(self) -> Option<Self> {
        match self {
            Self::Glo => Some(Self::Lo),
            Self::Ghi => Some(Self::Hi),
            Self::Gslope => Some(Self::Slope),
            Self::Gscale => Some(Self::Scale),
            Self::Gzero => Some(Self::ZeroPoint),
            _ => None,
        }
    }

    /// Whether it is a bound, which may be absent.
    pub const fn is_bound(self) -> bool {
        matches!(self, Self::Lo | Self::Hi)
    }

    /// Its name in the shaders and in reports.
    pub const fn name(self) -> &'static str {
        self.names().0
    }

    /// What a sentence calls it: `"lower bound"`.
    pub const fn noun(self) -> &'static str {
        self.names().1
    }

    /// Names, for a message.
    pub(crate) fn list(operands: &[Self]) -> String {
        operands.iter().map(|operand| operand.name()).collect::<Vec<_>>().join(", ")
    }
}
