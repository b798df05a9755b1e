// The passes of sum.wgsl after the first add up what the one before made. The first: leaf_element.wgsl.

@group(0) @binding(3) var<storage, read> partials: array<vec2<u32>>;

// Partial sums lie one for each sum, then the next for each.
fn leaf(sum: u32, n: u32) -> vec2<u32> {
    if n >= params.leaves {
        return no_sum();
    }
    return partials[n * params.sums + sum];
}
