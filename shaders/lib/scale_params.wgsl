// The parameters of a dispatch of scale.wgsl, in place of params.wgsl. The twin of ScaleParams in src/plan/params.rs.

struct Params {
    // Norms, or invocations, of this dispatch, and invocations of a row of workgroups.
    blocks: u32,
    stride: u32,
    elements: u32,
    rank: u32,
    // The limit of a norm, the eps added to the norm, and the divisor of the norm (0: none), as f32.
    max_norm: u32,
    eps: u32,
    average: u32,
    // The minimum for norms of parameters, of which the limit is a multiple, as f32.
    least: u32,
    // What happens to elements whose norm is not finite.
    policy: u32,
    // The blocks of this piece of the elements, and its first element.
    pieces: u32,
    first: u32,
    // Each is a length, and the stride of the scalings along it.
    axes: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<uniform> params: Params;
