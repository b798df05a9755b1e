//! The broadcast inputs of an operation, in the form that all code below tensors takes.

use super::{Broadcast, MAX_BROADCAST};
use crate::op::Operand;
use crate::{Bound, BoundRounding, Element, ElementType, Error, Number, Result, Shape, with_element};

/// The broadcast inputs of an operation, its bounds for example, in the order of its row in the list. The type is a value; inputs are
/// bit patterns or operands (`B`: a slice, a buffer).
///
/// ```
/// use wgclip::bounds::BroadcastInputs;
/// use wgclip::{Bound, Shape, cpu};
///
/// let (x, hi) = ([1.0f32, 2.0, 3.0, 4.0], [1.5f32, 2.5]);
/// let (of_x, of_hi) = (Shape::new([2, 2])?, Shape::new([2])?);
/// let bounds = BroadcastInputs::bounds::<f32>(&of_x, Bound::Absent, Bound::Tensor((&hi[..], &of_hi)))?;
/// let mut y = [0.0; 4];
/// cpu::clip(&x, &bounds, &mut y)?;
/// assert_eq!(y, [1.0, 2.0, 1.5, 2.5]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BroadcastInputs<B> {
    pub(crate) element: ElementType,
    /// The operands that they are, in order.
    pub(crate) operands: &'static [Operand],
    /// Absent beyond `operands`.
    pub(crate) inputs: [BoundBits<B>; MAX_BROADCAST],
    /// How the tensors, if any, broadcast to x.
    pub(crate) broadcast: Option<Broadcast>,
}

/// One broadcast input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BoundBits<B> {
    Absent,
    Value(u64),
    Tensor(B),
}

impl<B> BoundBits<B> {
    pub(crate) fn value(&self) -> Option<u64> {
        match self {
            Self::Value(bits) => Some(*bits),
            _ => None,
        }
    }

    pub(crate) fn tensor(&self) -> Option<&B> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// The operands of a clip's bounds.
const BOUNDS: &[Operand] = &[Operand::Lo, Operand::Hi];

/// Rejects NaN as a value.
///
/// # Errors
/// [`Error::NanBound`].
pub(crate) fn check_not_nan<T: Element>(value: T, operand: Operand) -> Result<T> {
    if value.is_nan() { Err(Error::NanBound { operand: operand.noun() }) } else { Ok(value) }
}

impl<B> BroadcastInputs<B> {
    /// No inputs, for operations on this type that take none. If the operation takes bounds, they are absent.
    pub const fn none(element: ElementType) -> Self {
        Self { element, operands: &[], inputs: [const { BoundBits::Absent }; MAX_BROADCAST], broadcast: None }
    }

    /// Two scalar bounds, either of which may be absent.
    ///
    /// # Errors
    /// [`Error::NanBound`] if one is NaN.
    pub fn values<T: Element>(lo: Option<T>, hi: Option<T>) -> Result<Self> {
        let bits = |value: Option<T>, operand| match value {
            Some(value) => Ok(BoundBits::Value(check_not_nan(value, operand)?.to_bits())),
            None => Ok(BoundBits::Absent),
        };
        let [lo, hi] = [bits(lo, Operand::Lo)?, bits(hi, Operand::Hi)?];
        Ok(Self {
            operands: BOUNDS,
            inputs: [lo, hi, BoundBits::Absent, BoundBits::Absent],
            ..Self::none(T::TYPE)
        })
    }

    /// A lower and an upper bound for a tensor of shape `x`. Tensors come with their shapes, which must broadcast to
    /// that of `x`; the operands are assumed to fill them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn bounds<T: Element>(
        x: &Shape,
        lo: Bound<T, (B, &Shape)>,
        hi: Bound<T, (B, &Shape)>,
    ) -> Result<Self> {
        Self::new(BOUNDS, x, [lo, hi])
    }

    /// The inputs for these operands of a tensor of shape `x`, in the order of an operation's row: one input per operand. A tensor
    /// comes with its shape, which must broadcast to that of `x`.
    ///
    /// # Errors
    /// [`Error::NanBound`], [`Error::BroadcastMismatch`] or [`Error::TooManyAxes`].
    pub fn new<'a, T: Element>(
        operands: &'static [Operand],
        x: &Shape,
        inputs: impl IntoIterator<Item = Bound<T, (B, &'a Shape)>>,
    ) -> Result<Self> {
        let bits = |(input, &operand): (Bound<T, _>, _)| match input {
            Bound::Absent => Ok(BoundBits::Absent),
            Bound::Value(value) => Ok(BoundBits::Value(check_not_nan(value, operand)?.to_bits())),
            Bound::Tensor(tensor) => Ok(BoundBits::Tensor(tensor)),
        };
        Self::of(T::TYPE, operands, x, inputs.into_iter().zip(operands).map(bits))
    }

    /// The inputs for a type given as a value and untyped numbers: each is rounded to the type once, a bound as `rounding` says.
    ///
    /// ```
    /// use wgclip::bounds::{BoundRounding, BroadcastInputs, Number};
    /// use wgclip::op::Op;
    /// use wgclip::{Bound, ElementType, Shape};
    ///
    /// let x = Shape::new([3])?;
    /// let bounds = [Bound::Value(Number::Float(7.0)), Bound::Value(Number::Integer(300))];
    /// let (operands, rounding) = (Op::Clip.info().broadcast, BoundRounding::Nearest);
    /// let bounds = BroadcastInputs::<&[u8]>::of_numbers(ElementType::U8, operands, &x, bounds, rounding)?;
    /// assert_eq!(bounds.element(), ElementType::U8);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new), [`Bound::lower`] and [`Bound::upper`].
    pub fn of_numbers<'a>(
        element: ElementType,
        operands: &'static [Operand],
        x: &Shape,
        inputs: impl IntoIterator<Item = Bound<Number, (B, &'a Shape)>>,
        rounding: BoundRounding,
    ) -> Result<Self> {
        let bits = |(input, &operand)| match input {
            Bound::Absent => Ok(BoundBits::Absent),
            Bound::Value(number) => with_element!(element, T => {
                let bound = match operand {
                    Operand::Hi => Bound::<T, ()>::upper_rounded(number, rounding),
                    _ => Bound::<T, ()>::lower_rounded(number, rounding),
                };
                Ok(bound?.value().map_or(BoundBits::Absent, |value| BoundBits::Value(Element::to_bits(value))))
            }),
            Bound::Tensor(tensor) => Ok(BoundBits::Tensor(tensor)),
        };
        Self::of(element, operands, x, inputs.into_iter().zip(operands).map(bits))
    }

    /// The inputs for a type given as a value, with the bit patterns of values.
    ///
    /// # Errors
    /// As [`new`](Self::new), except for NaN, which propagates.
    pub fn of_bits<'a>(
        element: ElementType,
        operands: &'static [Operand],
        x: &Shape,
        inputs: impl IntoIterator<Item = Bound<u64, (B, &'a Shape)>>,
    ) -> Result<Self> {
        let bits = |input| match input {
            Bound::Absent => Ok(BoundBits::Absent),
            Bound::Value(bits) => Ok(BoundBits::Value(bits)),
            Bound::Tensor(tensor) => Ok(BoundBits::Tensor(tensor)),
        };
        Self::of(element, operands, x, inputs.into_iter().map(bits))
    }

    fn of<'a>(
        element: ElementType,
        operands: &'static [Operand],
        x: &Shape,
        inputs: impl IntoIterator<Item = Result<BoundBits<(B, &'a Shape)>>>,
    ) -> Result<Self> {
        let mut shapes = [None; MAX_BROADCAST];
        let mut resolved = Self { operands, ..Self::none(element) };
        let there = resolved.inputs.iter_mut().zip(&mut shapes).zip(operands);
        for (((resolved, shape), &operand), input) in there.zip(inputs) {
            *resolved = match input? {
                BoundBits::Absent => BoundBits::Absent,
                BoundBits::Value(bits) => BoundBits::Value(bits),
                BoundBits::Tensor((tensor, of_tensor)) => {
                    *shape = Some((of_tensor, operand));
                    BoundBits::Tensor(tensor)
                }
            };
        }
        let tensors = shapes.iter().any(Option::is_some);
        resolved.broadcast = tensors.then(|| Broadcast::new(x, &shapes)).transpose()?;
        Ok(resolved)
    }

    /// The type of the elements.
    pub const fn element(&self) -> ElementType {
        self.element
    }

    /// Returns the index of an operand, and its input; absent if it is not among them.
    pub(crate) fn find(&self, operand: Operand) -> (usize, &BoundBits<B>) {
        match self.operands.iter().position(|&own| own == operand) {
            Some(index) => (index, &self.inputs[index]),
            None => (0, &BoundBits::Absent),
        }
    }

    /// Whether an operand is given as the value 0.
    pub(crate) fn is_zero(&self, operand: Operand) -> bool {
        let sign = self.element.layout().sign();
        self.find(operand).1.value().is_some_and(|bits| bits & !sign == 0)
    }

    /// The inputs that are tensors, each with its index.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (usize, &B)> {
        self.inputs.iter().enumerate().filter_map(|(index, input)| Some((index, input.tensor()?)))
    }

    /// Returns the same inputs with other operands.
    ///
    /// # Errors
    /// Those of `map`.
    pub(crate) fn try_map<'a, C>(&'a self, map: impl Fn(&'a B) -> Result<C>) -> Result<BroadcastInputs<C>> {
        let mut mapped = BroadcastInputs { operands: self.operands, ..BroadcastInputs::none(self.element) };
        for (to, from) in mapped.inputs.iter_mut().zip(&self.inputs) {
            *to = match from {
                BoundBits::Absent => BoundBits::Absent,
                BoundBits::Value(bits) => BoundBits::Value(*bits),
                BoundBits::Tensor(tensor) => BoundBits::Tensor(map(tensor)?),
            };
        }
        mapped.broadcast.clone_from(&self.broadcast);
        Ok(mapped)
    }

    /// Checks that `x` elements and those of the tensors, counted by `len`, match the given shapes.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`].
    pub(crate) fn check_len(&self, x: usize, len: impl Fn(&B) -> usize) -> Result<()> {
        let Some(broadcast) = &self.broadcast else { return Ok(()) };
        let tensors =
            self.tensors().filter_map(|(index, tensor)| Some((broadcast.input_len(index)?, len(tensor))));
        for (expected, actual) in std::iter::once((broadcast.len(), x)).chain(tensors) {
            if expected != actual {
                return Err(Error::LengthMismatch { shape: vec![expected], expected, actual });
            }
        }
        Ok(())
    }
}
