// y as in clip.wgsl, and in the same pass one bit an element that says whether its gradient reaches x.

@group(0) @binding(5) var<storage, read_write> mask: array<u32>;

const TIES_EXCLUSIVE: u32 = 1u;

fn passes(v: vec4<u32>, lo: vec4<u32>, hi: vec4<u32>) -> vec4<bool> {
    let below = less(v, lo);
    let t = select(v, lo, below);
    let ties = (vec4(params.has_hi != 0u) & equal(t, hi)) | (vec4(params.has_lo != 0u) & equal(v, lo));
    let stopped = below | less(hi, t) | (vec4(TIES == TIES_EXCLUSIVE) & ties) | lo_nan(lo) | hi_nan(hi);
    return select(!stopped, vec4(params.nan_zero == 0u), is_nan(v));
}

// The bits of a block, from bit 0 up: a slice after the other, an element after the other.
fn bits_of(block: vec4<u32>, bounds: Bounds) -> u32 {
    var bits = 0u;
    for (var s = 0u; s < SLICES; s++) {
        bits |= pack(passes(slice(block, s), slice(bounds.lo, s), slice(bounds.hi, s))) << (s * LANES);
    }
    return bits;
}

// An invocation fills a word of the mask, from blocks a workgroup apart: see mask.wgsl.
@compute @workgroup_size(WORKGROUP)
fn clip_saving(@builtin(global_invocation_id) id: vec3<u32>) {
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
