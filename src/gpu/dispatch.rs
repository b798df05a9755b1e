//! Dispatch geometry: how blocks are spread over bindings and workgroups, and what a kernel is told.
//! The twin of `shaders/dispatch.wgsl`.

use crate::bounds::{Bound, Interval};
use crate::broadcast::{Axis, Broadcast, MAX_AXES, Side};
use crate::{Element, ElementType, Gradient, Kind, NanGradient, Outside, Ties};

/// Bytes of a block, which one invocation works on.
pub const BLOCK: u64 = 16;

/// Invocations of a workgroup: the most that every WebGPU device allows, and the fastest where measured.
pub const WORKGROUP: u32 = 256;

/// Blocks that an invocation of [`Grain::Blocks`] works on. On llvmpipe four take a third less time than one (16 Mi f32),
/// and more gain little.
const EACH: u32 = 4;

/// What a kernel is told. The layout is `Params` in `shaders/dispatch.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    lo: [u32; 4],
    hi: [u32; 4],
    floor: [u32; 4],
    ranges: [u32; 4],
    has_lo: u32,
    has_hi: u32,
    blocks: u32,
    stride: u32,
    toward: u32,
    nan_zero: u32,
    rank: u32,
    elements: u32,
    sums: u32,
    pub leaves: u32,
    pub fan_in: u32,
    /// What follows is aligned to 16 bytes.
    padding: u32,
    axes: [[u32; 4]; MAX_AXES],
}

/// How a bound lies beside x, as `shaders/bounds_tensor.wgsl` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    #[default]
    Value = 0,
    Same = 1,
    One = 2,
    Rows = 3,
    Columns = 4,
    Strided = 5,
}

impl Layout {
    fn of<T: Element, S>(bounds: &Interval<T, S>, side: Side) -> Self {
        let (Some(broadcast), Bound::Tensor(_)) = (&bounds.broadcast, bounds.side(side)) else {
            return Self::Value;
        };
        if broadcast.is_same(side) {
            return Self::Same;
        }
        let axes = broadcast.axes();
        let stride = |axis: &Axis| axis.strides[side as usize];
        match axes {
            _ if axes.iter().all(|axis| stride(axis) == 0) => Self::One,
            // Rows of whole blocks.
            [outer, inner] if (inner.len * size_of::<T>()).is_multiple_of(BLOCK as usize) => {
                match (stride(outer), stride(inner)) {
                    (1, 0) => Self::Rows,
                    (0, 1) => Self::Columns,
                    _ => Self::Strided,
                }
            }
            _ => Self::Strided,
        }
    }
}

/// What is decided when a kernel is compiled, beside the element type: each choice has a pipeline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Variant {
    ties: u32,
    layouts: [Layout; 2],
}

impl Variant {
    pub fn new<T: Element, S>(bounds: &Interval<T, S>, ties: Ties) -> Self {
        // The constants of the shaders.
        let ties = match ties {
            Ties::Inclusive => 0,
            Ties::Exclusive => 1,
            Ties::Half => 2,
        };
        Self { ties, layouts: Side::BOTH.map(|side| Layout::of(bounds, side)) }
    }

    /// The `override` constants.
    fn constants(self) -> [(&'static str, f64); 3] {
        [
            ("TIES", self.ties.into()),
            ("LO_LAYOUT", f64::from(self.layouts[0] as u32)),
            ("HI_LAYOUT", f64::from(self.layouts[1] as u32)),
        ]
    }
}

impl Params {
    /// For `sums` sums over axes of x: the length, the stride, and whether it is summed over.
    pub fn of_sums(sums: usize, axes: &[(usize, usize, bool)]) -> Self {
        let mut params = Self { sums: sums as u32, ..Self::default() };
        params.set_axes(axes.iter().map(|&(len, stride, summed)| [len, stride, summed.into(), 0]));
        params
    }

    pub fn new<T: Element, S>(bounds: &Interval<T, S>, rule: Gradient) -> Self {
        let format = T::TYPE.format();
        // A bound that is a tensor is read from there.
        let block = |bound: &Bound<T, S>, absent| block::<T>(bound.value().map_or(absent, T::to_bits));
        let (lo, hi) = (bounds.lo.value(), bounds.hi.value());
        let crossed = matches!((lo, hi), (Some(lo), Some(hi)) if hi.less(lo));
        let [below, above] = format.outside(lo.map(T::to_bits), hi.map(T::to_bits));
        let biased = |(begin, places): (u32, u32)| [begin ^ 1 << 31, places ^ 1 << 31];
        let mut params = Self {
            lo: block(&bounds.lo, format.first()),
            hi: block(&bounds.hi, format.last()),
            floor: block(if crossed { &bounds.hi } else { &bounds.lo }, format.first()),
            ranges: bytemuck::cast([biased(below), biased(above)]),
            has_lo: (!bounds.lo.is_absent()).into(),
            has_hi: (!bounds.hi.is_absent()).into(),
            toward: (rule.outside == Outside::Toward).into(),
            nan_zero: (rule.nan == NanGradient::Zero).into(),
            ..Self::default()
        };
        if let Some(broadcast) = &bounds.broadcast {
            let axes = broadcast.axes();
            params.set_axes(axes.iter().map(|axis| [axis.len, axis.strides[0], axis.strides[1], 0]));
        }
        params
    }

    /// For four words that only the kernel understands.
    pub fn of_words(words: [u32; 4]) -> Self {
        Self { lo: words, ..Self::default() }
    }

    /// Sets the axes, each of four numbers that fit a `u32`: buffers hold no more elements.
    fn set_axes(&mut self, axes: impl Iterator<Item = [usize; 4]>) {
        self.rank = 0;
        for (there, axis) in self.axes.iter_mut().zip(axes) {
            *there = axis.map(|n| n as u32);
            self.rank += 1;
        }
    }

    /// The same, for one piece of the work.
    pub fn for_piece(mut self, piece: &Piece, broadcast: Option<&Broadcast>, element: ElementType) -> Self {
        self.blocks = piece.blocks;
        self.elements = (BLOCK / element.size() as u64) as u32;
        self.stride = piece.workgroups[0] * WORKGROUP;
        if let Some(broadcast) = broadcast {
            let start = broadcast.coordinates(piece.offset / element.size() as u64);
            for (axis, at) in self.axes.iter_mut().zip(start) {
                axis[3] = at as u32;
            }
        }
        self
    }
}

/// A block full of one element.
fn block<T: Element>(bits: u64) -> [u32; 4] {
    bytemuck::cast(
        match size_of::<T>() {
            1 => u128::from(bits) * (u128::MAX / u128::from(u8::MAX)),
            2 => u128::from(bits) * (u128::MAX / u128::from(u16::MAX)),
            4 => u128::from(bits) * (u128::MAX / u128::from(u32::MAX)),
            _ => u128::from(bits) << 64 | u128::from(bits),
        }
        .to_le_bytes(),
    )
}

/// The `override` constants that tell the shaders what an element type is, and the variant.
pub fn constants(element: ElementType, variant: Variant) -> Vec<(&'static str, f64)> {
    let format = element.format();
    // A narrow element stands at the top of a word; of a wide one the shaders look at the upper word.
    let top = 32u32.saturating_sub(format.bits);
    let word = |bits: u64| if format.bits == 64 { bits >> 32 } else { bits << top };
    let lanes = if format.bits == 64 { 2 } else { 4 };
    let slices = 128 / format.bits / lanes;
    let flag = |set: bool| f64::from(u8::from(set));
    let of_type = [
        ("WORKGROUP", WORKGROUP.into()),
        ("EACH", EACH.into()),
        ("BITS", format.bits.into()),
        ("FLOAT", flag(element.is_float())),
        ("SIGNED", flag(format.kind == Kind::Signed)),
        ("INFINITY", word(format.infinity()) as f64),
        ("NORMAL", word(format.normal()) as f64),
        ("SLICES", slices.into()),
        ("LANES", lanes.into()),
        ("UNIT", f64::from(1u32 << top)),
        ("TOP", top.into()),
        ("MASKED", (format.bits / 4).into()),
    ];
    of_type.into_iter().chain(variant.constants()).collect()
}

/// The limits of a device that bear on geometry.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_binding: u64,
    pub offset_alignment: u64,
    pub max_workgroups: u32,
}

impl Limits {
    pub fn of(limits: &wgpu::Limits) -> Self {
        Self {
            max_binding: limits.max_storage_buffer_binding_size,
            offset_alignment: limits.min_storage_buffer_offset_alignment.into(),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
        }
    }

    /// Blocks that one dispatch can take, where a whole number of `unit` blocks belong together.
    fn max_blocks(&self, unit: u64) -> u64 {
        // A piece begins at an aligned offset, so it is a whole number of aligned steps.
        let step = self.offset_alignment.max(unit * BLOCK);
        let by_binding = (self.max_binding / step * step) / BLOCK;
        let by_workgroups = u64::from(self.max_workgroups).pow(2) * u64::from(WORKGROUP);
        let aligned = step / BLOCK;
        // Half of what a u32 can index: the last row of workgroups may reach beyond the last block.
        by_binding.min(by_workgroups / aligned * aligned).clamp(aligned, 1 << 31)
    }
}

/// The work of one dispatch: a range of the buffers, and its workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes from the start of the buffers.
    pub offset: u64,
    pub blocks: u32,
    pub workgroups: [u32; 2],
}

impl Piece {
    /// Bytes that it covers in each buffer.
    pub fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }
}

/// How blocks are dealt out to invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// A block each.
    Block,
    /// [`EACH`] blocks each, a workgroup apart.
    Blocks,
    /// The blocks of a word of a mask each.
    Word(u32),
}

impl Grain {
    /// Blocks that belong together: those of a workgroup of words, which are a workgroup apart.
    fn together(self) -> u32 {
        match self {
            Self::Block | Self::Blocks => 1,
            Self::Word(blocks) => blocks * WORKGROUP,
        }
    }

    fn invocations(self, blocks: u32) -> u32 {
        match self {
            Self::Block => blocks,
            Self::Blocks => blocks.div_ceil(EACH * WORKGROUP) * WORKGROUP,
            Self::Word(_) => blocks.div_ceil(self.together()) * WORKGROUP,
        }
    }
}

/// Cuts `bytes` (rounded up to whole blocks) into dispatches that keep within the limits.
pub fn pieces(bytes: u64, grain: Grain, limits: Limits) -> impl Iterator<Item = Piece> {
    let blocks = bytes.div_ceil(BLOCK);
    let most = limits.max_blocks(grain.together().into());
    (0..blocks).step_by(most as usize).map(move |start| {
        let blocks = (blocks - start).min(most) as u32;
        let workgroups = fold(grain.invocations(blocks), limits.max_workgroups);
        Piece { offset: start * BLOCK, blocks, workgroups }
    })
}

/// One dispatch of so many invocations, which count for blocks, or `None` where they are too many for one.
pub fn whole(invocations: u64, limits: Limits) -> Option<Piece> {
    let most = u64::from(limits.max_workgroups).pow(2) * u64::from(WORKGROUP);
    let blocks = u32::try_from(invocations).ok().filter(|&n| n <= 1 << 31 && u64::from(n) <= most)?;
    Some(Piece { offset: 0, blocks, workgroups: fold(blocks, limits.max_workgroups) })
}

/// Enough workgroups for so many invocations, in as few rows as the limit allows, all rows equally long.
fn fold(invocations: u32, max_workgroups: u32) -> [u32; 2] {
    let groups = invocations.div_ceil(WORKGROUP);
    let rows = groups.div_ceil(max_workgroups);
    [groups.div_ceil(rows), rows]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Limits = Limits { max_binding: 100_000, offset_alignment: 256, max_workgroups: 3 };

    /// Every block is worked on exactly once, within the limits.
    fn check(bytes: u64, limits: Limits) {
        check_grain(bytes, Grain::Block, limits);
    }

    fn check_grain(bytes: u64, grain: Grain, limits: Limits) {
        let each = match grain {
            Grain::Block => 1,
            Grain::Blocks => EACH,
            Grain::Word(blocks) => blocks,
        };
        let mut covered = 0;
        for piece in pieces(bytes, grain, limits) {
            assert_eq!(piece.offset, covered);
            assert_eq!(piece.offset % limits.offset_alignment, 0);
            assert!(piece.bytes() <= limits.max_binding);
            let [x, y] = piece.workgroups;
            assert!(x >= 1 && y >= 1 && x <= limits.max_workgroups && y <= limits.max_workgroups);
            let invocations = u64::from(x) * u64::from(y) * u64::from(WORKGROUP);
            let reached = invocations * u64::from(each);
            assert!(reached >= piece.blocks.into(), "{bytes} bytes: a tail is lost");
            assert!(reached <= u32::MAX.into(), "{bytes} bytes: the index would wrap");
            let spare = reached - u64::from(piece.blocks);
            let row = u64::from(WORKGROUP * each);
            assert!(spare < u64::from(y + 1) * row, "{bytes} bytes: idle rows");
            let together = u64::from(grain.together()) * BLOCK;
            assert_eq!(piece.offset % together, 0, "{bytes} bytes: a word is torn");
            covered += piece.bytes();
        }
        assert_eq!(covered, bytes.next_multiple_of(BLOCK));
    }

    #[test]
    fn pieces_cover_everything_once_around_every_boundary() {
        let piece = TINY.max_blocks(1) * BLOCK;
        let row = u64::from(WORKGROUP) * BLOCK;
        for boundary in [0, BLOCK, row, 2 * row, 3 * row, 4 * row, 9 * row, piece, 2 * piece] {
            for bytes in boundary.saturating_sub(17)..boundary + 18 {
                check(bytes, TINY);
                check_grain(bytes, Grain::Blocks, TINY);
                check_grain(bytes, Grain::Word(4), TINY);
                check_grain(bytes, Grain::Word(8), TINY);
            }
        }
    }

    #[test]
    fn a_block_is_full_of_its_element() {
        assert_eq!(block::<u8>(0x81), [0x8181_8181; 4]);
        assert_eq!(block::<i16>(0x8001), [0x8001_8001; 4]);
        assert_eq!(block::<f32>(0x8000_0001), [0x8000_0001; 4]);
        assert_eq!(block::<f64>(0x8000_0000_0000_0001), [1, 0x8000_0000, 1, 0x8000_0000]);
    }

    #[test]
    fn pieces_cover_terabytes_under_webgpu_default_limits() {
        let limits = Limits::of(&wgpu::Limits::default());
        for bytes in [1 << 27, (1 << 27) + 1, 1 << 30, (1 << 40) + 5] {
            check(bytes, limits);
        }
        let unlimited = Limits { max_binding: u64::MAX, offset_alignment: 32, max_workgroups: u32::MAX };
        check((1 << 36) + 3, Limits { max_workgroups: 65_535, ..unlimited });
    }

    #[test]
    fn workgroups_limit_a_piece_too() {
        let limits = Limits { max_binding: 1 << 40, ..TINY };
        let first = pieces(1 << 30, Grain::Block, limits).next().unwrap();
        assert_eq!(first.blocks, 9 * WORKGROUP);
        assert_eq!(first.workgroups, [3, 3]);
    }

    #[test]
    fn nothing_needs_no_dispatch() {
        assert_eq!(pieces(0, Grain::Block, TINY).count(), 0);
    }
}
