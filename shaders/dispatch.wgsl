// What every kernel is told, and which block an invocation works on. Its twin is src/gpu/dispatch.rs.

struct Params {
    // The bounds that are values: a block of them. One that is absent is the first or last element in the order of
    // keys, so that nothing lies beyond it.
    lo: vec4<u32>,
    hi: vec4<u32>,
    // What becomes of what lies below lo: a block of min(lo, hi).
    floor: vec4<u32>,
    // The ranges below lo and above hi, of values of up to 32 bits: see lane.wgsl.
    ranges: vec4<u32>,
    has_lo: u32,
    has_hi: u32,
    // Blocks of this dispatch (or words, or sums), and how many of them a row of workgroups covers.
    blocks: u32,
    stride: u32,
    // The rest of the backward rule: see clip_grad.wgsl.
    toward: u32,
    nan_zero: u32,
    // Axes along which bounds broadcast: see bounds_tensor.wgsl.
    rank: u32,
    // Elements of a block, for loops that are better not unrolled.
    elements: u32,
    // See sum.wgsl.
    sums: u32,
    leaves: u32,
    fan_in: u32,
    axes: array<vec4<u32>, 8>,
}

// What is decided when the kernel is compiled, since branches hang on it: what becomes of ties (see clip_grad.wgsl),
// and how each bound lies beside x (see bounds_tensor.wgsl). What else differs is a uniform, and selects: some
// drivers compile anew when a uniform that decides a branch changes.
override TIES: u32;
override LO_LAYOUT: u32;
override HI_LAYOUT: u32;

// Invocations of a workgroup, blocks that an invocation works on, and blocks whose bits fill a word of a mask (see
// mask.wgsl).
override WORKGROUP: u32;
override EACH: u32;
override MASKED: u32;

@group(0) @binding(0) var<uniform> params: Params;

// The bounds that are values and the rule, in registers. A kernel is told them before it branches: within a branch
// llvmpipe reads a uniform lane by lane, which takes longer than all the rest.
struct Told {
    lo: vec4<u32>,
    hi: vec4<u32>,
    floor: vec4<u32>,
    ranges: vec4<u32>,
    has_lo: vec4<bool>,
    has_hi: vec4<bool>,
    toward: vec4<bool>,
    nan_zero: vec4<bool>,
}

var<private> told: Told;

fn tell() {
    told.lo = splat(params.lo.xy);
    told.hi = splat(params.hi.xy);
    told.floor = splat(params.floor.xy);
    told.ranges = params.ranges;
    told.has_lo = vec4(params.has_lo != 0u);
    told.has_hi = vec4(params.has_hi != 0u);
    told.toward = vec4(params.toward != 0u);
    told.nan_zero = vec4(params.nan_zero != 0u);
}

// A block of the element that these words begin with.
fn splat(words: vec2<u32>) -> vec4<u32> {
    if BITS == 64u {
        return words.xyxy;
    }
    return words.xxxx;
}

// Workgroups are folded into rows, since a dimension holds only so many of them.
fn block_index(invocation: vec3<u32>) -> u32 {
    return invocation.y * params.stride + invocation.x;
}

// Block n of an invocation that works on so many: they are a workgroup apart, so that neighbouring invocations work on
// neighbouring blocks.
fn block_of(invocation: u32, n: u32, each: u32) -> u32 {
    return (invocation / WORKGROUP * each + n) * WORKGROUP + invocation % WORKGROUP;
}
