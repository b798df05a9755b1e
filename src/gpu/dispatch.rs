//! Dispatch geometry: how blocks are spread over bindings and workgroups, and what a kernel is told.
//! The twin of `shaders/dispatch.wgsl`.

use crate::{Bounds, Element};

/// Bytes of a block, which one invocation works on.
pub const BLOCK: u64 = 16;

/// Invocations of a workgroup: the most that every WebGPU device allows, and the fastest where measured.
pub const WORKGROUP: u32 = 256;

/// What a kernel is told. The layout is `Params` in `shaders/dispatch.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    lo: [u32; 2],
    hi: [u32; 2],
    has_lo: u32,
    has_hi: u32,
    blocks: u32,
    stride: u32,
    pub toward: u32,
    pub ties: u32,
    pub nan_zero: u32,
    padding: u32,
}

impl Params {
    pub fn new<T: Element>(bounds: &Bounds<T>) -> Self {
        let words = |bits: u64| [bits as u32, (bits >> 32) as u32];
        Self {
            lo: words(bounds.lo().map_or(T::FIRST_BITS, T::to_bits)),
            hi: words(bounds.hi().map_or(T::LAST_BITS, T::to_bits)),
            has_lo: bounds.lo().is_some().into(),
            has_hi: bounds.hi().is_some().into(),
            ..Self::default()
        }
    }

    /// The same, for one piece of the work.
    pub fn for_piece(self, piece: &Piece) -> Self {
        Self { blocks: piece.blocks, stride: piece.workgroups[0] * WORKGROUP, ..self }
    }
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

    /// Blocks that one dispatch can take.
    fn max_blocks(&self) -> u64 {
        // A piece begins at an aligned offset, so it is a whole number of aligned steps.
        let step = self.offset_alignment.max(BLOCK);
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

/// Cuts `bytes` (rounded up to whole blocks) into dispatches that keep within the limits.
pub fn pieces(bytes: u64, limits: Limits) -> impl Iterator<Item = Piece> {
    let blocks = bytes.div_ceil(BLOCK);
    let most = limits.max_blocks();
    (0..blocks).step_by(most as usize).map(move |start| {
        let blocks = (blocks - start).min(most) as u32;
        Piece { offset: start * BLOCK, blocks, workgroups: fold(blocks, limits.max_workgroups) }
    })
}

/// Enough workgroups for `blocks`, in as few rows as the limit allows, all rows equally long.
fn fold(blocks: u32, max_workgroups: u32) -> [u32; 2] {
    let groups = blocks.div_ceil(WORKGROUP);
    let rows = groups.div_ceil(max_workgroups);
    [groups.div_ceil(rows), rows]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Limits = Limits { max_binding: 100_000, offset_alignment: 256, max_workgroups: 3 };

    /// Every block is worked on exactly once, within the limits.
    fn check(bytes: u64, limits: Limits) {
        let mut covered = 0;
        for piece in pieces(bytes, limits) {
            assert_eq!(piece.offset, covered);
            assert_eq!(piece.offset % limits.offset_alignment, 0);
            assert!(piece.bytes() <= limits.max_binding);
            let [x, y] = piece.workgroups;
            assert!(x >= 1 && y >= 1 && x <= limits.max_workgroups && y <= limits.max_workgroups);
            let invocations = u64::from(x) * u64::from(y) * u64::from(WORKGROUP);
            assert!(invocations >= piece.blocks.into(), "{bytes} bytes: a tail is lost");
            assert!(invocations <= u32::MAX.into(), "{bytes} bytes: the index would wrap");
            let spare = invocations - u64::from(piece.blocks);
            assert!(spare < u64::from(y + 1) * u64::from(WORKGROUP), "{bytes} bytes: idle rows");
            covered += piece.bytes();
        }
        assert_eq!(covered, bytes.next_multiple_of(BLOCK));
    }

    #[test]
    fn pieces_cover_everything_once_around_every_boundary() {
        let piece = TINY.max_blocks() * BLOCK;
        let row = u64::from(WORKGROUP) * BLOCK;
        for boundary in [0, BLOCK, row, 2 * row, 3 * row, 4 * row, 9 * row, piece, 2 * piece] {
            for bytes in boundary.saturating_sub(17)..boundary + 18 {
                check(bytes, TINY);
            }
        }
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
        let first = pieces(1 << 30, limits).next().unwrap();
        assert_eq!(first.blocks, 9 * WORKGROUP);
        assert_eq!(first.workgroups, [3, 3]);
    }

    #[test]
    fn nothing_needs_no_dispatch() {
        assert_eq!(pieces(0, TINY).count(), 0);
    }
}
