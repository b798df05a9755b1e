// The gradient of x from a saved mask: g where the bit says so, else zero.

@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read> g: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> gx: array<vec4<u32>>;

// A block, by the lowest bits.
fn masked(upstream: vec4<u32>, bits: u32) -> vec4<u32> {
    var result = vec4(0u);
    for (var s = 0u; s < SLICES; s++) {
        let part = select(vec4(0u), slice(upstream, s), unpack(bits >> (s * LANES)));
        result |= unslice(part, s);
    }
    return result;
}

// An invocation reads a word of the mask, for blocks a workgroup apart: see mask.wgsl.
@compute @workgroup_size(WORKGROUP)
fn saved_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let word = block_index(id);
    let blocks = params.blocks;
    if masked_block(word, 0u) < blocks {
        let bits = mask[word];
        for (var n = 0u; n < MASKED; n++) {
            let i = masked_block(word, n);
            if i < blocks {
                gx[i] = masked(g[i], bits >> (n * SLICES * LANES));
            }
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn saved_grad_in_place(@builtin(global_invocation_id) id: vec3<u32>) {
    let word = block_index(id);
    let blocks = params.blocks;
    if masked_block(word, 0u) < blocks {
        let bits = mask[word];
        for (var n = 0u; n < MASKED; n++) {
            let i = masked_block(word, n);
            if i < blocks {
                gx[i] = masked(gx[i], bits >> (n * SLICES * LANES));
            }
        }
    }
}
