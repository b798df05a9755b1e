// y as in clip.wgsl, and in the same pass one bit an element that says whether its gradient reaches x.

@group(0) @binding(5) var<storage, read_write> mask: array<u32>;

const TIES_EXCLUSIVE: u32 = 1u;

fn passes(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    var stopped = raised(v, bounds) | lowered(v, bounds);
    if TIES == TIES_EXCLUSIVE {
        let ties_lo = told.has_lo & equal(v, bounds.lo);
        let ties_hi = told.has_hi & equal(v, bounds.hi);
        stopped |= ties_lo | ties_hi;
    }
    return select(!stopped, !told.nan_zero, is_nan(v));
}

// The bits of a block, from bit 0 up: a slice after the other, an element after the other.
fn bits_of(block: vec4<u32>, bounds: Bounds) -> u32 {
    var bits = 0u;
    for (var s = 0u; s < SLICES; s++) {
        bits |= pack(passes(slice(block, s), slices(bounds, s))) << (s * LANES);
    }
    return bits;
}

// An invocation fills a word of the mask, from blocks a workgroup apart: see mask.wgsl.
@compute @workgroup_size(WORKGROUP)
fn clip_saving(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let word = block_index(id);
    var bits = 0u;
    for (var n = 0u; n < MASKED; n++) {
        let i = masked_block(word, n);
        if i < params.blocks {
            let block = x[i];
            let bounds = bounds_of(i);
            y[i] = clip_block(block, bounds);
            bits |= bits_of(block, bounds) << (n * SLICES * LANES);
        }
    }
    // A word that stands for no block may lie beyond the mask.
    if masked_block(word, 0u) < params.blocks {
        mask[word] = bits;
    }
}
