//! The bounds that values are clipped to.

mod number;

use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};

use crate::broadcast::{Broadcast, Side};
use crate::{Element, ElementType, Error, Result, Shape, Tensor, with_element};

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

    fn from_value(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }

    fn checked(self, side: Side) -> Result<Self> {
        match self {
            Self::Value(value) if value.is_nan() => Err(Error::NanBound { side: side.name() }),
            bound => Ok(bound),
        }
    }
}

impl<T: Element> From<T> for Bound<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: Element> From<Option<T>> for Bound<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

impl<T: Element> From<Tensor<T>> for Bound<T> {
    fn from(tensor: Tensor<T>) -> Self {
        Self::Tensor(tensor)
    }
}

impl<T: Element> From<&Tensor<T>> for Bound<T> {
    fn from(tensor: &Tensor<T>) -> Self {
        Self::Tensor(tensor.clone())
    }
}

/// A lower and an upper bound, either of which may be absent, a value, or a tensor.
///
/// An absent bound is truly absent: infinities pass through it, and nothing ties with it.
/// Where the lower bound is above the upper one, every value becomes the upper bound, as in numpy.
///
/// A tensor of bounds broadcasts to the tensor that is clipped by numpy's rules: dimensions are matched from the
/// last, each is the same or 1, and missing ones count as 1. It never enlarges the tensor that is clipped.
///
/// ```
/// use wgclip::{Bounds, Device};
///
/// let both = Bounds::new(-1.0f32, 1.0)?;
/// let relu = Bounds::at_least(0.0f32)?;
/// assert!(Bounds::new(0.0, f32::NAN).is_err());
///
/// let device = Device::cpu();
/// let of_each_column = device.tensor(&[1.0f32, 2.0, 3.0], [3])?;
/// let x = device.tensor(&[9.0f32; 6], [2, 3])?;
/// let y = x.clip(&Bounds::new(0.0, of_each_column)?)?;
/// assert_eq!(y.to_vec()?, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bounds<T: Element> {
    lo: Bound<T>,
    hi: Bound<T>,
}

impl<T: Element> Bounds<T> {
    /// Both bounds: each a value, `Some` value or `None`, a tensor, or a [`Bound`].
    ///
    /// # Errors
    /// [`Error::NanBound`] if a bound is the value NaN.
    pub fn new(lo: impl Into<Bound<T>>, hi: impl Into<Bound<T>>) -> Result<Self> {
        Ok(Self { lo: lo.into().checked(Side::Lo)?, hi: hi.into().checked(Side::Hi)? })
    }

    /// A lower bound alone: as `lo..` where it is a value.
    ///
    /// # Errors
    /// [`Error::NanBound`] if it is the value NaN.
    pub fn at_least(lo: impl Into<Bound<T>>) -> Result<Self> {
        Self::new(lo, Bound::Absent)
    }

    /// An upper bound alone: as `..=hi` where it is a value.
    ///
    /// # Errors
    /// [`Error::NanBound`] if it is the value NaN.
    pub fn at_most(hi: impl Into<Bound<T>>) -> Result<Self> {
        Self::new(Bound::Absent, hi)
    }

    /// The lower bound.
    pub fn lo(&self) -> &Bound<T> {
        &self.lo
    }

    /// The upper bound.
    pub fn hi(&self) -> &Bound<T> {
        &self.hi
    }

    /// Whether both are values, the lower one above the upper one, so that every number becomes the upper bound.
    pub fn is_inverted(&self) -> bool {
        matches!((self.lo.value(), self.hi.value()), (Some(lo), Some(hi)) if lo > hi)
    }
}

/// What a clip takes as bounds: a [`Bounds`] or a reference to one, a range of values, or a pair of whatever
/// [`Bounds::new`] takes.
///
/// ```
/// let device = wgclip::Device::cpu();
/// let x = device.tensor(&[-2.0f32, 0.5, 7.0], [3])?;
/// assert_eq!(x.clip(0.0..=1.0)?.to_vec()?, [0.0, 0.5, 1.0]);
/// assert_eq!(x.clip(..=6.0)?.to_vec()?, [-2.0, 0.5, 6.0]);
/// assert_eq!(x.clip(0.0..)?.to_vec()?, [0.0, 0.5, 7.0]);
/// let hi = device.tensor(&[1.0f32, 0.25, 9.0], [3])?;
/// assert_eq!(x.clip((0.0, &hi))?.to_vec()?, [0.0, 0.25, 7.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
pub trait IntoBounds<T: Element> {
    /// The bounds.
    ///
    /// # Errors
    /// [`Error::NanBound`] if a bound is the value NaN.
    fn into_bounds(self) -> Result<Bounds<T>>;
}

impl<T: Element> IntoBounds<T> for Bounds<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Ok(self)
    }
}

impl<T: Element> IntoBounds<T> for &Bounds<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Ok(self.clone())
    }
}

impl<T: Element> IntoBounds<T> for RangeInclusive<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        let (lo, hi) = self.into_inner();
        Bounds::new(lo, hi)
    }
}

impl<T: Element> IntoBounds<T> for RangeFrom<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Bounds::at_least(self.start)
    }
}

impl<T: Element> IntoBounds<T> for RangeToInclusive<T> {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Bounds::at_most(self.end)
    }
}

impl<T: Element, L: Into<Bound<T>>, H: Into<Bound<T>>> IntoBounds<T> for (L, H) {
    fn into_bounds(self) -> Result<Bounds<T>> {
        Bounds::new(self.0, self.1)
    }
}

/// Bounds as everything below tensors takes them: of a type that is a value, as bit patterns or as operands (`B`: a
/// slice, a buffer).
#[derive(Debug, Clone)]
pub struct ResolvedBounds<B> {
    pub(crate) element: ElementType,
    pub(crate) sides: [BoundBits<B>; 2],
    /// How tensors broadcast to x, where there are any.
    pub(crate) broadcast: Option<Broadcast>,
}

/// One of them.
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
}

impl<B> ResolvedBounds<B> {
    /// No bounds, for operations on elements of a type that take none.
    pub const fn none(element: ElementType) -> Self {
        Self { element, sides: [BoundBits::Absent, BoundBits::Absent], broadcast: None }
    }

    /// Two values, either of which may be absent.
    ///
    /// # Errors
    /// [`Error::NanBound`] if one is NaN.
    pub fn values<T: Element>(lo: Option<T>, hi: Option<T>) -> Result<Self> {
        let bound = |value: Option<T>, side| match Bound::<T, ()>::from_value(value).checked(side)? {
            Bound::Value(value) => Ok(BoundBits::Value(value.to_bits())),
            _ => Ok(BoundBits::Absent),
        };
        Ok(Self { element: T::TYPE, sides: [bound(lo, Side::Lo)?, bound(hi, Side::Hi)?], broadcast: None })
    }

    /// A lower and an upper bound for a tensor of shape `x`. Those that are tensors come with their shapes, which
    /// broadcast to that of `x`; the operands are taken to fill them.
    ///
    /// ```
    /// use wgclip::{Bound, ResolvedBounds, Shape, cpu};
    ///
    /// let (x, hi) = ([1.0f32, 2.0, 3.0, 4.0], [1.5f32, 2.5]);
    /// let (of_x, of_hi) = (Shape::new([2, 2])?, Shape::new([2])?);
    /// let bounds = ResolvedBounds::broadcast::<f32>(&of_x, Bound::Absent, Bound::Tensor((&hi[..], &of_hi)))?;
    /// let mut y = [0.0; 4];
    /// cpu::clip(&x, &bounds, &mut y)?;
    /// assert_eq!(y, [1.0, 2.0, 1.5, 2.5]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NanBound`], [`Error::BroadcastMismatch`] or [`Error::TooManyAxes`].
    pub fn broadcast<'a, T: Element>(
        x: &Shape,
        lo: Bound<T, (B, &'a Shape)>,
        hi: Bound<T, (B, &'a Shape)>,
    ) -> Result<Self> {
        let bits = |bound: Bound<T, (B, &'a Shape)>, side| match bound.checked(side)? {
            Bound::Absent => Ok(BoundBits::Absent),
            Bound::Value(value) => Ok(BoundBits::Value(value.to_bits())),
            Bound::Tensor(tensor) => Ok(BoundBits::Tensor(tensor)),
        };
        Self::of(T::TYPE, x, [bits(lo, Side::Lo)?, bits(hi, Side::Hi)?])
    }

    /// The same of a type that is a value, with bounds that are numbers of no type: each is rounded to the type once.
    ///
    /// ```
    /// use wgclip::{Bound, BoundRounding, ElementType, Number, ResolvedBounds, Shape};
    ///
    /// let (x, hi) = (Shape::new([3])?, Bound::Value(Number::Integer(300)));
    /// let bounds = [Bound::Value(Number::Float(7.0)), hi];
    /// let bounds = ResolvedBounds::<&[u8]>::of_numbers(ElementType::U8, &x, bounds, BoundRounding::Nearest)?;
    /// assert_eq!(bounds.element(), ElementType::U8);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast), [`Bound::lower`] and [`Bound::upper`].
    pub fn of_numbers(
        element: ElementType,
        x: &Shape,
        [lo, hi]: [Bound<Number, (B, &Shape)>; 2],
        rounding: BoundRounding,
    ) -> Result<Self> {
        let bits = |bound, side| match bound {
            Bound::Absent => Ok(BoundBits::Absent),
            Bound::Value(number) => with_element!(element, T => {
                let bound = match side {
                    Side::Lo => Bound::<T, ()>::lower_rounded(number, rounding),
                    Side::Hi => Bound::<T, ()>::upper_rounded(number, rounding),
                };
                Ok(bound?.value().map_or(BoundBits::Absent, |value| BoundBits::Value(Element::to_bits(value))))
            }),
            Bound::Tensor(tensor) => Ok(BoundBits::Tensor(tensor)),
        };
        Self::of(element, x, [bits(lo, Side::Lo)?, bits(hi, Side::Hi)?])
    }

    /// The same of bits.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast), but for NaN, which is not looked for.
    pub(crate) fn of(element: ElementType, x: &Shape, sides: [BoundBits<(B, &Shape)>; 2]) -> Result<Self> {
        let shapes = sides.each_ref().map(|bound| bound.tensor().map(|(_, shape)| *shape));
        let tensors = shapes.iter().any(Option::is_some);
        let broadcast = tensors.then(|| Broadcast::new(x, shapes)).transpose()?;
        let sides = sides.map(|bound| match bound {
            BoundBits::Absent => BoundBits::Absent,
            BoundBits::Value(bits) => BoundBits::Value(bits),
            BoundBits::Tensor((operand, _)) => BoundBits::Tensor(operand),
        });
        Ok(Self { element, sides, broadcast })
    }

    /// The type of the elements.
    pub const fn element(&self) -> ElementType {
        self.element
    }

    pub(crate) fn side(&self, side: Side) -> &BoundBits<B> {
        &self.sides[side as usize]
    }

    /// The same with other operands.
    ///
    /// # Errors
    /// What `map` returns.
    pub(crate) fn try_map<'a, C>(&'a self, map: impl Fn(&'a B) -> Result<C>) -> Result<ResolvedBounds<C>> {
        let side = |bound: &'a BoundBits<B>| {
            Ok(match bound {
                BoundBits::Absent => BoundBits::Absent,
                BoundBits::Value(bits) => BoundBits::Value(*bits),
                BoundBits::Tensor(tensor) => BoundBits::Tensor(map(tensor)?),
            })
        };
        let [lo, hi] = &self.sides;
        Ok(ResolvedBounds {
            element: self.element,
            sides: [side(lo)?, side(hi)?],
            broadcast: self.broadcast.clone(),
        })
    }

    /// Whether `x` elements and those of the bounds, counted by `len`, are those of the shapes that were given.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`].
    pub(crate) fn check_len(&self, x: usize, len: impl Fn(&B) -> usize) -> Result<()> {
        let Some(broadcast) = &self.broadcast else { return Ok(()) };
        let sides = Side::BOTH.map(|side| (side, self.side(side).tensor()));
        let bounds =
            sides.into_iter().filter_map(|(side, bound)| Some((broadcast.bound_len(side)?, len(bound?))));
        for (expected, actual) in std::iter::once((broadcast.len(), x)).chain(bounds) {
            if expected != actual {
                return Err(Error::LengthMismatch { shape: vec![expected], expected, actual });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_refused_on_either_side() {
        assert_eq!(Bounds::at_least(f32::NAN).unwrap_err(), Error::NanBound { side: "lower" });
        assert_eq!(Bounds::new(0.0, f32::NAN).unwrap_err(), Error::NanBound { side: "upper" });
        assert_eq!((f32::NAN..=1.0).into_bounds().unwrap_err(), Error::NanBound { side: "lower" });
        assert_eq!(
            ResolvedBounds::<()>::values(None, Some(f32::NAN)).unwrap_err(),
            Error::NanBound { side: "upper" }
        );
    }

    #[test]
    fn inverted_needs_both_bounds() {
        assert!(Bounds::new(2.0f32, 1.0).unwrap().is_inverted());
        assert!(!Bounds::new(0.0f32, -0.0).unwrap().is_inverted());
        assert!(!Bounds::at_least(2.0f32).unwrap().is_inverted());
    }
}
