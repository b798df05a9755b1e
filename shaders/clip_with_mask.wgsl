// y as in clip.wgsl, and in the same pass one bit per element that says whether its gradient reaches x.
import package::clip::clip;
import package::lib::bounds::{Bounds, above_hi, below_lo, subword_bounds};
import package::lib::constants::{LANES_PER_SUBWORD, SUBWORDS, TIES, TIES_EXCLUSIVE};
import package::lib::element::{equal, extract_subword, is_nan};
import package::lib::mask::pack;
import package::lib::rule::Rule;

struct ClipWithMask {
    y: vec4<u32>,
    // The bits of the block, from bit 0 up: subword by subword, element by element.
    mask: u32,
}

fn clip_with_mask(x: vec4<u32>, bounds: Bounds, rule: Rule) -> ClipWithMask {
    var mask = 0u;
    for (var s = 0u; s < SUBWORDS; s++) {
        let bits = pack(passes(extract_subword(x, s), subword_bounds(bounds, s), rule));
        mask |= bits << (s * LANES_PER_SUBWORD);
    }
    return ClipWithMask(clip(x, bounds), mask);
}

fn passes(v: vec4<u32>, bounds: Bounds, rule: Rule) -> vec4<bool> {
    var stopped = below_lo(v, bounds) | above_hi(v, bounds);
    if TIES == TIES_EXCLUSIVE {
        let ties_lo = bounds.has_lo & equal(v, bounds.lo);
        let ties_hi = bounds.has_hi & equal(v, bounds.hi);
        stopped = stopped | ties_lo | ties_hi;
    }
    return select(!stopped, !rule.nan_zero, is_nan(v));
}
