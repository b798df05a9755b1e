// Bounds that are values, or absent: the same for every block. The other kind is bounds_tensor.wgsl.

// The bounds of a block.
struct Bounds {
    lo: vec4<u32>,
    hi: vec4<u32>,
}

fn bounds_of(i: u32) -> Bounds {
    return Bounds(params.lo, params.hi);
}

// Where a bound is NaN. A value never is: the host refuses it.
fn lo_nan(lo: vec4<u32>) -> vec4<bool> {
    return vec4(false);
}

fn hi_nan(hi: vec4<u32>) -> vec4<bool> {
    return vec4(false);
}
