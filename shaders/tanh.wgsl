// The hyperbolic tangent and its gradient, each the real value rounded once: the twins of reference::tanh and reference::tanh_backward.
import package::lib::constants::BITS;
import package::lib::element::{MAGNITUDE, SIGN, element_of, store_element};
import package::lib::gradient::{Product, product_gradient, significand_of};
import package::lib::exponential::{Quotient, exp_minus, quotient_word};
import package::lib::integer::{shifted_left, shifted_right, wide_product};
import package::lib::params::params;
import package::lib::softfloat::{F32_INFINITY, F32_ONE, add64, round_word, sub64, to_f32};

fn tanh(x: vec4<u32>) -> vec4<u32> {
    if BITS == 32u {
        return vec4(tanh_of(x.x), tanh_of(x.y), tanh_of(x.z), tanh_of(x.w));
    }
    var y = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        store_element(&y, e, vec2(tanh_of(element_of(x, e).x), 0u));
    }
    return y;
}

fn tanh_of(element: u32) -> u32 {
    let value = to_f32(element);
    let size = value & MAGNITUDE;
    let y = tanh_quotient(size);
    let near = round_word(value >= SIGN, y.word, y.exponent);
    // Below 2^-12 x is the nearest number of every type. NaN stays.
    return select(near, element, (size < 0x39800000u) | (size > F32_INFINITY));
}

// (1 - exp(-2 |x|)) / (1 + exp(-2 |x|)) for |x| from 2^-12 on; from 10 on it rounds to 1.
fn tanh_quotient(size: u32) -> Quotient {
    let bounded = clamp(size, 0x39800000u, 0x41200000u);
    let exponential = exp_minus((bounded & 0x7fffffu) | 0x800000u, i32(bounded >> 23u) - 149);
    let e = shifted_right(exponential.value, exponential.halvings);
    let difference = sub64(vec2(0u), e);
    let up = countLeadingZeros(difference.y);
    let sum = add64(shifted_right(e, 3u), vec2(0u, 0x20000000u));
    let y = quotient_word(shifted_left(difference, up), sum);
    return Quotient(y.word, y.exponent - i32(up));
}

fn tanh_backward(y: vec4<u32>, g: vec4<u32>) -> vec4<u32> {
    if BITS == 32u {
        return vec4(
            tanh_gradient(to_f32(y.x), g.x),
            tanh_gradient(to_f32(y.y), g.y),
            tanh_gradient(to_f32(y.z), g.z),
            tanh_gradient(to_f32(y.w), g.w),
        );
    }
    var gx = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        store_element(&gx, e, vec2(tanh_gradient(to_f32(element_of(y, e).x), element_of(g, e).x), 0u));
    }
    return gx;
}

// g * (1 - y^2), for y as an f32.
fn tanh_gradient(result: u32, of_g: u32) -> u32 {
    let y = result & MAGNITUDE;
    let g = to_f32(of_g);
    let significand = significand_of(y);
    // y^2 in units of 2^-72. Below 2^-13 it makes no difference: g is the nearest number.
    let square = wide_product(significand, significand);
    let up = u32(clamp(2 * i32(y >> 23u) - 228, 0, 24));
    let low = shifted_left(vec2(square.x, square.y), up);
    let top = (square.y >> 1u) >> (31u - up);
    let rest = sub64(vec2(0u), low);
    let borrow = select(0u, 1u, (low.x | low.y) != 0u);
    let factor = vec3(rest, 256u - top - borrow);
    // Times the significand of g, up to 97 bits: 1 by that of g is the largest, and is left to `product_gradient`.
    let first = wide_product(factor.x, significand_of(g));
    let second = add64(wide_product(factor.y, significand_of(g)), vec2(first.y, 0u));
    let product = Product(vec3(first.x, second.x, second.y + factor.z * significand_of(g)), -72, false);
    return product_gradient(of_g, product, y == F32_ONE, (y < 0x39000000u), (y > F32_ONE));
}
