// The parameters of a dispatch of an operation. The twin of OpParams in src/plan/params.rs. All families of parameters begin with the same
// four words.

struct Params {
    // Blocks of this dispatch, and invocations of a row of workgroups.
    blocks: u32,
    stride: u32,
    // Elements of a block, for loops that are better not unrolled.
    elements: u32,
    // Axes: see broadcast.wgsl.
    rank: u32,
    // The scalar broadcast inputs: a block of each, in the order of the list. An absent bound is the minimum or maximum
    // element in the order of keys, so that no element compares beyond it.
    values: array<vec4<u32>, 4>,
    // The replacement of elements below lo: a block of min(lo, hi).
    clamped_lo: vec4<u32>,
    // The ranges below lo and above hi, for values of up to 32 bits: see in_range in element.wgsl.
    ranges: vec4<u32>,
    // The operation's parameters, as f32.
    scalars: vec4<u32>,
    // The least and the greatest code.
    codes: vec4<i32>,
    // For random numbers: the two words of the seed, and the block of x at which the dispatch begins.
    random: vec4<u32>,
    has_lo: u32,
    has_hi: u32,
    // The rest of the backward rule: see rule.wgsl.
    toward: u32,
    nan_zero: u32,
    axes: array<vec4<u32>, 8>,
    strides: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<uniform> params: Params;
