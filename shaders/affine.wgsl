// y = scale * x + offset for floats of up to 32 bits, in integers: the twin of reference::affine.
import package::lib::element::{MAGNITUDE, element_of, store_element};
import package::lib::params::params;
import package::lib::softfloat::{F32_INFINITY, add_f32, from_f32, mul_f32, to_f32};

fn affine(x: vec4<u32>, scalars: vec4<u32>) -> vec4<u32> {
    var y = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let element = element_of(x, e);
        let value = to_f32(element.x);
        let mapped = vec2(from_f32(add_f32(mul_f32(value, scalars.x), scalars.y)), 0u);
        // A NaN is unchanged.
        store_element(&y, e, select(mapped, element, vec2((value & MAGNITUDE) > F32_INFINITY)));
    }
    return y;
}
