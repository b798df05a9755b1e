// Sums over the broadcast dimensions, in one fixed order: neighbours in pairs, then neighbouring sums in pairs, and
// so on, which is the order of src/reference.rs. A pass takes three such steps.

@group(0) @binding(3) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> partials: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> sums: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> result: array<vec4<u32>>;

// Leaf n of a sum. An axis of x is its length, its stride, and whether it is summed over.
fn element_leaf(sum: u32, n: u32) -> vec2<u32> {
    if n >= params.leaves {
        return no_sum();
    }
    var kept = sum;
    var summed = n;
    var offset = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        if axis.z != 0u {
            offset += summed % axis.x * axis.y;
            summed = summed / axis.x;
        } else {
            offset += kept % axis.x * axis.y;
            kept = kept / axis.x;
        }
    }
    return to_sum(element_of(elements[offset / (SLICES * LANES)], offset % (SLICES * LANES)));
}

// Partial sums lie one for each sum, then the next for each.
fn partial_leaf(sum: u32, n: u32) -> vec2<u32> {
    if n >= params.leaves {
        return no_sum();
    }
    return partials[n * params.sums + sum];
}

@compute @workgroup_size(WORKGROUP)
fn sum_elements(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i >= params.blocks {
        return;
    }
    let sum = i % params.sums;
    let n = i / params.sums * 8u;
    let first = add(
        add(element_leaf(sum, n), element_leaf(sum, n + 1u)),
        add(element_leaf(sum, n + 2u), element_leaf(sum, n + 3u)),
    );
    let second = add(
        add(element_leaf(sum, n + 4u), element_leaf(sum, n + 5u)),
        add(element_leaf(sum, n + 6u), element_leaf(sum, n + 7u)),
    );
    sums[i] = add(first, second);
}

@compute @workgroup_size(WORKGROUP)
fn sum_partials(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i >= params.blocks {
        return;
    }
    let sum = i % params.sums;
    let n = i / params.sums * 8u;
    let first = add(
        add(partial_leaf(sum, n), partial_leaf(sum, n + 1u)),
        add(partial_leaf(sum, n + 2u), partial_leaf(sum, n + 3u)),
    );
    let second = add(
        add(partial_leaf(sum, n + 4u), partial_leaf(sum, n + 5u)),
        add(partial_leaf(sum, n + 6u), partial_leaf(sum, n + 7u)),
    );
    sums[i] = add(first, second);
}

// Whole sums, rounded to elements and packed into blocks.
@compute @workgroup_size(WORKGROUP)
fn sum_finish(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i >= params.blocks {
        return;
    }
    var block = vec4(0u);
    for (var e = 0u; e < SLICES * LANES; e++) {
        let sum = i * SLICES * LANES + e;
        if sum < params.sums {
            put(&block, e, from_sum(partials[sum]));
        }
    }
    result[i] = block;
}
