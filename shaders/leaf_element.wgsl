// The first pass of sum.wgsl adds up elements. The passes after it: leaf_partial.wgsl.

@group(0) @binding(3) var<storage, read> elements: array<vec4<u32>>;

// Leaf n of a sum. An axis of x is its length, its stride, and whether it is summed over.
fn leaf(sum: u32, n: u32) -> vec2<u32> {
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
