// Sums over the broadcast dimensions, in one fixed order: neighbours in pairs, then neighbouring sums in pairs, and
// so on, which is the order of src/reference.rs. A pass takes three such steps, and so eight leaves.

@group(0) @binding(4) var<storage, read_write> sums: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> result: array<vec4<u32>>;

// The sum of eight leaves, or of as many as there are, in the order of the tree. `waiting[n]` is the sum of 2^n
// leaves that waits for a neighbour. One addition in the code, not seven: drivers are slow to compile it.
fn sum_of(i: u32, first: u32) -> vec2<u32> {
    var waiting: array<vec2<u32>, 4>;
    for (var n = 0u; n < params.fan_in; n++) {
        var value = leaf(i, first + n);
        var level = 0u;
        while ((n >> level) & 1u) == 1u {
            value = add(waiting[level], value);
            level++;
        }
        waiting[level] = value;
    }
    return waiting[3];
}

@compute @workgroup_size(WORKGROUP)
fn sum(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        sums[i] = sum_of(i % params.sums, i / params.sums * params.fan_in);
    }
}

// Whole sums, rounded to elements and packed into blocks.
@compute @workgroup_size(WORKGROUP)
fn sum_finish(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i >= params.blocks {
        return;
    }
    var block = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let n = i * params.elements + e;
        if n < params.sums {
            put(&block, e, from_sum(leaf(n, 0u)));
        }
    }
    result[i] = block;
}
