// Sums over the broadcast dimensions, in one fixed order: neighbours in pairs, then neighbouring sums in pairs, and so
// on: the twin of reference::sum. A pass takes three such steps, and so eight leaves: the first adds up elements, the
// others the partial sums of the one before. Integers of 64 bits are summed in two halves, which the end puts together.
import package::lib::constants::{LANES_PER_SUBWORD, SUBWORDS, WORKGROUP};
import package::lib::element::{element_of, store_element};
import package::lib::params::{invocation_index, params};
import package::lib::softfloat::{add, add_identity, clip_wide_integer, from_accum, to_accum};

@group(0) @binding(1) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> partials: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> result: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> high_sums: array<vec2<u32>>;

// Leaf n of a sum. An axis of x is its length, its stride, and whether it is summed over.
fn leaf_element(sum: u32, n: u32) -> vec2<u32> {
    if n >= params.leaves {
        return add_identity();
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
    let each = SUBWORDS * LANES_PER_SUBWORD;
    return to_accum(element_of(elements[offset / each], offset % each), params.scalars.x != 0u);
}

// Partial sums lie one for each sum, then the next for each.
fn leaf_partial(sum: u32, n: u32) -> vec2<u32> {
    if n >= params.leaves {
        return add_identity();
    }
    return partials[n * params.sums + sum];
}

// Sums of leaves that wait for a neighbour: `level[n]` of 2^n of them.
struct Tree {
    level: array<vec2<u32>, 4>,
}

// Adds leaf n to the tree. One addition in the code, not seven: drivers are slow to compile it.
fn push(tree: ptr<function, Tree>, n: u32, leaf: vec2<u32>) {
    var value = leaf;
    var level = 0u;
    while ((n >> level) & 1u) == 1u {
        value = add((*tree).level[level], value);
        level++;
    }
    (*tree).level[level] = value;
}

@compute @workgroup_size(WORKGROUP)
fn sum_elements(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        var tree: Tree;
        for (var n = 0u; n < params.fan_in; n++) {
            push(&tree, n, leaf_element(i % params.sums, i / params.sums * params.fan_in + n));
        }
        sums[i] = tree.level[3];
    }
}

@compute @workgroup_size(WORKGROUP)
fn sum_partials(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        var tree: Tree;
        for (var n = 0u; n < params.fan_in; n++) {
            push(&tree, n, leaf_partial(i % params.sums, i / params.sums * params.fan_in + n));
        }
        sums[i] = tree.level[3];
    }
}

// Whole sums, rounded to elements and packed into blocks.
@compute @workgroup_size(WORKGROUP)
fn sum_finish(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.blocks {
        return;
    }
    var block = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let n = i * params.elements + e;
        if n < params.sums {
            store_element(&block, e, from_accum(partials[n]));
        }
    }
    result[i] = block;
}

// The same of integers of 64 bits.
@compute @workgroup_size(WORKGROUP)
fn sum_finish_wide(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.blocks {
        return;
    }
    var block = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let n = i * params.elements + e;
        if n < params.sums {
            store_element(&block, e, clip_wide_integer(partials[n], high_sums[n]));
        }
    }
    result[i] = block;
}
