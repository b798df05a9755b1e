// The parameters of a dispatch, and which block an invocation works on. The twin of src/plan/params.rs.
import package::lib::bounds::Bounds;
import package::lib::constants::{BITS, WORKGROUP};
import package::lib::rule::Rule;

struct Params {
    // The broadcast inputs that are values: a block of each, in the order of the list. A bound that is absent is the least or
    // greatest element in the order of keys, so that no element compares beyond it.
    values: array<vec4<u32>, 4>,
    // What becomes of what lies below lo: a block of min(lo, hi).
    clamped_lo: vec4<u32>,
    // The ranges below lo and above hi, of values of up to 32 bits: see in_range in element.wgsl.
    ranges: vec4<u32>,
    // The operation's parameters, as f32.
    scalars: vec4<u32>,
    has_lo: u32,
    has_hi: u32,
    // Blocks of this dispatch (or sums), and invocations of a row of workgroups.
    blocks: u32,
    stride: u32,
    // The rest of the backward rule: see rule.wgsl.
    toward: u32,
    nan_zero: u32,
    // Axes: see broadcast.wgsl and reduce.wgsl.
    rank: u32,
    // Elements of a block, for loops that are better not unrolled.
    elements: u32,
    // Of a reduction: outputs side by side, the elements of each output and how many parts they are divided into, and the
    // outputs of this dispatch. The first of these, whose limbs come first; of rows and of scale.wgsl the element that they
    // begin with, and then the output whose limbs are those of the first. Of scale.wgsl the outputs are the blocks.
    width: u32,
    leaves: u32,
    parts: u32,
    outputs: u32,
    first: u32,
    row: u32,
    // Of scale.wgsl: limit and eps in f32, 0, and the policy.
    limiter: vec4<u32>,
    axes: array<vec4<u32>, 8>,
    strides: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<uniform> params: Params;

// The bounds that are values. Load them before branching: llvmpipe scalarises uniform loads in divergent control flow,
// which dominated the run time.
fn load_bounds() -> Bounds {
    return Bounds(
        splat(params.values[0].xy),
        splat(params.values[1].xy),
        splat(params.clamped_lo.xy),
        params.ranges,
        vec4(params.has_lo != 0u),
        vec4(params.has_hi != 0u),
    );
}

fn load_rule() -> Rule {
    return Rule(vec4(params.toward != 0u), vec4(params.nan_zero != 0u));
}

// A block of the element that these words begin with.
fn splat(words: vec2<u32>) -> vec4<u32> {
    if BITS == 64u {
        return words.xyxy;
    }
    return words.xxxx;
}

// Workgroups are folded into rows, since a dimension holds only so many of them.
fn invocation_index(id: vec3<u32>) -> u32 {
    return id.y * params.stride + id.x;
}

// Block n of an invocation that works on `count`: they are a workgroup apart, so that neighbouring invocations work on
// neighbouring blocks.
fn block_of(invocation: u32, n: u32, count: u32) -> u32 {
    return (invocation / WORKGROUP * count + n) * WORKGROUP + invocation % WORKGROUP;
}
