// y = x beyond the bounds, zero between them: the twin of reference::hard_shrink, and its gradient.
import package::lib::bounds::{Bounds, above_hi, below_lo, hi_is_nan, lo_is_nan, subword_bounds};
import package::lib::constants::SUBWORDS;
import package::lib::element::{extract_subword, insert_subword, is_nan};

fn hard_shrink(x: vec4<u32>, bounds: Bounds) -> vec4<u32> {
    var y = vec4(0u);
    for (var s = 0u; s < SUBWORDS; s++) {
        let v = extract_subword(x, s);
        let part = subword_bounds(bounds, s);
        // The first NaN is the result.
        let kept = select(vec4(0u), v, is_nan(v) | below_lo(v, part) | above_hi(v, part));
        let of_bounds = select(select(kept, part.hi, hi_is_nan(part)), part.lo, lo_is_nan(part));
        y |= insert_subword(select(of_bounds, v, is_nan(v)), s);
    }
    return y;
}

fn hard_shrink_backward(x: vec4<u32>, g: vec4<u32>, bounds: Bounds) -> vec4<u32> {
    var gx = vec4(0u);
    for (var s = 0u; s < SUBWORDS; s++) {
        let v = extract_subword(x, s);
        let part = subword_bounds(bounds, s);
        let of_bounds = lo_is_nan(part) | hi_is_nan(part);
        let kept = select(below_lo(v, part) | above_hi(v, part), vec4(false), of_bounds) | is_nan(v);
        gx |= insert_subword(select(vec4(0u), extract_subword(g, s), kept), s);
    }
    return gx;
}
