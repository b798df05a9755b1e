// cap * tanh(x / cap) and its gradient, in steps that are each rounded to f32: the twins of reference::soft_cap and reference::soft_cap_backward.
import package::lib::element::{MAGNITUDE, SIGN, element_of, store_element};
import package::lib::params::params;
import package::lib::softfloat::{F32_INFINITY, F32_ONE, div_f32, from_f32, is_nan_f32, mul_f32, scaled_f32, to_f32};
import package::tanh::{tanh_gradient, tanh_quotient};

fn soft_cap(x: vec4<u32>, scalars: vec4<u32>) -> vec4<u32> {
    var y = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let element = element_of(x, e).x;
        let value = to_f32(element);
        let near = from_f32(mul_f32(tanh_f32(div_f32(value, scalars.x)), scalars.x));
        // A NaN is unchanged.
        store_element(&y, e, vec2(select(near, element, is_nan_f32(value)), 0u));
    }
    return y;
}

// The tangent of an f32 as an f32, whatever the type of the elements.
fn tanh_f32(value: u32) -> u32 {
    let size = value & MAGNITUDE;
    let y = tanh_quotient(size);
    // Three bits more than are kept, the last of them sticky.
    let near = scaled_f32(value & SIGN, y.exponent + 127, (y.word >> 4u) | 1u);
    return select(near, value, (size < 0x39800000u) | (size > F32_INFINITY));
}

fn soft_cap_backward(y: vec4<u32>, g: vec4<u32>, scalars: vec4<u32>) -> vec4<u32> {
    var gx = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let ratio = div_f32(to_f32(element_of(y, e).x), scalars.x);
        // The result may be the number of the type after the cap.
        let beyond = ((ratio & MAGNITUDE) > F32_ONE) & !is_nan_f32(ratio);
        let t = select(ratio, F32_ONE, beyond);
        store_element(&gx, e, vec2(tanh_gradient(t, element_of(g, e).x), 0u));
    }
    return gx;
}
