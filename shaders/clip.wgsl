// y = min(max(x, lo), hi), selected, never computed: the contract is src/reference.rs.

@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;

// Slice s of a block.
fn clip_lanes(v: vec4<u32>, bounds: Bounds, s: u32) -> vec4<u32> {
    // What is below lo becomes lo, or hi where the bounds are crossed.
    return select(select(v, floor_of(bounds, s), raised(v, bounds)), bounds.hi, lowered(v, bounds));
}

fn clip_block(block: vec4<u32>, bounds: Bounds) -> vec4<u32> {
    var result = vec4(0u);
    for (var s = 0u; s < SLICES; s++) {
        result |= unslice(clip_lanes(slice(block, s), slices(bounds, s), s), s);
    }
    return result;
}

fn slices(bounds: Bounds, s: u32) -> Bounds {
    return Bounds(slice(bounds.lo, s), slice(bounds.hi, s));
}

@compute @workgroup_size(WORKGROUP)
fn clip(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            y[i] = clip_block(x[i], bounds_of(i));
        }
    }
}

// One binding only: a buffer cannot be bound for reading and for writing in one dispatch.
@compute @workgroup_size(WORKGROUP)
fn clip_in_place(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            y[i] = clip_block(y[i], bounds_of(i));
        }
    }
}
