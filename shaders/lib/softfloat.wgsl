// Float arithmetic in integers. The standard lets a driver flush subnormals, round either way and assume that NaN and
// infinity never occur, and not every device has f64; integers are the same everywhere. Its twin is
// src/element/accum.rs.
//
// An accumulator is two words, the low one first: an f32 for floats of up to 32 bits (in the first), an f64 for f64, an
// integer of 64 bits for integers. Those of 64 bits are summed in two halves, low words and high words.

import package::lib::constants::{
    BITS, EXPONENT_BITS, FLOAT, LANE_SHIFT, MAX_FINITE, MAX_NUMBER, MIN_NORMAL, SIGNED, TO_BITS, TO_EXPONENT_BITS,
    TO_MAX_FINITE, TO_QUIET_NAN,
};
import package::lib::element::{MAGNITUDE, MAX, SIGN};

const F32_INFINITY: u32 = 0x7f800000u;
const F32_NAN: u32 = 0x7fc00000u;
const F64_INFINITY: u32 = 0x7ff00000u;
const F64_NAN: u32 = 0x7ff80000u;

// Identity of addition: -0.0 (0.0 would change -0.0).
fn add_identity() -> vec2<u32> {
    return select(vec2(0u), select(vec2(SIGN, 0u), vec2(0u, SIGN), BITS == 64u), FLOAT);
}

fn add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if FLOAT {
        if BITS == 64u {
            return add_f64(a, b);
        }
        return vec2(add_f32(a.x, b.x), 0u);
    }
    return add64(a, b);
}

fn add_f32(p: u32, q: u32) -> u32 {
    // a is the larger one.
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

    // Significands with three bits more, the last of which stands for all that was shifted out.
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

// An f32 from a significand with three bits more.
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
    // Significands with the leading bit in its place, in halves of 12 bits.
    let up = vec2(significand_shift(large), significand_shift(small));
    let leading = select(vec2(0u), vec2(0x800000u), up == vec2(0u));
    let v = ((vec2(large, small) & vec2(0x7fffffu)) | leading) << up;
    let high = v >> vec2(12u);
    let low = v & vec2(0xfffu);
    let cross = high.x * low.y + low.x * high.y;
    let bottom = ((cross & 0xfffu) << 12u) + low.x * low.y;
    let top = high.x * high.y + (cross >> 12u) + (bottom >> 24u);
    let rest = bottom & 0xffffffu;
    var exponent = i32(max(large >> 23u, 1u) + max(small >> 23u, 1u)) - i32(up.x + up.y) - 127;
    // 27 bits, the last of which stands for all below it.
    var s: u32;
    if top >= 0x800000u {
        exponent += 1;
        s = (top << 3u) | (rest >> 21u) | select(0u, 1u, (rest & 0x1fffffu) != 0u);
    } else {
        s = (top << 4u) | (rest >> 20u) | select(0u, 1u, (rest & 0xfffffu) != 0u);
    }
    if exponent >= 255 {
        return sign | F32_INFINITY;
    }
    if exponent < 1 {
        let down = min(u32(1 - exponent), 31u);
        s = (s >> down) | select(0u, 1u, (s & ((1u << down) - 1u)) != 0u);
        exponent = 1;
    }
    return round_f32(sign, u32(exponent), s);
}

// How far the significand of a subnormal is from its place; 0 for a normal number.
fn significand_shift(size: u32) -> u32 {
    return select(23u - firstLeadingBit(size), 0u, size >= 0x800000u);
}

fn add_f64(p: vec2<u32>, q: vec2<u32>) -> vec2<u32> {
    let swap = less64(vec2(p.x, p.y & MAGNITUDE), vec2(q.x, q.y & MAGNITUDE));
    let a = select(p, q, swap);
    let b = select(q, p, swap);
    let size = vec2(a.x, a.y & MAGNITUDE);
    let other = vec2(b.x, b.y & MAGNITUDE);
    let differ = (a.y ^ b.y) >= SIGN;
    if size.y >= F64_INFINITY {
        let infinity = vec2(0u, F64_INFINITY);
        let none = any(size != infinity) || (all(other == infinity) && differ);
        return select(a, vec2(0u, F64_NAN), none);
    }

    var exponent = max(size.y >> 20u, 1u);
    let shift = exponent - max(other.y >> 20u, 1u);
    let large = significand(size);
    let small = shift_right(significand(other), shift);
    var s = add64(large, small);
    if differ {
        s = sub64(large, small);
    }
    if all(s == vec2(0u)) {
        return select(a, vec2(0u), differ);
    }
    if s.y >= 0x1000000u {
        s = shift_right(s, 1u);
        exponent += 1u;
    } else {
        let leading = select(firstLeadingBit(s.x), firstLeadingBit(s.y) + 32u, s.y != 0u);
        let up = min(55u - leading, exponent - 1u);
        s = shift_left(s, up);
        exponent -= up;
    }
    let dropped = s.x & 7u;
    s = vec2((s.x >> 3u) | (s.y << 29u), s.y >> 3u);
    let round = dropped > 4u || (dropped == 4u && (s.x & 1u) == 1u);
    s = add64(s, vec2(select(0u, 1u, round), (exponent - 1u) << 20u));
    if s.y >= F64_INFINITY {
        s = vec2(0u, F64_INFINITY);
    }
    return vec2(s.x, s.y | (a.y & SIGN));
}

// The significand of a magnitude, with three bits more.
fn significand(v: vec2<u32>) -> vec2<u32> {
    let high = (v.y & 0xfffffu) | select(0u, 0x100000u, v.y >= 0x100000u);
    return vec2(v.x << 3u, (high << 3u) | (v.x >> 29u));
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

fn shift_left(v: vec2<u32>, n: u32) -> vec2<u32> {
    if n >= 32u {
        return vec2(0u, v.x << (n - 32u));
    }
    if n == 0u {
        return v;
    }
    return vec2(v.x << n, (v.y << n) | (v.x >> (32u - n)));
}

// The last bit of the result stands for all that was shifted out.
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

// Bits of the exponent of a float of up to 32 bits (a function: integers have none, and an expression of constants must
// not overflow even where it is not reached), and how much less its bias is than that of an f32.
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

// An element, in the low bits, as an accumulator. Of an integer of 64 bits it is the low word, or, if `high`, the high one.
fn to_accum(element: vec2<u32>, high: bool) -> vec2<u32> {
    if !FLOAT {
        if BITS == 64u && !high {
            return vec2(element.x, 0u);
        }
        let word = select(element.x, element.y, BITS == 64u);
        let extended = vec2<i32>(i32(word << LANE_SHIFT) >> LANE_SHIFT, i32(word << LANE_SHIFT) >> 31u);
        return select(vec2(word, 0u), vec2<u32>(extended), SIGNED);
    }
    if BITS >= 32u {
        return element;
    }
    let top = element.x << LANE_SHIFT;
    let narrower = 8u - exponent_bits();
    if narrower == 0u {
        return vec2(top, 0u);
    }
    let sign = top & SIGN;
    var size = top & MAGNITUDE;
    if size > MAX_FINITE {
        return vec2(sign | select(F32_INFINITY, F32_NAN, size > MAX_NUMBER), 0u);
    }
    if size == 0u {
        return vec2(sign, 0u);
    }
    // A subnormal is normal as an f32.
    var up = 0u;
    if size < MIN_NORMAL {
        up = 31u - exponent_bits() - firstLeadingBit(size);
    }
    return vec2(sign | (((size << up) >> narrower) + ((rebias() - up) << 23u)), 0u);
}

// The element nearest to an accumulator, ties to even, in the low bits. An integer that the type cannot hold is clipped to
// its range. Those of 64 bits have a function of their own.
fn from_accum(accum: vec2<u32>) -> vec2<u32> {
    if !FLOAT {
        return vec2(clip_integer(accum), 0u);
    }
    if BITS >= 32u {
        return accum;
    }
    // Beyond the greatest finite number comes infinity, or NaN where there is none.
    return vec2(narrow(accum.x, TO_MAX_FINITE + 1u, TO_MAX_FINITE + 1u), 0u);
}

// The float of up to 16 bits nearest to an f32, ties to even, in the low bits. `beyond` is the magnitude that a number
// beyond the greatest finite one becomes, `infinite` that of infinity.
fn narrow(accum: u32, beyond: u32, infinite: u32) -> u32 {
    let sign = (accum >> 31u) << (to_bits() - 1u);
    let size = accum & MAGNITUDE;
    if size >= F32_INFINITY {
        return sign | select(infinite, TO_QUIET_NAN, size > F32_INFINITY);
    }
    // Bits of the f32's fraction that the element has no room for, and how much less its bias is.
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

// An integer of up to 32 bits from one of 64.
fn clip_integer(accum: vec2<u32>) -> u32 {
    let most = (MAX >> LANE_SHIFT) >> select(0u, 1u, SIGNED);
    if accum.y == 0u && accum.x <= most {
        return accum.x;
    }
    if accum.y < SIGN {
        return most;
    }
    // Negative: the least is ~most, sign-extended.
    let least = select(0u, ~most, SIGNED);
    let fits = SIGNED && accum.y == MAX && accum.x >= least;
    return select(least, accum.x, fits) & (MAX >> LANE_SHIFT);
}

// An integer of 64 bits from the sums of its low and of its high words.
fn clip_wide_integer(low: vec2<u32>, high: vec2<u32>) -> vec2<u32> {
    let top = add64(high, vec2(low.y, 0u));
    let value = vec2(low.x, top.x);
    if !SIGNED {
        return select(value, vec2(MAX), top.y != 0u);
    }
    let limit = select(vec2(MAX, MAGNITUDE), vec2(0u, SIGN), top.y >= SIGN);
    return select(limit, value, top.y == select(0u, MAX, top.x >= SIGN));
}
