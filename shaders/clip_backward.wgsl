// The gradient of x, from the upstream gradient g: the twin of reference::clip_backward. Gradients are selected, never
// multiplied by a mask: 0 * inf would be NaN.
import package::lib::bounds::{Bounds, hi_is_nan, lo_is_nan, subword_bounds};
import package::lib::constants::{SUBWORDS, TIES, TIES_EXCLUSIVE, TIES_HALF};
import package::lib::element::{equal, extract_subword, halve, halve_remainder, insert_subword, is_nan, less};
import package::lib::rule::Rule;

fn clip_backward(x: vec4<u32>, g: vec4<u32>, bounds: Bounds, rule: Rule) -> vec4<u32> {
    if SUBWORDS == 1u {
        return gradients(x, g, bounds, rule).gx;
    }
    var gx = vec4(0u);
    for (var s = 0u; s < SUBWORDS; s++) {
        let part = gradients(extract_subword(x, s), extract_subword(g, s), subword_bounds(bounds, s), rule);
        gx |= insert_subword(part.gx, s);
    }
    return gx;
}

struct Gradients {
    gx: vec4<u32>,
    glo: vec4<u32>,
    ghi: vec4<u32>,
}

// All three gradients of a subword. The compiler drops those that a caller does not use.
fn gradients(v: vec4<u32>, g: vec4<u32>, bounds: Bounds, rule: Rule) -> Gradients {
    let zero = vec4(0u);
    // Back through min(t, hi), then through t = max(v, lo). Nothing ties with an absent bound.
    let below = less(v, bounds.lo);
    let t = select(v, bounds.lo, below);
    let above = less(bounds.hi, t);
    let ties_hi = bounds.has_hi & equal(t, bounds.hi);
    let ties_lo = bounds.has_lo & equal(v, bounds.lo);
    let inside = select(g, tie_share(g), ties_hi);

    let to_t = select(inside, outside_grad(g, less(zero, g), rule), above);
    var gx = select(select(to_t, tie_share(to_t), ties_lo), outside_grad(to_t, less(to_t, zero), rule), below);
    // The bounds receive what the chain rule gives, whatever x receives beyond them.
    let rest = select(inside, zero, above);
    var glo = select(select(zero, bound_share(rest), ties_lo), rest, below);
    var ghi = select(select(zero, bound_share(g), ties_hi), g, above);

    // The first NaN supplied the output.
    let nan_lo = lo_is_nan(bounds);
    let nan_hi = hi_is_nan(bounds) & !nan_lo;
    gx = select(gx, zero, nan_lo | nan_hi);
    glo = select(select(glo, zero, nan_hi), g, nan_lo);
    ghi = select(select(ghi, zero, nan_lo), g, nan_hi);
    let nan = is_nan(v);
    let nan_grad = select(g, zero, rule.nan_zero);
    return Gradients(select(gx, nan_grad, nan), select(glo, zero, nan), select(ghi, zero, nan));
}

// The share of a tied gradient that the tensor side keeps.
fn tie_share(g: vec4<u32>) -> vec4<u32> {
    if TIES == TIES_EXCLUSIVE {
        return vec4(0u);
    }
    if TIES == TIES_HALF {
        return halve(g);
    }
    return g;
}

// The share that the bound gets.
fn bound_share(g: vec4<u32>) -> vec4<u32> {
    if TIES == TIES_EXCLUSIVE {
        return g;
    }
    if TIES == TIES_HALF {
        return halve_remainder(g);
    }
    return vec4(0u);
}

// What x receives beyond a bound. `inward`: the descent step would move back.
fn outside_grad(g: vec4<u32>, inward: vec4<bool>, rule: Rule) -> vec4<u32> {
    return select(vec4(0u), g, rule.toward & inward & !is_nan(g));
}
