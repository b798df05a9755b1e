// The gradient of x from a saved mask: g where the bit says so, else zero.

@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read> g: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> gx: array<vec4<u32>>;

fn masked(upstream: vec4<u32>, i: u32) -> vec4<u32> {
    let bits = mask[mask_word(i)] >> (mask_place(i) * SLICES * LANES);
    var result = vec4(0u);
    for (var s = 0u; s < SLICES; s++) {
        let part = select(vec4(0u), slice(upstream, s), unpack(bits >> (s * LANES)));
        result |= unslice(part, s);
    }
    return result;
}

@compute @workgroup_size(WORKGROUP)
fn saved_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        gx[i] = masked(g[i], i);
    }
}

@compute @workgroup_size(WORKGROUP)
fn saved_grad_in_place(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        gx[i] = masked(gx[i], i);
    }
}
