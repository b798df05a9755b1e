// The bounds of a block, and where elements lie relative to them. Values are compared by ranges of order keys from the
// host; elements of tensors (broadcast.wgsl) are compared with each other, and may be NaN.
import package::lib::constants::{BITS, SCALAR_BOUNDS};
import package::lib::element::{extract_subword, in_range, is_nan, less};

struct Bounds {
    lo: vec4<u32>,
    hi: vec4<u32>,
    // For scalar bounds: min(lo, hi), and the ranges below lo and above hi.
    clamped_lo: vec4<u32>,
    ranges: vec4<u32>,
    // An absent bound has the bits of a NaN, but is not treated as one, and nothing ties with it.
    has_lo: vec4<bool>,
    has_hi: vec4<bool>,
}

// The bounds of subword s of a block.
fn subword_bounds(bounds: Bounds, s: u32) -> Bounds {
    var part = bounds;
    part.lo = extract_subword(bounds.lo, s);
    part.hi = extract_subword(bounds.hi, s);
    part.clamped_lo = extract_subword(bounds.clamped_lo, s);
    return part;
}

// Where a bound is NaN. A scalar bound never is: the host rejects it.
fn lo_is_nan(bounds: Bounds) -> vec4<bool> {
    if SCALAR_BOUNDS {
        return vec4(false);
    }
    return bounds.has_lo & is_nan(bounds.lo);
}

fn hi_is_nan(bounds: Bounds) -> vec4<bool> {
    if SCALAR_BOUNDS {
        return vec4(false);
    }
    return bounds.has_hi & is_nan(bounds.hi);
}

// Where max(v, lo) is not v.
fn below_lo(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    if SCALAR_BOUNDS && BITS != 64u {
        return in_range(v, bounds.ranges.xy);
    }
    return (less(v, bounds.lo) | lo_is_nan(bounds)) & !is_nan(v);
}

// Where min(v, hi) is not v although max(v, lo) is not NaN: the first NaN is the result.
fn above_hi(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    if SCALAR_BOUNDS && BITS != 64u {
        return in_range(v, bounds.ranges.zw);
    }
    return (less(bounds.hi, v) | hi_is_nan(bounds)) & !is_nan(v) & !lo_is_nan(bounds);
}

// min(lo, hi), which replaces elements below lo.
fn clamped_lo(bounds: Bounds) -> vec4<u32> {
    if SCALAR_BOUNDS {
        return bounds.clamped_lo;
    }
    let crossed = (less(bounds.hi, bounds.lo) | hi_is_nan(bounds)) & !lo_is_nan(bounds);
    return select(bounds.lo, bounds.hi, crossed);
}
