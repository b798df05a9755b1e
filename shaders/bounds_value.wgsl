// Bounds that are values, or absent: the same for every block. The other kind is bounds_tensor.wgsl.

// The bounds of a block.
struct Bounds {
    lo: vec4<u32>,
    hi: vec4<u32>,
}

fn bounds_of(i: u32) -> Bounds {
    return Bounds(told.lo, told.hi);
}

// Where a bound is NaN. A value never is: the host refuses it.
fn lo_nan(lo: vec4<u32>) -> vec4<bool> {
    return vec4(false);
}

fn hi_nan(hi: vec4<u32>) -> vec4<bool> {
    return vec4(false);
}

// Where max(v, lo) is not v, and where min(v, hi) is not v. The host has told the ranges.
fn raised(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    if BITS == 64u {
        return less(v, bounds.lo) & !is_nan(v);
    }
    return within(v, told.ranges.xy);
}

fn lowered(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    if BITS == 64u {
        return less(bounds.hi, v) & !is_nan(v);
    }
    return within(v, told.ranges.zw);
}

// min(lo, hi), in the place of what is raised.
fn floor_of(bounds: Bounds, s: u32) -> vec4<u32> {
    return slice(told.floor, s);
}
