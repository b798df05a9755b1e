// What every kernel is told, and which block an invocation works on. Its twin is src/gpu/dispatch.rs.

struct Params {
    // The bounds' bits, low word first. One that is absent is the first or last element in the order of keys,
    // so that nothing lies beyond it.
    lo: vec2<u32>,
    hi: vec2<u32>,
    has_lo: u32,
    has_hi: u32,
    // Blocks of this dispatch, and how many of them a row of workgroups covers.
    blocks: u32,
    stride: u32,
    // The backward rule: see clip_grad.wgsl.
    toward: u32,
    ties: u32,
    nan_zero: u32,
    padding: u32,
}

override WORKGROUP: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;

// Workgroups are folded into rows, since a dimension holds only so many of them.
fn block_index(invocation: vec3<u32>) -> u32 {
    return invocation.y * params.stride + invocation.x;
}
