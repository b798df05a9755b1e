// The elements of a reduction without factors, in place of factors.wgsl: for engines that do not bind the elements twice.

@group(0) @binding(1) var<storage, read> elements: array<vec4<u32>>;

fn block_at(i: u32, of_factors: bool) -> vec4<u32> {
    return elements[i];
}
