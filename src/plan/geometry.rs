//! Dispatch geometry: how blocks are spread over bindings and workgroups.

use crate::wgsl::{BLOCK_BYTES, BLOCKS_PER_INVOCATION, WORKGROUP};

/// The limits of a device that matter for geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a storage binding: WebGPU's `maxStorageBufferBindingSize`.
    pub max_binding: u64,
    /// Alignment of the offsets of storage bindings: `minStorageBufferOffsetAlignment`.
    pub offset_alignment: u64,
    /// Workgroups along a dimension: `maxComputeWorkgroupsPerDimension`.
    pub max_workgroups: u32,
    /// Storage buffers of a kernel: `maxStorageBuffersPerShaderStage`.
    pub max_buffers: u32,
}

impl Limits {
    /// The limits that every WebGPU device has.
    pub const WEBGPU: Self =
        Self { max_binding: 128 << 20, offset_alignment: 256, max_workgroups: 65_535, max_buffers: 8 };

    /// Maximum invocations of one dispatch: no more than half of what a u32 can index.
    pub(crate) fn max_invocations(&self) -> u64 {
        let most = u64::from(self.max_workgroups).pow(2).saturating_mul(WORKGROUP.into());
        most.min(1 << 31)
    }

    /// Blocks that one dispatch can take.
    fn max_blocks(&self, granularity: Granularity) -> u64 {
        // A range begins at an aligned offset, so it is a whole number of aligned steps.
        let (times, part) = granularity.scale();
        let step = self.offset_alignment.max(u64::from(granularity.alignment_blocks()) * BLOCK_BYTES) * times;
        let by_binding = (self.max_binding / part / step * step) / BLOCK_BYTES;
        let invocations = u64::from(self.max_workgroups).pow(2) * u64::from(WORKGROUP);
        let by_workgroups = invocations.saturating_mul(granularity.blocks_per_invocation().into());
        let aligned = step / BLOCK_BYTES;
        // Half of what a u32 can index: the last row of workgroups may reach beyond the last block.
        by_binding.min(by_workgroups / aligned * aligned).clamp(aligned, 1 << 31)
    }
}

/// The work of one dispatch: a range of the buffers, and its workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DispatchRange {
    /// Bytes from the start of the buffers.
    pub offset: u64,
    pub blocks: u32,
    pub workgroups: [u32; 2],
}

impl DispatchRange {
    /// Bytes that it covers in each buffer.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES
    }
}

/// How many blocks an invocation works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granularity {
    /// One block per invocation.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    Block,
    /// [`BLOCKS_PER_INVOCATION`] blocks, spaced by a workgroup.
    Blocks,
    /// The blocks of a word of a mask.
    MaskWord(u32),
    /// As many blocks as become whole words in another type, times [`BLOCKS_PER_INVOCATION`]: bytes of an element, and of
    /// the original.
    Converted { to: u32, from: u32 },
}

impl Granularity {
    /// Blocks that belong together: those of a workgroup of words, which are spaced by a workgroup.
    fn alignment_blocks(self) -> u32 {
        match self {
            Self::Block | Self::Blocks => 1,
            Self::MaskWord(blocks) => blocks * WORKGROUP,
            Self::Converted { to, from } => blocks_per_word(to, from),
        }
    }

    fn blocks_per_invocation(self) -> u32 {
        match self {
            Self::Block => 1,
            Self::Blocks => BLOCKS_PER_INVOCATION,
            Self::MaskWord(blocks) => blocks,
            Self::Converted { to, from } => blocks_per_word(to, from) * BLOCKS_PER_INVOCATION,
        }
    }

    /// The factor on the alignment of offsets, so that converted offsets are aligned as well; and the divisor of a
    /// binding's size, so that converted data fits.
    fn scale(self) -> (u64, u64) {
        match self {
            Self::Converted { to, from } => (u64::from(from / to).max(1), u64::from(to / from).max(1)),
            _ => (1, 1),
        }
    }

    fn invocations(self, blocks: u32) -> u32 {
        match self {
            Self::Block => blocks,
            _ => blocks.div_ceil(self.blocks_per_invocation() * WORKGROUP) * WORKGROUP,
        }
    }
}

/// Blocks whose elements become at least a word when converted from `from` to `to` bytes.
const fn blocks_per_word(to: u32, from: u32) -> u32 {
    if from == 8 * to { 2 } else { 1 }
}

/// Cuts `bytes` (rounded up to whole blocks) into dispatches within the limits.
pub(crate) fn dispatch_ranges(
    bytes: u64,
    granularity: Granularity,
    limits: Limits,
) -> impl Iterator<Item = DispatchRange> {
    let blocks = bytes.div_ceil(BLOCK_BYTES);
    let most = limits.max_blocks(granularity);
    (0..blocks).step_by(most as usize).map(move |start| {
        let blocks = (blocks - start).min(most) as u32;
        let workgroups = workgroup_grid(granularity.invocations(blocks), limits.max_workgroups);
        DispatchRange { offset: start * BLOCK_BYTES, blocks, workgroups }
    })
}

/// A single dispatch of `invocations`, or `None` if it exceeds the limits.
pub(crate) fn single_dispatch(invocations: u64, limits: Limits) -> Option<DispatchRange> {
    let blocks = u32::try_from(invocations).ok().filter(|&n| u64::from(n) <= limits.max_invocations())?;
    Some(DispatchRange { offset: 0, blocks, workgroups: workgroup_grid(blocks, limits.max_workgroups) })
}

/// Enough workgroups for this many invocations, in as few rows as the limit allows, all of equal length.
fn workgroup_grid(invocations: u32, max_workgroups: u32) -> [u32; 2] {
    let groups = invocations.div_ceil(WORKGROUP);
    let rows = groups.div_ceil(max_workgroups);
    [groups.div_ceil(rows), rows]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Limits =
        Limits { max_binding: 100_000, offset_alignment: 256, max_workgroups: 3, max_buffers: 8 };

    /// Every block is processed exactly once, within the limits.
    fn check(bytes: u64, limits: Limits) {
        check_granularity(bytes, Granularity::Block, limits);
    }

    fn check_granularity(bytes: u64, granularity: Granularity, limits: Limits) {
        let each = granularity.blocks_per_invocation();
        let mut covered = 0;
        for range in dispatch_ranges(bytes, granularity, limits) {
            assert_eq!(range.offset, covered);
            assert_eq!(range.offset % limits.offset_alignment, 0);
            assert!(range.bytes() <= limits.max_binding);
            let [x, y] = range.workgroups;
            assert!(x >= 1 && y >= 1 && x <= limits.max_workgroups && y <= limits.max_workgroups);
            let invocations = u64::from(x) * u64::from(y) * u64::from(WORKGROUP);
            let reached = invocations * u64::from(each);
            assert!(reached >= range.blocks.into(), "{bytes} bytes: a tail is lost");
            assert!(reached <= u32::MAX.into(), "{bytes} bytes: the index would wrap");
            let spare = reached - u64::from(range.blocks);
            let row = u64::from(WORKGROUP * each);
            assert!(spare < u64::from(y + 1) * row, "{bytes} bytes: idle rows");
            let unit = u64::from(granularity.alignment_blocks()) * BLOCK_BYTES;
            assert_eq!(range.offset % unit, 0, "{bytes} bytes: a word is torn");
            covered += range.bytes();
        }
        assert_eq!(covered, bytes.next_multiple_of(BLOCK_BYTES));
    }

    #[test]
    fn pieces_cover_everything_once_around_every_boundary() {
        let piece = TINY.max_blocks(Granularity::Block) * BLOCK_BYTES;
        let row = u64::from(WORKGROUP) * BLOCK_BYTES;
        for boundary in [0, BLOCK_BYTES, row, 2 * row, 3 * row, 4 * row, 9 * row, piece, 2 * piece] {
            for bytes in boundary.saturating_sub(17)..boundary + 18 {
                check(bytes, TINY);
                check_granularity(bytes, Granularity::Blocks, TINY);
                check_granularity(bytes, Granularity::MaskWord(4), TINY);
                check_granularity(bytes, Granularity::MaskWord(8), TINY);
            }
        }
    }

    #[test]
    fn pieces_cover_terabytes_under_webgpu_default_limits() {
        let limits = Limits::WEBGPU;
        for bytes in [1 << 27, (1 << 27) + 1, 1 << 30, (1 << 40) + 5] {
            check(bytes, limits);
        }
        let unlimited =
            Limits { max_binding: u64::MAX, offset_alignment: 32, max_workgroups: u32::MAX, max_buffers: 8 };
        check((1 << 36) + 3, Limits { max_workgroups: 65_535, ..unlimited });
    }

    #[test]
    fn workgroups_limit_a_piece_too() {
        let limits = Limits { max_binding: 1 << 40, ..TINY };
        let first = dispatch_ranges(1 << 30, Granularity::Block, limits).next().unwrap();
        assert_eq!(first.blocks, 9 * WORKGROUP);
        assert_eq!(first.workgroups, [3, 3]);
    }

    #[test]
    fn nothing_needs_no_dispatch() {
        assert_eq!(dispatch_ranges(0, Granularity::Block, TINY).count(), 0);
    }
}
