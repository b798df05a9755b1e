// Float arithmetic in integers. The standard lets a driver flush subnormals, round either way and assume that NaN and
// infinity never occur, and not every device has f64; integers are the same everywhere. The twin of its conversions is
// src/element/convert.rs.
//
// Numbers of 64 bits are two words, low word first.

import package::lib::constants::{
    BITS, EXPONENT_BITS, LANE_SHIFT, MAX_FINITE, MAX_NUMBER, MIN_NORMAL, TO_BITS, TO_EXPONENT_BITS, TO_MAX_FINITE,
    TO_QUIET_NAN,
};
import package::lib::element::{MAGNITUDE, SIGN};

const F32_INFINITY: u32 = 0x7f800000u;
const F32_NAN: u32 = 0x7fc00000u;
const F32_ONE: u32 = 0x3f800000u;
const F64_INFINITY: u32 = 0x7ff00000u;
const F64_NAN: u32 = 0x7ff80000u;

fn is_nan_f32(v: u32) -> bool {
    return (v & MAGNITUDE) > F32_INFINITY;
}

fn add_f32(p: u32, q: u32) -> u32 {
    // a has the larger magnitude.
    let swap = (p & MAGNITUDE) < (q & MAGNITUDE);
    let a = select(p, q, swap);
    let b = select(q, p, swap);
    let size = a & MAGNITUDE;
    let other = b & MAGNITUDE;
    let differ = (a ^ b) >= SIGN;
    if size >= F32_INFINITY {
        let none = size > F32_INFINITY || (other == F32_INFINITY && differ);
        return select(a, F32_NAN, none);
    }

    // Significands with three more bits, the last of which is sticky.
    var exponent = max(size >> 23u, 1u);
    let shift = exponent - max(other >> 23u, 1u);
    let large = ((size & 0x7fffffu) | select(0u, 0x800000u, size >= 0x800000u)) << 3u;
    var small = ((other & 0x7fffffu) | select(0u, 0x800000u, other >= 0x800000u)) << 3u;
    if shift >= 27u {
        small = select(0u, 1u, small != 0u);
    } else {
        let lost = small & ((1u << shift) - 1u);
        small = (small >> shift) | select(0u, 1u, lost != 0u);
    }
    var s = select(large + small, large - small, differ);
    if s == 0u {
        return select(a, 0u, differ);
    }
    if s >= 0x8000000u {
        s = (s >> 1u) | (s & 1u);
        exponent += 1u;
    } else {
        let up = min(26u - firstLeadingBit(s), exponent - 1u);
        s = s << up;
        exponent -= up;
    }
    return round_f32(a & SIGN, exponent, s);
}

// An f32 from a significand with three more bits.
fn round_f32(sign: u32, exponent: u32, s: u32) -> u32 {
    let dropped = s & 7u;
    let kept = s >> 3u;
    let up = select(0u, 1u, dropped > 4u || (dropped == 4u && (kept & 1u) == 1u));
    // The leading bit of a normal number adds one to the exponent.
    return sign | min(((exponent - 1u) << 23u) + kept + up, F32_INFINITY);
}

fn mul_f32(a: u32, b: u32) -> u32 {
    let sign = (a ^ b) & SIGN;
    let large = max(a & MAGNITUDE, b & MAGNITUDE);
    let small = min(a & MAGNITUDE, b & MAGNITUDE);
    if large >= F32_INFINITY {
        return select(sign | F32_INFINITY, F32_NAN, large > F32_INFINITY || small == 0u);
    }
    if small == 0u {
        return sign;
    }
    // In halves of 12 bits.
    let parts = normalized(vec2(large, small));
    let high = parts.v >> vec2(12u);
    let low = parts.v & vec2(0xfffu);
    let cross = high.x * low.y + low.x * high.y;
    let bottom = ((cross & 0xfffu) << 12u) + low.x * low.y;
    let top = high.x * high.y + (cross >> 12u) + (bottom >> 24u);
    let rest = bottom & 0xffffffu;
    var exponent = parts.exponents.x + parts.exponents.y - 127;
    // 27 bits, the last of which is sticky.
    var s: u32;
    if top >= 0x800000u {
        exponent += 1;
        s = (top << 3u) | (rest >> 21u) | select(0u, 1u, (rest & 0x1fffffu) != 0u);
    } else {
        s = (top << 4u) | (rest >> 20u) | select(0u, 1u, (rest & 0xfffffu) != 0u);
    }
    return scaled_f32(sign, exponent, s);
}

// An f32 from a significand with three more bits and any exponent.
fn scaled_f32(sign: u32, exponent: i32, significand: u32) -> u32 {
    if exponent >= 255 {
        return sign | F32_INFINITY;
    }
    var s = significand;
    if exponent < 1 {
        let down = min(u32(1 - exponent), 31u);
        s = (s >> down) | select(0u, 1u, (s & ((1u << down) - 1u)) != 0u);
    }
    return round_f32(sign, u32(max(exponent, 1)), s);
}

// 2^47 by a significand of 24 bits, or up to two less: by its upper half, and a step of Newton's method.
fn reciprocal(significand: u32) -> u32 {
    let near = 0x7fffffffu / max(significand >> 8u, 1u);
    let lacks = bitcast<i32>(0u - near * significand);
    return (near << 8u) + bitcast<u32>((i32(near) * (lacks >> 10u)) >> 21u);
}

// The integer quotient of n * 2^by, n below 2^25, and a significand of 24 bits, and the remainder: with by up to 17 the estimate is right, or
// one too low. `inverse` is the reciprocal of the significand.
fn quotient_digits(n: u32, significand: u32, inverse: u32, by: u32) -> vec2<u32> {
    let high = vec2(n, inverse) >> vec2(12u);
    let low = vec2(n, inverse) & vec2(0xfffu);
    let cross = high.x * low.y + low.x * high.y;
    let quotient = (high.x * high.y + (cross >> 12u)) >> (23u - by);
    // The upper bits cancel.
    let rest = (n << by) - quotient * significand;
    let more = rest >= significand;
    return vec2(quotient + select(0u, 1u, more), rest - select(0u, significand, more));
}

fn div_f32(a: u32, b: u32) -> u32 {
    let sign = (a ^ b) & SIGN;
    let sizes = vec2(a & MAGNITUDE, b & MAGNITUDE);
    if max(sizes.x, sizes.y) >= F32_INFINITY || min(sizes.x, sizes.y) == 0u {
        let nan = max(sizes.x, sizes.y) > F32_INFINITY || sizes.x == sizes.y;
        let infinite = sizes.x >= F32_INFINITY || sizes.y == 0u;
        return select(sign | select(0u, F32_INFINITY, infinite), F32_NAN, nan);
    }
    let parts = normalized(sizes);
    var v = parts.v;
    // A quotient of at least 1, in two times 13 bits.
    let smaller = select(0u, 1u, v.x < v.y);
    v.x = v.x << smaller;
    let inverse = reciprocal(v.y);
    let first = quotient_digits(v.x, v.y, inverse, 13u);
    let second = quotient_digits(first.y, v.y, inverse, 13u);
    let s = (first.x << 13u) | second.x | select(0u, 1u, second.y != 0u);
    return scaled_f32(sign, parts.exponents.x - parts.exponents.y + 127 - i32(smaller), s);
}

// The significands of two magnitudes, of 24 bits with the leading one, and the exponents of f32 that they have then.
struct Normalized {
    v: vec2<u32>,
    exponents: vec2<i32>,
}

fn normalized(sizes: vec2<u32>) -> Normalized {
    let up = vec2(significand_shift(sizes.x), significand_shift(sizes.y));
    let leading = select(vec2(0u), vec2(0x800000u), up == vec2(0u));
    let v = ((sizes & vec2(0x7fffffu)) | leading) << up;
    return Normalized(v, vec2<i32>(max(sizes >> vec2(23u), vec2(1u))) - vec2<i32>(up));
}

// How far the significand of a subnormal is from its normal position; 0 for a normal number.
fn significand_shift(size: u32) -> u32 {
    return select(23u - firstLeadingBit(size), 0u, size >= 0x800000u);
}

// The power of two that brings a magnitude to between 1 and 2, if it is a normal number.
fn unit_exponent(size: u32) -> i32 {
    return 127 - i32(max(size >> 23u, 1u));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// The last bit of the result is sticky.
fn shift_right(v: vec2<u32>, n: u32) -> vec2<u32> {
    if n == 0u {
        return v;
    }
    var shifted = vec2(0u);
    var lost = v.x | v.y;
    if n < 32u {
        shifted = vec2((v.x >> n) | (v.y << (32u - n)), v.y >> n);
        lost = v.x << (32u - n);
    } else if n == 32u {
        shifted = vec2(v.y, 0u);
        lost = v.x;
    } else if n < 64u {
        shifted = vec2(v.y >> (n - 32u), 0u);
        lost = v.x | (v.y << (64u - n));
    }
    return vec2(shifted.x | select(0u, 1u, lost != 0u), shifted.y);
}

// Exponent bits of a float of up to 32 bits (a function: integers have none, and a constant expression must not
// overflow even if it is not reached), and how much smaller its bias is than that of an f32.
fn exponent_bits() -> u32 {
    return EXPONENT_BITS;
}

fn to_bits() -> u32 {
    return TO_BITS;
}

fn to_exponent_bits() -> u32 {
    return TO_EXPONENT_BITS;
}

fn rebias() -> u32 {
    return 128u - (1u << (exponent_bits() - 1u));
}

// Converts a float of up to 32 bits, in the low bits, to an f32.
fn to_f32(element: u32) -> u32 {
    if BITS >= 32u {
        return element;
    }
    let top = element << LANE_SHIFT;
    let narrower = 8u - exponent_bits();
    if narrower == 0u {
        return top;
    }
    let sign = top & SIGN;
    var size = top & MAGNITUDE;
    if size > MAX_FINITE {
        return sign | select(F32_INFINITY, F32_NAN, size > MAX_NUMBER);
    }
    if size == 0u {
        return sign;
    }
    // A subnormal is normal as an f32.
    var up = 0u;
    if size < MIN_NORMAL {
        up = 31u - exponent_bits() - firstLeadingBit(size);
    }
    return sign | (((size << up) >> narrower) + ((rebias() - up) << 23u));
}

// The float of up to 32 bits nearest to an f32, ties to even, in the low bits.
fn from_f32(value: u32) -> u32 {
    if BITS >= 32u {
        return value;
    }
    // Beyond the greatest finite number is infinity, or NaN in a type without infinity.
    return narrow(value, TO_MAX_FINITE + 1u, TO_MAX_FINITE + 1u);
}

// The float of up to 16 bits nearest to an f32, ties to even, in the low bits. `beyond` is the magnitude for a number
// beyond the greatest finite one, `infinite` that for infinity.
fn narrow(accum: u32, beyond: u32, infinite: u32) -> u32 {
    let sign = (accum >> 31u) << (to_bits() - 1u);
    let size = accum & MAGNITUDE;
    if size >= F32_INFINITY {
        return sign | select(infinite, TO_QUIET_NAN, size > F32_INFINITY);
    }
    // Bits of the f32's fraction that do not fit into the element, and how much smaller its bias is.
    let exponent_bits = to_exponent_bits();
    let rebias = 128u - (1u << (exponent_bits - 1u));
    var excess = 24u + exponent_bits - to_bits();
    var value = size;
    if rebias != 0u {
        let exponent = size >> 23u;
        if exponent > rebias {
            value = size - (rebias << 23u);
        } else {
            value = (size & 0x7fffffu) | 0x800000u;
            excess = min(excess + rebias + 1u - exponent, 31u);
        }
    }
    let kept = value >> excess;
    let rest = value - (kept << excess);
    let middle = 1u << (excess - 1u);
    let rounded = kept + select(0u, 1u, rest > middle || (rest == middle && (kept & 1u) == 1u));
    return sign | min(rounded, beyond);
}

// The float nearest to `significand * 2^(exponent - 63)`, ties to even, in the low bits. The significand has its leading bit at
// 63, and its last bit is sticky. A number beyond the greatest finite one becomes infinity, or NaN in a type without infinity.
fn round_float(negative: bool, significand: vec2<u32>, exponent: i32) -> vec2<u32> {
    let fraction = to_bits() - 1u - to_exponent_bits();
    let least = 2 - i32(1u << (to_exponent_bits() - 1u));
    // Two bits more than are kept. A subnormal number has fewer.
    let dropped = 61u - fraction + u32(clamp(least - exponent, 0, 64));
    let kept = shift_right(significand, dropped);
    let rest = kept.x & 3u;
    var value = vec2((kept.x >> 2u) | (kept.y << 30u), kept.y >> 2u);
    let up = rest == 3u || (rest == 2u && (value.x & 1u) == 1u);
    value = add64(value, vec2(select(0u, 1u, up), 0u));
    // The leading bit of a normal number adds one to the exponent.
    let biased = u32(clamp(exponent - least, 0, i32(1u << to_exponent_bits())));
    if TO_BITS == 64u {
        value.y += biased << 20u;
        if value.y >= F64_INFINITY {
            value = vec2(0u, F64_INFINITY);
        }
        return vec2(value.x, value.y | select(0u, SIGN, negative));
    }
    let bits = min(value.x + (biased << (fraction & 31u)), TO_MAX_FINITE + 1u);
    return vec2(bits | (select(0u, 1u, negative) << (to_bits() - 1u)), 0u);
}

// The same for a type of up to 32 bits, and a word: its leading bit is at 30, its last bit is sticky, and `exponent` is that of bit 30. The word may
// also be the least that has bit 31.
fn round_word(negative: bool, word: u32, exponent: i32) -> u32 {
    let fraction = to_bits() - 1u - to_exponent_bits();
    let least = 2 - i32(1u << (to_exponent_bits() - 1u));
    // Of a subnormal number fewer bits are kept.
    let dropped = min(30u - fraction + u32(clamp(least - exponent, 0, 31)), 31u);
    let kept = word >> dropped;
    let rest = word & ((1u << dropped) - 1u);
    let middle = 1u << (dropped - 1u);
    let up = (rest > middle) | ((rest == middle) & ((kept & 1u) == 1u));
    // The leading bit of a normal number adds one to the exponent.
    let biased = u32(clamp(exponent - least, 0, i32(1u << to_exponent_bits())));
    let near = min(kept + select(0u, 1u, up) + (biased << (fraction & 31u)), TO_MAX_FINITE + 1u);
    let vanishes = exponent < least - i32(fraction) - 1;
    return select(near, 0u, vanishes) | (select(0u, 1u, negative) << (to_bits() - 1u));
}

// Infinity, or NaN in a type without infinity.
fn infinity_of(negative: bool) -> vec2<u32> {
    if TO_BITS == 64u {
        return vec2(0u, F64_INFINITY | select(0u, SIGN, negative));
    }
    return vec2((TO_MAX_FINITE + 1u) | (select(0u, 1u, negative) << (to_bits() - 1u)), 0u);
}

// The positive quiet NaN without payload.
fn quiet_nan() -> vec2<u32> {
    if TO_BITS == 64u {
        return vec2(0u, F64_NAN);
    }
    return vec2(TO_QUIET_NAN, 0u);
}
