// The elements of a reduction, and for products those that they are multiplied by.

@group(0) @binding(1) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> factors: array<vec4<u32>>;

// A block of the elements, or of the factors.
fn block_at(i: u32, of_factors: bool) -> vec4<u32> {
    if of_factors {
        return factors[i];
    }
    return elements[i];
}
