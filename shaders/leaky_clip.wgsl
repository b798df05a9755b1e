// A clip that continues with a slope beyond its bounds, for floats of up to 32 bits, in integers: the twin of
// reference::leaky_clip, and its gradients. An element is a float whose differences, products and sums are each rounded to f32.
import package::lib::bounds::Bounds;
import package::lib::element::{MAGNITUDE, SIGN, element_of, store_element};
import package::lib::params::params;
import package::lib::softfloat::{F32_ONE, add_f32, from_f32, is_nan_f32, mul_f32, to_f32};

// An element's operands, in f32.
struct Leaky {
    x: u32,
    lo: u32,
    hi: u32,
    slope: u32,
    // How far x is beyond lo, and the element after that bound; how far this is beyond hi, and the result.
    beyond_lo: u32,
    raised: u32,
    beyond_hi: u32,
    y: u32,
    below: bool,
    above: bool,
    // Which operand is the first NaN.
    nan_x: bool,
    nan_lo: bool,
    nan_hi: bool,
}

fn less_f32(a: u32, b: u32) -> bool {
    return (key_f32(a) < key_f32(b)) & !is_nan_f32(a) & !is_nan_f32(b);
}

// Zeros of both signs are equal.
fn key_f32(v: u32) -> i32 {
    let magnitude = i32(v & MAGNITUDE);
    return select(magnitude, -magnitude, v >= SIGN);
}

fn leaky_of(x: u32, lo: u32, hi: u32, slope: u32, bounds: Bounds) -> Leaky {
    var leaky: Leaky;
    leaky.x = x;
    leaky.lo = lo;
    leaky.hi = hi;
    leaky.slope = slope;
    leaky.nan_x = is_nan_f32(x);
    leaky.nan_lo = bounds.has_lo.x & is_nan_f32(lo) & !leaky.nan_x;
    leaky.nan_hi = bounds.has_hi.x & is_nan_f32(hi) & !leaky.nan_x & !leaky.nan_lo;
    let number = !(leaky.nan_x | leaky.nan_lo | leaky.nan_hi);
    leaky.below = number & bounds.has_lo.x & less_f32(x, lo);
    leaky.beyond_lo = add_f32(x, lo ^ SIGN);
    leaky.raised = select(x, add_f32(mul_f32(slope, leaky.beyond_lo), lo), leaky.below);
    leaky.above = number & bounds.has_hi.x & less_f32(hi, leaky.raised);
    leaky.beyond_hi = add_f32(leaky.raised, hi ^ SIGN);
    leaky.y = select(leaky.raised, add_f32(mul_f32(slope, leaky.beyond_hi), hi), leaky.above);
    return leaky;
}

fn leaky_at(x: vec4<u32>, bounds: Bounds, slope: vec4<u32>, e: u32) -> Leaky {
    let lo = to_f32(element_of(bounds.lo, e).x);
    let hi = to_f32(element_of(bounds.hi, e).x);
    return leaky_of(to_f32(element_of(x, e).x), lo, hi, to_f32(element_of(slope, e).x), bounds);
}

fn leaky_clip(x: vec4<u32>, bounds: Bounds, slope: vec4<u32>) -> vec4<u32> {
    var y = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let leaky = leaky_at(x, bounds, slope, e);
        // Elements inside keep their bits, and a NaN operand is selected.
        var element = element_of(x, e);
        if leaky.below | leaky.above {
            element = vec2(from_f32(leaky.y), 0u);
        }
        if leaky.nan_lo {
            element = element_of(bounds.lo, e);
        }
        if leaky.nan_hi {
            element = element_of(bounds.hi, e);
        }
        store_element(&y, e, element);
    }
    return y;
}

struct LeakyGradients {
    gx: vec4<u32>,
    glo: vec4<u32>,
    ghi: vec4<u32>,
    gslope: vec4<u32>,
}

// Back through the upper bound, then through the lower one.
fn leaky_clip_backward(x: vec4<u32>, g: vec4<u32>, bounds: Bounds, slope: vec4<u32>) -> LeakyGradients {
    // A pointer to a field of a struct cannot be passed everywhere.
    var gradients_x = vec4(0u);
    var gradients_lo = vec4(0u);
    var gradients_hi = vec4(0u);
    var gradients_slope = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let leaky = leaky_at(x, bounds, slope, e);
        let upstream = element_of(g, e);
        let of_y = to_f32(upstream.x);
        let rest = add_f32(F32_ONE, leaky.slope ^ SIGN);
        let of_raised = select(of_y, mul_f32(of_y, leaky.slope), leaky.above);
        var of_slope = 0u;
        if leaky.above {
            of_slope = mul_f32(of_y, leaky.beyond_hi);
        }
        if leaky.below {
            let term = mul_f32(of_raised, leaky.beyond_lo);
            of_slope = select(term, add_f32(of_slope, term), leaky.above);
        }
        let none = vec2(0u);
        var gx = upstream;
        if leaky.above | leaky.below {
            gx = vec2(from_f32(select(of_raised, mul_f32(of_raised, leaky.slope), leaky.below)), 0u);
        }
        var glo = none;
        if leaky.below {
            glo = vec2(from_f32(mul_f32(of_raised, rest)), 0u);
        }
        var ghi = none;
        if leaky.above {
            ghi = vec2(from_f32(mul_f32(of_y, rest)), 0u);
        }
        // The first NaN is the result.
        let of_bounds = leaky.nan_lo | leaky.nan_hi;
        store_element(&gradients_x, e, select(gx, none, vec2(of_bounds)));
        store_element(&gradients_lo, e, select(glo, upstream, vec2(leaky.nan_lo)));
        store_element(&gradients_hi, e, select(ghi, upstream, vec2(leaky.nan_hi)));
        store_element(&gradients_slope, e, vec2(from_f32(of_slope), 0u));
    }
    return LeakyGradients(gradients_x, gradients_lo, gradients_hi, gradients_slope);
}
