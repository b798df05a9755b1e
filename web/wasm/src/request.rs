//! Requests: what the words mean.

use wgclip::plan::{Limits, Plans, Slice};
use wgclip::{
    BackwardRule, Bound, BoundRounding, DeviceKind, ElementType, Error, NonFinite, NormKind, NormLimit,
    Number, Op, ResolvedBounds, Result, Shape,
};

/// The words of a request, read one after the other.
pub(crate) struct Request {
    words: std::vec::IntoIter<f64>,
}

/// The error of a request that this module does not understand: a fault of the package, not of its user.
pub(crate) fn malformed() -> Error {
    Error::Unsupported {
        what: "this request".into(),
        device: "this build of wgclip".into(),
        instead: "take the module and the package from one build".into(),
    }
}

fn item<T: Copy>(list: &[T], index: usize) -> Result<T> {
    list.get(index).copied().ok_or_else(malformed)
}

impl Request {
    pub(crate) fn new(words: Vec<f64>) -> Self {
        Self { words: words.into_iter() }
    }

    pub(crate) fn float(&mut self) -> Result<f64> {
        self.words.next().ok_or_else(malformed)
    }

    pub(crate) fn integer(&mut self) -> Result<u64> {
        self.float().map(|word| word as u64)
    }

    pub(crate) fn index(&mut self) -> Result<usize> {
        self.float().map(|word| word as usize)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        self.float().map(|word| word != 0.0)
    }

    pub(crate) fn element(&mut self) -> Result<ElementType> {
        item(ElementType::ALL, self.index()?)
    }

    pub(crate) fn operation(&mut self) -> Result<Op> {
        item(Op::ALL, self.index()?)
    }

    pub(crate) fn rule(&mut self) -> Result<BackwardRule> {
        let index = self.index()?;
        BackwardRule::all().nth(index).ok_or_else(malformed)
    }

    pub(crate) fn limit(&mut self) -> Result<NormLimit> {
        let (limit, kind, eps) = (self.float()?, item(&NormKind::ALL, self.index()?)?, self.float()?);
        let nonfinite = item(&NonFinite::ALL, self.index()?)?;
        Ok(NormLimit::new(limit).kind(kind).eps(eps).nonfinite(nonfinite))
    }

    /// Plans for a device: whether it is software, and its limits.
    pub(crate) fn plans(&mut self) -> Result<Plans> {
        let kind = if self.flag()? { DeviceKind::Software } else { DeviceKind::Gpu };
        let limits = Limits {
            max_binding: self.integer()?,
            offset_alignment: self.integer()?,
            max_workgroups: self.float()? as u32,
            max_buffers: self.float()? as u32,
        };
        Ok(Plans::new("this GPU", kind, limits))
    }

    pub(crate) fn shape(&mut self) -> Result<Shape> {
        let axes = self.index()?;
        let dims = (0..axes).map(|_| self.index()).collect::<Result<Vec<_>>>()?;
        Shape::new(dims)
    }

    pub(crate) fn slice(&mut self) -> Result<Slice> {
        Ok(Slice { operand: self.index()?, offset: self.integer()?, bytes: self.integer()? })
    }

    /// Both bounds, less what their types say.
    pub(crate) fn sides(&mut self) -> Result<Sides> {
        let mut rounding = BoundRounding::Nearest;
        Ok(Sides([self.side(&mut rounding)?, self.side(&mut rounding)?], rounding))
    }

    fn side(&mut self, rounding: &mut BoundRounding) -> Result<Side> {
        Ok(match self.index()? {
            0 => Side::Absent,
            1 => Side::Value(Number::Float(self.float()?)),
            2 => {
                let negative = self.flag()?;
                let mut magnitude = 0;
                for _ in 0..3 {
                    magnitude = magnitude << 32 | i128::from(self.integer()?);
                }
                Side::Value(Number::Integer(if negative { -magnitude } else { magnitude }))
            }
            3 => Side::Value(Number::Beyond { negative: self.flag()? }),
            // A number that is rounded inward; where one is, both are.
            5 => {
                *rounding = BoundRounding::Inward;
                self.side(rounding)?
            }
            _ => Side::Tensor(self.slice()?, self.shape()?),
        })
    }
}

/// Both bounds, and how those that are numbers are rounded.
pub(crate) struct Sides([Side; 2], BoundRounding);

/// One bound.
enum Side {
    Absent,
    Value(Number),
    Tensor(Slice, Shape),
}

impl Sides {
    /// The shape of the gradient of a bound.
    pub(crate) fn shape(&self, side: usize) -> Result<Shape> {
        match &self.0[side] {
            Side::Tensor(_, shape) => Ok(shape.clone()),
            _ => Shape::new([]),
        }
    }

    /// The bounds of elements of a type. `operand` gives what a slice of so many elements is to whoever takes them.
    pub(crate) fn resolve<B>(
        &self,
        element: ElementType,
        x: &Shape,
        operand: impl Fn(Slice, usize) -> Result<B>,
    ) -> Result<ResolvedBounds<B>> {
        let mut bounds = [Bound::Absent, Bound::Absent];
        for (bound, side) in bounds.iter_mut().zip(&self.0) {
            *bound = match side {
                Side::Absent => Bound::Absent,
                Side::Value(number) => Bound::Value(*number),
                Side::Tensor(slice, shape) => Bound::Tensor((operand(*slice, shape.len())?, shape)),
            };
        }
        ResolvedBounds::of_numbers(element, x, bounds, self.1)
    }
}

/// Whether bounds are those of elements of a type: the type, x's shape, the bounds.
pub(crate) fn check_bounds(request: &mut Request) -> Result<()> {
    let (element, x, sides) = (request.element()?, request.shape()?, request.sides()?);
    sides.resolve(element, &x, |slice, _| Ok(slice)).map(drop)
}
