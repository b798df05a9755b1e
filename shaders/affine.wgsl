// y = scale * x + offset for floats of up to 32 bits, in integers: the affine map of a hard sigmoid.

@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn affine(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i >= params.blocks {
        return;
    }
    var block = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let element = element_of(x[i], e);
        let value = to_sum(element).x;
        let mapped = from_sum(vec2(add_f32(mul_f32(value, params.lo.x), params.lo.y), 0u));
        // A NaN stays as it is.
        put(&block, e, select(mapped, element, (value & MAGNITUDE) > F32_INFINITY));
    }
    y[i] = block;
}
