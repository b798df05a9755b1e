// A float in another type, in integers: the twin of src/element/convert.rs. Elements are in the low bits, the low word first.
import package::lib::constants::{BITS, TO_BITS, TO_MAX_FINITE, TO_MAX_NUMBER};
import package::lib::element::{MAGNITUDE, SIGN};
import package::lib::softfloat::{
    F32_INFINITY, F32_NAN, F64_INFINITY, F64_NAN, narrow, round_f32, shift_right, to_f32,
};

const F32_MAX: u32 = 0x7f7fffffu;

// The element of the type that comes out nearest to one of the other, ties to even. What is beyond its range becomes its
// greatest finite number, an infinity where there is none too; a NaN the quiet one of its sign.
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

// An f64 as an f32: the nearest, or, if `odd`, one next to it whose last bit tells that it is inexact, so that to round it
// again is to round once.
fn f64_to_f32(v: vec2<u32>, odd: bool) -> u32 {
    let sign = v.y & SIGN;
    let size = vec2(v.x, v.y & MAGNITUDE);
    if size.y >= F64_INFINITY {
        let nan = size.y > F64_INFINITY || size.x != 0u;
        return sign | select(F32_INFINITY, F32_NAN, nan);
    }
    let exponent = size.y >> 20u;
    // The least exponent of a number beyond the greatest f32.
    if exponent >= 896u + 255u {
        return sign | F32_MAX;
    }
    // The significand with three bits more than an f32's, the last of which stands for all below it.
    let leading = select(0u, 0x100000u, exponent != 0u);
    let normal = max(exponent, 897u);
    let s = shift_right(vec2(size.x, (size.y & 0xfffffu) | leading), min(26u + normal - exponent, 63u)).x;
    if odd {
        return sign | (((normal - 897u) << 23u) + ((s >> 3u) | select(0u, 1u, (s & 7u) != 0u)));
    }
    return sign | min(round_f32(0u, normal - 896u, s), F32_MAX);
}

// An f32 as an f64.
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
