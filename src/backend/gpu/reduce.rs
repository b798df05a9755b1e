//! Exact reductions, recorded without reading back to the host.

use super::pool::FirstWrite;
use super::{Buffer, Context};
use crate::broadcast::Reduction;
use crate::norm::exact::{ExactSum, ReduceOp, Special};
use crate::plan::reduce::{self, Outputs};
use crate::wgsl::Specialization;
use crate::{ElementType, Result};

impl Context {
    /// Records a reduction into a new buffer of elements of `to`.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for operands that are too large, and for norms of f64;
    /// otherwise as [`Backend::run`](crate::backend::Backend::run).
    pub(super) fn record_reduction(
        &self,
        element: ElementType,
        elements: &Buffer,
        reduction: &Reduction,
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Buffer> {
        reduce::check(self.planner(), element, elements.bytes(), op)?;
        if op == ReduceOp::Sum && reduction.leaves == 1 {
            // Nothing to add: a single element keeps its bits.
            return Ok(elements.clone());
        }
        let specialization = Specialization { to, reduce: op, ..Specialization::of(element) };
        self.record_outputs(Outputs { specialization, reduction }, [elements, elements], None)
    }

    /// Records dot products; with the norms of x, each times the power of two that brings its norm to between 1 and 2.
    ///
    /// # Errors
    /// As for a reduction.
    pub(super) fn record_dots(
        &self,
        element: ElementType,
        operands: [&Buffer; 2],
        norms: Option<&Buffer>,
        reduction: &Reduction,
    ) -> Result<Buffer> {
        reduce::check(self.planner(), element, operands[0].bytes(), ReduceOp::SumProducts)?;
        self.record_outputs(Outputs::dots(element, reduction), operands, norms)
    }

    fn record_outputs(
        &self,
        outputs: Outputs<'_>,
        operands: [&Buffer; 2],
        norms: Option<&Buffer>,
    ) -> Result<Buffer> {
        let [limbs, result] = outputs.bytes(self.planner());
        let limbs = self.buffer(limbs, FirstWrite::Recorded)?;
        let result = self.buffer(result, FirstWrite::Recorded)?;
        let norms = norms.map(Buffer::part);
        outputs.reduce(self, operands.map(Buffer::part), norms, [limbs.part(), result.part()])?;
        Ok(result)
    }

    /// Records the limbs of all elements of several buffers.
    fn record_limbs(&self, list: &[(ElementType, &Buffer)], op: ReduceOp) -> Result<Buffer> {
        for &(element, elements) in list {
            reduce::check(self.planner(), element, elements.bytes(), op)?;
        }
        let limbs = self.buffer(reduce::limb_bytes(op), FirstWrite::Recorded)?;
        let parts = list.iter().map(|&(element, elements)| {
            (element, elements.bytes() as usize / element.size(), elements.part())
        });
        reduce::add_list(self, &parts.collect::<Vec<_>>(), op, limbs.part())?;
        Ok(limbs)
    }

    /// Records the same, rounded to f32.
    pub(super) fn record_list(
        &self,
        list: &[(ElementType, &Buffer)],
        op: ReduceOp,
        to: ElementType,
    ) -> Result<Buffer> {
        if to != ElementType::F32 {
            reduce::check(self.planner(), to, 0, op)?;
        }
        let limbs = self.record_limbs(list, op)?;
        let result = self.buffer(4, FirstWrite::Recorded)?;
        reduce::round_list(self, op, limbs.part(), result.part())?;
        Ok(result)
    }

    /// The exact sum of all elements of several buffers, read to the host.
    pub(super) async fn read_sum(
        &self,
        list: &[(ElementType, &Buffer)],
        op: ReduceOp,
        bits: u32,
    ) -> Result<ExactSum> {
        let limbs = self.record_limbs(list, op)?;
        let count = reduce::of_list(op).limbs() as usize;
        let words: Vec<u32> = self.read_elements(&limbs, count + 1).await?;
        let mut sum = ExactSum::new(32, op);
        sum.special = Special::from_bits(words[count]);
        match op {
            ReduceOp::MaxAbs => sum.max(f64::from(f32::from_bits(words[0])).to_bits()),
            _ => {
                let mut words: Vec<_> = words[..count].iter().map(|&word| i64::from(word)).collect();
                if let Some(last) = words.last_mut() {
                    *last = i64::from(*last as i32);
                }
                sum.set_words(&words)?;
            }
        }
        let mut of_all = ExactSum::new(bits, op);
        of_all.merge(&sum);
        Ok(of_all)
    }
}
