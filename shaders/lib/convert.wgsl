// Converts a float to another type, in integers: the twin of src/element/convert.rs. Elements are in the low bits, low word
// first.
import package::lib::constants::{BITS, TO_BITS, TO_MAX_FINITE, TO_MAX_NUMBER};
import package::lib::element::{MAGNITUDE, SIGN};
import package::lib::softfloat::{
    F32_INFINITY, F32_NAN, F64_INFINITY, F64_NAN, narrow, round_f32, shift_right, to_f32,
};

const F32_MAX: u32 = 0x7f7fffffu;

// The element of the output type nearest to one of the input type, ties to even. A number beyond its range becomes its
// greatest finite number, as does an infinity in a type without infinity; a NaN becomes the quiet NaN of its sign.
fn convert(element: vec2<u32>) -> vec2<u32> {
    var value = to_f32(element.x);
    if BITS == 64u {
        value = f64_to_f32(element, TO_BITS != 32u);
    }
    if TO_BITS == 64u {
        return f32_to_f64(value);
    }
    if TO_BITS == 32u {
        return vec2(select(value, (value & SIGN) | F32_NAN, (value & MAGNITUDE) > F32_INFINITY), 0u);
    }
    return vec2(narrow(value, TO_MAX_FINITE, TO_MAX_NUMBER), 0u);
}

// Converts an f64 to f32: to nearest, or, if `odd`, to odd (the last bit is set if it is inexact), so that rounding it
// again is rounding once.
fn f64_to_f32(v: vec2<u32>, odd: bool) -> u32 {
    let sign = v.y & SIGN;
    let size = vec2(v.x, v.y & MAGNITUDE);
    if size.y >= F64_INFINITY {
        let nan = size.y > F64_INFINITY || size.x != 0u;
        return sign | select(F32_INFINITY, F32_NAN, nan);
    }
    let exponent = size.y >> 20u;
    // The smallest exponent of a number beyond the greatest f32.
    if exponent >= 896u + 255u {
        return sign | F32_MAX;
    }
    // The significand with three bits more than an f32's, the last of which is sticky.
    let leading = select(0u, 0x100000u, exponent != 0u);
    let normal = max(exponent, 897u);
    let s = shift_right(vec2(size.x, (size.y & 0xfffffu) | leading), min(26u + normal - exponent, 63u)).x;
    if odd {
        return sign | (((normal - 897u) << 23u) + ((s >> 3u) | select(0u, 1u, (s & 7u) != 0u)));
    }
    return sign | min(round_f32(0u, normal - 896u, s), F32_MAX);
}

// Converts an f32 to f64.
fn f32_to_f64(value: u32) -> vec2<u32> {
    let sign = value & SIGN;
    var size = value & MAGNITUDE;
    if size >= F32_INFINITY {
        return vec2(0u, sign | select(F64_INFINITY, F64_NAN, size > F32_INFINITY));
    }
    if size == 0u {
        return vec2(0u, sign);
    }
    var exponent = size >> 23u;
    if exponent == 0u {
        // A subnormal is normal as an f64.
        let up = 23u - firstLeadingBit(size);
        size = size << up;
        exponent = 1u - up;
    }
    return vec2(size << 29u, sign | (((exponent + 896u) << 20u) + ((size & 0x7fffffu) >> 3u)));
}
