//! Requests: what the words mean.

use wgclip::bounds::{BoundRounding, BroadcastInputs, Number};
use wgclip::device::DeviceKind;
use wgclip::op::{Op, Operand};
use wgclip::plan::{Limits, Plans, Slice};
use wgclip::{BackwardRule, Bound, ElementType, Error, NonFinitePolicy, NormKind, NormLimit, Result, Shape};

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
        item(Op::ELEMENTWISE, self.index()?)
    }

    pub(crate) fn rule(&mut self) -> Result<BackwardRule> {
        let index = self.index()?;
        BackwardRule::all().nth(index).ok_or_else(malformed)
    }

    pub(crate) fn limit(&mut self) -> Result<NormLimit> {
        let (limit, kind, eps) = (self.float()?, item(&NormKind::ALL, self.index()?)?, self.float()?);
        let nonfinite = item(&NonFinitePolicy::ALL, self.index()?)?;
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

    /// The broadcast inputs of an operation, less what their types say: how many there are, and each.
    pub(crate) fn broadcast(&mut self, op: Op) -> Result<Broadcast> {
        let mut rounding = BoundRounding::Nearest;
        let inputs = (0..self.index()?).map(|_| self.input(&mut rounding)).collect::<Result<Vec<_>>>()?;
        let operands = op.info().broadcast;
        if inputs.len() == operands.len() {
            Ok(Broadcast { operands, inputs, rounding })
        } else {
            Err(malformed())
        }
    }

    /// Parameters: how many there are, and each.
    pub(crate) fn params(&mut self) -> Result<Vec<f64>> {
        (0..self.index()?).map(|_| self.float()).collect()
    }

    fn input(&mut self, rounding: &mut BoundRounding) -> Result<Input> {
        Ok(match self.index()? {
            0 => Input::Absent,
            1 => Input::Value(Number::Float(self.float()?)),
            2 => {
                let negative = self.flag()?;
                let mut magnitude = 0;
                for _ in 0..3 {
                    magnitude = magnitude << 32 | i128::from(self.integer()?);
                }
                Input::Value(Number::Integer(if negative { -magnitude } else { magnitude }))
            }
            3 => Input::Value(Number::Beyond { negative: self.flag()? }),
            // A number that is rounded inward; where one is, both are.
            5 => {
                *rounding = BoundRounding::Inward;
                self.input(rounding)?
            }
            _ => Input::Tensor(self.slice()?, self.shape()?),
        })
    }
}

/// The broadcast inputs of an operation, and how bounds that are numbers are rounded.
pub(crate) struct Broadcast {
    operands: &'static [Operand],
    inputs: Vec<Input>,
    rounding: BoundRounding,
}

/// One of them.
enum Input {
    Absent,
    Value(Number),
    Tensor(Slice, Shape),
}

impl Broadcast {
    /// The shape of the gradient of an input.
    pub(crate) fn shape(&self, of: Operand) -> Result<Shape> {
        let index = self.operands.iter().position(|&operand| operand == of).ok_or_else(malformed)?;
        match &self.inputs[index] {
            Input::Tensor(_, shape) => Ok(shape.clone()),
            _ => Shape::new([]),
        }
    }

    /// The inputs for elements of a type. `operand` gives what a slice of so many elements is to whoever takes them.
    pub(crate) fn resolve<B>(
        &self,
        element: ElementType,
        x: &Shape,
        operand: impl Fn(Slice, usize) -> Result<B>,
    ) -> Result<BroadcastInputs<B>> {
        let mut inputs = Vec::new();
        for input in &self.inputs {
            inputs.push(match input {
                Input::Absent => Bound::Absent,
                Input::Value(number) => Bound::Value(*number),
                Input::Tensor(slice, shape) => Bound::Tensor((operand(*slice, shape.len())?, shape)),
            });
        }
        BroadcastInputs::of_numbers(element, self.operands, x, inputs, self.rounding)
    }
}

/// Whether bounds are those of elements of a type: the type, x's shape, the bounds.
pub(crate) fn check_bounds(request: &mut Request) -> Result<()> {
    let (element, x, bounds) = (request.element()?, request.shape()?, request.broadcast(Op::Clip)?);
    bounds.resolve(element, &x, |slice, _| Ok(slice)).map(drop)
}
