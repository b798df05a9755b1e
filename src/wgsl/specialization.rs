//! What a kernel is compiled for, as the constants of `shaders/lib/constants.wgsl`.

use std::fmt::Write;

use super::{BLOCKS_PER_INVOCATION, WORKGROUP, blocks_per_mask_word};
use crate::broadcast::MAX_BROADCAST;
use crate::element::{BitLayout, NumberClass};
use crate::norm::exact::{ReduceOp, SumFormat};
use crate::quantize::{CodeFormat, QuantRule};
use crate::{ElementType, NanRule, TieRule};

/// How a broadcast input lies along x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// One value for all, or absent.
    Value,
    /// A tensor with an element for each of x.
    Same,
    /// A tensor of one element.
    One,
    /// A tensor with an element for each row, of whole blocks.
    Rows,
    /// A tensor with an element for each column.
    Columns,
    /// Any other tensor, by strides.
    Strided,
}

/// How the elements of a reduction's outputs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// The elements of an output are adjacent.
    Rows = 0,
    /// The elements of all outputs are adjacent, in whole blocks.
    Columns = 1,
    /// Any other order.
    Strided = 2,
}

/// What a kernel is compiled for besides its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Specialization {
    pub element: ElementType,
    /// The type of the output.
    pub to: ElementType,
    pub ties: TieRule,
    /// How values are quantised, without the range of codes.
    pub quant: QuantRule,
    /// How each broadcast input lies along x.
    pub layouts: [Layout; MAX_BROADCAST],
    /// The reduction, and how the elements of an output lie.
    pub reduce: ReduceOp,
    pub order: Order,
}

impl Specialization {
    pub(crate) const fn of(element: ElementType) -> Self {
        Self {
            element,
            to: element,
            ties: TieRule::Inclusive,
            quant: QuantRule::EXACT,
            layouts: [Layout::Value; MAX_BROADCAST],
            reduce: ReduceOp::Sum,
            order: Order::Rows,
        }
    }

    pub(crate) fn has_tensors(self) -> bool {
        self.layouts.iter().any(|&layout| layout != Layout::Value)
    }

    fn sum_format(self) -> SumFormat {
        SumFormat::of(self.element.layout().bits, self.reduce)
    }

    /// 32-bit limbs of a sum. A sum of integers has 128 bits; a greatest magnitude is the first of two limbs.
    pub(crate) fn limbs(self) -> u32 {
        match (self.element.is_float(), self.reduce) {
            (false, _) => 4,
            (true, ReduceOp::MaxAbs) => 2,
            (true, _) => 2 * self.sum_format().limbs as u32,
        }
    }

    /// How many bits the smallest number of the type is above bit 0 of a sum (for squares, of half of it).
    fn position(self) -> i32 {
        let layout = self.element.layout();
        match layout.class {
            NumberClass::Float { .. } => {
                let least = layout.min_exponent() - layout.fraction_bits() as i32;
                least - SumFormat::of(layout.bits, ReduceOp::Sum).unit
            }
            _ => 0,
        }
    }

    /// The text of `lib/constants.wgsl` for it.
    pub(super) fn constants(self) -> String {
        let layout = self.element.layout();
        // The shaders look at the upper word of a 64-bit element.
        let shift = 32u32.saturating_sub(layout.bits);
        let word = |bits: u64| if layout.bits == 64 { bits >> 32 } else { bits << shift };
        let lanes = if layout.bits == 64 { 2 } else { 4 };
        let exponent = |layout: BitLayout| match layout.class {
            NumberClass::Float { exponent, .. } => exponent,
            _ => 0,
        };
        let to = self.to.layout();
        let ties = |ties| match ties {
            TieRule::Inclusive => 0,
            TieRule::Exclusive => 1,
            TieRule::Half => 2,
        };
        let mut text = String::new();
        for (name, value) in
            [("FLOAT", self.element.is_float()), ("SIGNED", layout.class == NumberClass::Signed)]
                .into_iter()
                .chain([
                    ("SCALAR_BOUNDS", !self.has_tensors()),
                    ("NAN_PASSES", self.quant.nan_gradient == NanRule::Pass),
                    ("E2M1_CODES", self.quant.format == CodeFormat::E2M1),
                ])
        {
            let _ = writeln!(text, "const {name}: bool = {value};");
        }
        let _ = writeln!(text, "const UNIT: i32 = {};", self.sum_format().unit);
        let _ = writeln!(text, "const POSITION: i32 = {};", self.position());
        for (name, value) in [
            ("BITS", layout.bits),
            ("MAX_NUMBER", word(layout.max_number()) as u32),
            ("MAX_FINITE", word(layout.max_finite()) as u32),
            ("MIN_NORMAL", word(layout.min_normal()) as u32),
            ("EXPONENT_BITS", exponent(layout)),
            ("SUBWORDS", 128 / layout.bits / lanes),
            ("LANES_PER_SUBWORD", lanes),
            ("LANE_LSB", 1 << shift),
            ("LANE_SHIFT", shift),
            ("TO_BITS", to.bits),
            ("TO_EXPONENT_BITS", exponent(to)),
            ("TO_MAX_FINITE", to.max_finite() as u32),
            ("TO_MAX_NUMBER", to.max_number() as u32),
            ("TO_QUIET_NAN", to.quiet_nan() as u32),
            ("TIES", ties(self.ties)),
            ("TIES_INCLUSIVE", ties(TieRule::Inclusive)),
            ("TIES_EXCLUSIVE", ties(TieRule::Exclusive)),
            ("TIES_HALF", ties(TieRule::Half)),
            ("QUOTIENT", self.quant.quotient as u32),
            ("ROUNDING", self.quant.rounding as u32),
            ("NAN_CODE", self.quant.nan as u32),
            ("QUANT_GRADIENT", self.quant.gradient as u32),
            ("REDUCE", self.reduce as u32),
            ("REDUCE_SUM", ReduceOp::Sum as u32),
            ("REDUCE_SUM_ABS", ReduceOp::SumAbs as u32),
            ("REDUCE_SUM_SQUARES", ReduceOp::SumSquares as u32),
            ("REDUCE_MAX_ABS", ReduceOp::MaxAbs as u32),
            ("REDUCE_PRODUCTS", ReduceOp::SumProducts as u32),
            ("LIMBS", self.limbs()),
            ("ORDER", self.order as u32),
            ("ORDER_ROWS", Order::Rows as u32),
            ("ORDER_COLUMNS", Order::Columns as u32),
            ("ORDER_STRIDED", Order::Strided as u32),
            ("WORKGROUP", WORKGROUP),
            ("BLOCKS_PER_INVOCATION", BLOCKS_PER_INVOCATION),
            ("BLOCKS_PER_MASK_WORD", blocks_per_mask_word(self.element)),
        ] {
            let _ = writeln!(text, "const {name}: u32 = {value:#x}u;");
        }
        text
    }
}
