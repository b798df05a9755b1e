//! What is done: operations on a few slots, each of which may hold a tensor.

use arbitrary::{Arbitrary, Result, Unstructured};
use wgclip::{BackwardRule, NeedsGrad};

pub const SLOTS: usize = 6;

/// Slots of masks.
pub const MASKS: usize = 2;

/// Operations that are run.
const LONGEST: usize = 32;

#[derive(Debug)]
pub struct Program(pub Vec<Op>);

impl<'a> Arbitrary<'a> for Program {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut ops = Vec::new();
        while ops.len() < LONGEST && !u.is_empty() {
            ops.push(u.arbitrary()?);
        }
        Ok(Self(ops))
    }
}

#[derive(Debug, Arbitrary)]
pub enum Op {
    New { to: Slot, dims: Dims, values: Values, owned: bool },
    // Elements that do not fill the shape.
    WrongLength { dims: Dims, values: Values, len: u8 },
    Clone { from: Slot, to: Slot },
    Drop { slot: Slot },
    Read { slot: Slot },
    // Reads the tensor and drops it.
    Take { slot: Slot },
    // Any operation of the list.
    Run { op: ListOp, x: Slot, g: Upstream, to: [Slot; 3], bounds: [Bound; 2], rule: Rule, needs: Both },
    RunInPlace { op: ListOp, x: Slot, g: Upstream, bounds: [Bound; 2], rule: Rule },
    // The methods with something of their own: sums in the shapes of the bounds, masks that are kept, activations.
    ClipBackwardBounds { x: Slot, g: Upstream, to: [Slot; 3], bounds: [Bound; 2], rule: Rule, needs: Both },
    ClipWithMask { x: Slot, to: Slot, mask: MaskSlot, bounds: [Bound; 2], rule: Rule },
    Backward { mask: MaskSlot, g: Upstream, to: Slot },
    BackwardInPlace { mask: MaskSlot, g: Upstream },
    DropMask { mask: MaskSlot },
    HardSigmoid { x: Slot, to: Slot },
    ClipSlice { values: Values, len: u8, bounds: [Bound; 2] },
    // Chunks of these lengths. Those that wait at the end are popped, or given back.
    ClipStream { values: Values, chunks: [u8; 5], bounds: [Bound; 2], pop: bool },
    Flush,
    Wait,
    Trim,
}

/// Where it is empty and something is wanted, the next one that holds something.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Slot(#[arbitrary(with = |u: &mut Unstructured| u.choose_index(SLOTS))] pub usize);

#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct MaskSlot(#[arbitrary(with = |u: &mut Unstructured| u.choose_index(MASKS))] pub usize);

/// An operation of the crate's list that needs no mask: new ones come in by themselves.
#[derive(Debug, Clone, Copy)]
pub struct ListOp(pub wgclip::op::Op);

impl<'a> Arbitrary<'a> for ListOp {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let ops = wgclip::op::Op::ELEMENTWISE.iter().copied().filter(|op| {
            // Operands of two types are for the conformance table.
            !op.has(wgclip::op::Operand::Mask) && op.info().codes == wgclip::op::Codes::None
        });
        Ok(Self(*u.choose(&ops.collect::<Vec<_>>())?))
    }
}

/// A shape of at most 70 elements.
#[derive(Debug)]
pub struct Dims(pub Vec<usize>);

impl<'a> Arbitrary<'a> for Dims {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let longest: &[usize] = *u.choose(&[&[70][..], &[7, 10], &[2, 35], &[35, 2], &[3, 4, 5], &[]])?;
        Ok(Self(longest.iter().map(|&len| u.int_in_range(0..=len)).collect::<Result<_>>()?))
    }
}

/// Values that something happens at.
const SPECIAL: [u32; 16] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    3,
    0x007f_ffff,
    0x0080_0000,
    0x0080_0001,
    0x3f80_0000,
    0xbf80_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_1234,
    0x7f80_0001,
];

#[derive(Debug, Clone, Copy)]
pub struct Number(pub f32);

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u.choose_index(3)? {
            0 => f32::from_bits(*u.choose(&SPECIAL)?),
            1 => u.int_in_range(-4i8..=4)?.into(),
            _ => f32::from_bits(u.arbitrary()?),
        }))
    }
}

/// Elements of a tensor: some that the fuzzer chose, some of chance. Few differ, so that there are ties.
#[derive(Debug, Arbitrary)]
pub struct Values {
    chosen: [Number; 3],
    seed: u32,
}

impl Values {
    pub fn make(&self, len: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(self.seed.into());
        let mut one = |_| match rng.u8(..4) {
            0 => f32::from_bits(SPECIAL[rng.usize(..SPECIAL.len())]),
            1 => rng.i8(-4..=4).into(),
            2 => f32::from_bits(rng.u32(..)),
            _ => self.chosen[rng.usize(..3)].0,
        };
        (0..len).map(&mut one).collect()
    }
}

#[derive(Debug, Arbitrary)]
pub enum Bound {
    Absent,
    Value(Number),
    // A new tensor, of some of the dimensions of x: of each element, row or column, or one for all.
    Part { part: Part, values: Values },
    // A tensor that is there, x perhaps: it may not broadcast.
    Slot(Slot),
}

/// Dimensions of which a bound has the length of x; the others are 1, or missing where they come first.
#[derive(Debug, Arbitrary)]
pub struct Part {
    kept: [bool; 3],
    short: bool,
}

impl Part {
    pub fn of(&self, dims: &[usize]) -> Vec<usize> {
        let mut part: Vec<_> =
            dims.iter().zip(self.kept).map(|(&len, kept)| if kept { len } else { 1 }).collect();
        if self.short {
            part.drain(..part.iter().take_while(|&&len| len == 1).count());
        }
        part
    }
}

/// The upstream gradient: a tensor that is there, or a new one of the shape of x, which takes its place.
#[derive(Debug, Arbitrary)]
pub struct Upstream {
    pub slot: Slot,
    pub new: Option<Values>,
}

#[derive(Debug, Clone, Copy)]
pub struct Rule(pub BackwardRule);

impl<'a> Arbitrary<'a> for Rule {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(u.choose_iter(BackwardRule::all().collect::<Vec<_>>())?))
    }
}

/// Which bounds need gradients.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Both {
    lo: bool,
    hi: bool,
}

impl From<Both> for NeedsGrad {
    fn from(Both { lo, hi }: Both) -> Self {
        Self { lo, hi }
    }
}
