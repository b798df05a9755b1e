// The parameters of a dispatch of a reduction, in place of params.wgsl. The twin of ReduceParams in src/plan/params.rs.

struct Params {
    // Words, outputs or blocks of this dispatch, and invocations of a row of workgroups.
    blocks: u32,
    stride: u32,
    elements: u32,
    rank: u32,
    // Adjacent outputs, the elements of each output, how many parts they are divided into, and the outputs of this dispatch.
    width: u32,
    leaves: u32,
    parts: u32,
    outputs: u32,
    // The first output, whose limbs come first; for rows the element that they begin with.
    first: u32,
    // For rows the output whose limbs are those of the first; for a softmax the first slice.
    row: u32,
    // Each is a length, a stride, and whether it is reduced.
    axes: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<uniform> params: Params;
