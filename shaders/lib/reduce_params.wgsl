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

// The index of an output's leaf. An axis is its length, its stride, and whether it is reduced.
fn element_index(output: u32, leaf: u32) -> u32 {
    var kept = output;
    var reduced = leaf;
    var index = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        if axis.z != 0u {
            index += reduced % axis.x * axis.y;
            reduced = reduced / axis.x;
        } else {
            index += kept % axis.x * axis.y;
            kept = kept / axis.x;
        }
    }
    return index;
}
