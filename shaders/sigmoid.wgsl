// The logistic function and its gradient, each the real value rounded once: the twins of reference::sigmoid and reference::sigmoid_backward.
import package::lib::constants::BITS;
import package::lib::element::{MAGNITUDE, SIGN, element_of, store_element};
import package::lib::exponential::{exp_minus, quotient_word};
import package::lib::gradient::{Product, product_gradient, significand_of};
import package::lib::integer::{shifted_left, shifted_right, wide_product};
import package::lib::params::params;
import package::lib::softfloat::{F32_INFINITY, F32_ONE, add64, round_word, sub64, to_f32};

fn sigmoid(x: vec4<u32>) -> vec4<u32> {
    if BITS == 32u {
        return vec4(sigmoid_of(x.x), sigmoid_of(x.y), sigmoid_of(x.z), sigmoid_of(x.w));
    }
    var y = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        store_element(&y, e, vec2(sigmoid_of(element_of(x, e).x), 0u));
    }
    return y;
}

// 1 / (1 + exp(-x)), or exp(x) / (1 + exp(x)) where x is negative.
fn sigmoid_of(element: u32) -> u32 {
    let value = to_f32(element);
    let size = value & MAGNITUDE;
    let negative = value >= SIGN;
    // Below -103.97 it is less than half of the smallest number. Far above 0 the quotient_word rounds to 1.
    let bounded = clamp(size, 0x37800000u, 0x42cff1b4u);
    let exponential = exp_minus((bounded & 0x7fffffu) | 0x800000u, i32(bounded >> 23u) - 150);
    let eighth = shifted_right(exponential.value, min(3u + exponential.halvings, 63u));
    let up = countLeadingZeros(exponential.value.y);
    let numerator = select(vec2(0u, SIGN), shifted_left(exponential.value, up & 31u), vec2(negative));
    let y = quotient_word(numerator, add64(eighth, vec2(0u, 0x20000000u)));
    let halved = select(-1, i32(exponential.halvings + up), negative);
    let near = round_word(false, y.word, y.exponent - halved);
    let ordinary = select(near, near_half(size, negative), size < 0x37800000u);
    return select(select(ordinary, 0u, negative & (size > 0x42cff1b4u)), element, size > F32_INFINITY);
}

// For |x| below 2^-16: 1/2 + x/4, and less than 2^-53 nearer to 1/2.
fn near_half(size: u32, negative: bool) -> u32 {
    let significand = significand_of(size);
    // |x| / 4 in units of the last bit of a word that begins with 1/2, or with 1/4, rounded up.
    let shift = min(121u - select(0u, 1u, negative) - max(size >> 23u, 1u), 31u);
    let quarter = (significand + (1u << shift) - 1u) >> shift;
    let sticky = select(0u, 1u, size > 0u);
    let above = (0x40000000u + quarter - sticky) | sticky;
    let below = (0x80000000u - quarter) | sticky;
    return round_word(false, select(above, below, negative), select(-1, -2, negative));
}

fn sigmoid_backward(y: vec4<u32>, g: vec4<u32>) -> vec4<u32> {
    if BITS == 32u {
        return vec4(
            sigmoid_gradient(y.x, g.x),
            sigmoid_gradient(y.y, g.y),
            sigmoid_gradient(y.z, g.z),
            sigmoid_gradient(y.w, g.w),
        );
    }
    var gx = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        store_element(&gx, e, vec2(sigmoid_gradient(element_of(y, e).x, element_of(g, e).x), 0u));
    }
    return gx;
}

// g * y * (1 - y).
fn sigmoid_gradient(of_y: u32, of_g: u32) -> u32 {
    let signed = to_f32(of_y);
    let y = signed & MAGNITUDE;
    let significand = significand_of(y);
    let exponent = i32(max(y >> 23u, 1u)) - 150;
    // g * y, 48 bits, and the same times y, 72 bits: in units of 2^-48 of those of the first.
    let product = wide_product(significand, significand_of(to_f32(of_g)));
    let first = wide_product(product.x, significand);
    let second = add64(wide_product(product.y, significand), vec2(first.y, 0u));
    let square = vec3(first.x, second);
    let up = u32(clamp(48 + exponent, 0, 24));
    let raised = vec3(shifted_left(square.xy, up), shifted_left(square.yz, up).y);
    // What falls off below is one unit less, and a little more.
    let down = u32(clamp(-48 - exponent, 0, 95));
    let one = down >= 32u;
    let two = down >= 64u;
    let words = select(select(raised, vec3(raised.yz, 0u), vec3(one)), vec3(raised.z, 0u, 0u), vec3(two));
    let gone = select(select(0u, raised.x, one), raised.x | raised.y, two);
    let bits = down & 31u;
    let lowered = vec3(shifted_right(words.xy, bits).x, shifted_right(words.yz, bits));
    let lost = (gone | (words.x & ((1u << bits) - 1u))) != 0u;
    let borrow = select(0u, 1u, lost);
    let low = 0u - lowered.x - borrow;
    let carried = select(0u, 1u, (lowered.x | borrow) != 0u);
    let scaled = vec2(product.x << 16u, (product.y << 16u) | (product.x >> 16u));
    let high = sub64(sub64(scaled, lowered.yz), vec2(carried, 0u));
    let zero = (y == 0u) | (y == F32_ONE);
    let none = (y > F32_ONE) | (signed > SIGN);
    return product_gradient(of_g, Product(vec3(low, high), exponent - 48, lost), zero, false, none);
}
