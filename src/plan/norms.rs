//! Plans for norms, and for elements and gradients that are scaled by them.

use super::api::{Plans, Slice, Step};
use super::reduce::{self, Outputs};
use super::scale::{self, SCALING_BYTES};
use crate::broadcast::{Broadcast, Reduction};
use crate::call::Limiter;
use crate::op::Operand;
use crate::wgsl::BLOCK_BYTES;
use crate::{ElementType, NormKind, NormLimit, Result, Shape};

impl Plans {
    /// Bytes of the exact sum of a norm.
    pub fn norm_bytes(kind: NormKind) -> u64 {
        reduce::limb_bytes(kind.reduce_op()).next_multiple_of(BLOCK_BYTES)
    }

    /// Clears the exact sum of a norm.
    ///
    /// # Errors
    /// None on a WebGPU device.
    pub fn clear_norm(&self, kind: NormKind, sum: Slice) -> Result<Vec<Step>> {
        self.steps(|steps| reduce::clear_list(steps, kind.reduce_op(), sum.part()))
    }

    /// Adds `len` elements to the exact sum of a norm.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for types other than floats of up to 32 bits, and if limits are too
    /// low.
    pub fn add_to_norm(
        &self,
        (element, len): (ElementType, usize),
        elements: Slice,
        kind: NormKind,
        sum: Slice,
    ) -> Result<Vec<Step>> {
        self.check_norm(element, elements.bytes, kind)?;
        let list = [(element, len, elements.part())];
        self.steps(|steps| reduce::add_to_list(steps, &list, kind.reduce_op(), sum.part()))
    }

    fn check_norm(&self, element: ElementType, bytes: u64, kind: NormKind) -> Result<()> {
        match element.is_float() {
            true => reduce::check(self.planner(), element, bytes, kind.reduce_op()),
            false => Err(self.planner().unsupported(format!("a norm of {element}"), "give floats")),
        }
    }

    /// Rounds the sum to an f32 norm and computes the scaling, in [`SCALING_BYTES`]: the norm and the coefficient as f32, what is done
    /// (0: elements are kept, 1: multiplied by the coefficient, 2: set to 0), and 1 if the norm is not finite and that is an error.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`](crate::Error::InvalidLimit).
    pub fn limit_norm(
        &self,
        sum: Slice,
        limit: &NormLimit,
        [norm, scaling]: [Slice; 2],
    ) -> Result<Vec<Step>> {
        limit.check()?;
        let limiter = Limiter { limit, average: None, relative: None };
        self.steps(|steps| {
            reduce::round_list(steps, limit.kind.reduce_op(), sum.part(), norm.part())?;
            scale::make_scalings(steps, 1, norm.part(), limiter, scaling.part())
        })
    }

    /// Scales elements by the scaling of their norm, in place if both slices are the same.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for types other than floats of up to 32 bits.
    pub fn scale(&self, element: ElementType, [x, y]: [Slice; 2], scaling: Slice) -> Result<Vec<Step>> {
        self.check_norm(element, x.bytes, NormKind::L2)?;
        self.steps(|steps| match x == y {
            true => scale::scale_in_place(steps, element, x.part(), scaling.part()),
            false => scale::scale(steps, element, [x.part(), y.part()], scaling.part(), None),
        })
    }

    /// Plans the gradient that reaches `len` elements scaled by their own 2-norm, from x and the upstream gradient g, into gx.
    /// `scratch` holds the sum of a norm, and blocks for the norm, the scaling, the dot product and the projection.
    ///
    /// # Errors
    /// As [`scale`](Self::scale), and [`limit_norm`](Self::limit_norm).
    pub fn scale_backward(
        &self,
        (element, len): (ElementType, usize),
        [x, g, gx]: [Slice; 3],
        limit: &NormLimit,
        scratch: [Slice; 5],
    ) -> Result<Vec<Step>> {
        self.check_norm(element, x.bytes, limit.kind)?;
        let [sum, norm, scaling, dot, projection] = scratch;
        let mut all = self.clear_norm(NormKind::L2, sum)?;
        all.extend(self.add_to_norm((element, len), x, NormKind::L2, sum)?);
        all.extend(self.limit_norm(sum, limit, [norm, scaling])?);
        let reduction = Reduction::all(len);
        let dots = Outputs::dots(element, &reduction);
        let broadcast = Broadcast::of_one(&Shape::new([len])?, &Shape::new([1])?, Operand::X)?;
        all.extend(self.steps(|steps| {
            dots.reduce(steps, [x.part(), g.part()], Some(norm.part()), [sum.part(), dot.part()])?;
            scale::make_projections(steps, 1, limit.eps, [scaling, dot, projection].map(Slice::part))?;
            let by = [scaling.part(), projection.part()];
            scale::scale_backward(steps, element, by, [x, g, gx].map(Slice::part), &broadcast)
        })?);
        Ok(all)
    }

    /// Bytes of each of the five scratch slices of [`scale_backward`](Self::scale_backward).
    pub fn scale_backward_bytes(&self, element: ElementType) -> [u64; 5] {
        let [dots, _] = Outputs::dots(element, &Reduction::all(1)).bytes(self.planner());
        let block = BLOCK_BYTES;
        [
            Self::norm_bytes(NormKind::L2).max(dots.next_multiple_of(block)),
            block,
            SCALING_BYTES,
            block,
            SCALING_BYTES,
        ]
    }
}
