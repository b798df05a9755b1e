// y = min(max(x, lo), hi), selected, never computed: the twin of reference::clip.
import package::lib::bounds::{Bounds, above_hi, below_lo, clamped_lo, subword_bounds};
import package::lib::constants::SUBWORDS;
import package::lib::element::{extract_subword, insert_subword};

fn clip(x: vec4<u32>, bounds: Bounds) -> vec4<u32> {
    if SUBWORDS == 1u {
        // Some drivers keep a loop of one iteration, which takes a fifth of the time.
        return clip_subword(x, bounds);
    }
    var y = vec4(0u);
    for (var s = 0u; s < SUBWORDS; s++) {
        y |= insert_subword(clip_subword(extract_subword(x, s), subword_bounds(bounds, s)), s);
    }
    return y;
}

fn clip_subword(v: vec4<u32>, bounds: Bounds) -> vec4<u32> {
    // Elements below lo become lo, or hi if the bounds are crossed.
    let raised = select(v, clamped_lo(bounds), below_lo(v, bounds));
    return select(raised, bounds.hi, above_hi(v, bounds));
}
