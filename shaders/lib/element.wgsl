// The element types on the GPU: the only shader that knows types. Its twin is src/element.
//
// A block is 16 bytes of elements. The operations see it as SUBWORDS vectors of four words. A narrow element is
// left-aligned in its word and zero-padded, so that comparing words compares elements. A 64-bit element fills two
// words, low word first; a decision about it applies to both.
//
// Floats are never compared as floats. WGSL lets a driver assume that NaN does not occur, flush subnormals
// and fold `x != x` away; so an element stays a bit pattern and is compared by its order key, an integer.
import package::lib::constants::{
    BITS, FLOAT, LANE_LSB, LANE_SHIFT, MAX_FINITE, MAX_NUMBER, MIN_NORMAL, SIGNED, SUBWORDS,
};

const SIGN: u32 = 0x80000000u;
const MAGNITUDE: u32 = 0x7fffffffu;
const MAX: u32 = 0xffffffffu;

// Subword i of a block.
fn extract_subword(block: vec4<u32>, i: u32) -> vec4<u32> {
    if SUBWORDS == 1u {
        return block;
    }
    return (block << vec4(32u - BITS * (i + 1u))) & vec4(~(LANE_LSB - 1u));
}

// Subword i moved back to its position in the block, zero elsewhere.
fn insert_subword(lanes: vec4<u32>, i: u32) -> vec4<u32> {
    if SUBWORDS == 1u {
        return lanes;
    }
    return lanes >> vec4(32u - BITS * (i + 1u));
}

// Both words of each 64-bit element.
fn broadcast_pair(decided: vec2<bool>) -> vec4<bool> {
    return decided.xxyy;
}

fn is_nan(v: vec4<u32>) -> vec4<bool> {
    if !FLOAT {
        return vec4(false);
    }
    let magnitude = v & vec4(MAGNITUDE);
    if BITS == 64u {
        let infinity = magnitude.yw == vec2(MAX_NUMBER);
        return broadcast_pair((magnitude.yw > vec2(MAX_NUMBER)) | (infinity & (v.xz != vec2(0u))));
    }
    return vec4<i32>(magnitude) > vec4(i32(MAX_NUMBER));
}

// The key by which elements of up to 32 bits are compared. For floats, sign and magnitude become two's complement: integers
// in the order of the numbers, one key for both zeros. NaN lies beyond the infinities.
fn compare_key(v: vec4<u32>) -> vec4<i32> {
    if FLOAT {
        let magnitude = vec4<i32>(v & vec4(MAGNITUDE));
        return select(magnitude, -magnitude, vec4<i32>(v) < vec4(0));
    }
    return vec4<i32>(select(v ^ vec4(SIGN), v, SIGNED));
}

// Whether elements of up to 32 bits lie in a range of order keys: its start and length, biased by 2^31 so that one
// signed compare tests both ends. A NaN lies in no range that ends at an infinity. For values that the host knows this
// takes half as long as comparing keys.
fn in_range(v: vec4<u32>, range: vec2<u32>) -> vec4<bool> {
    return vec4<i32>(order_key(v) - vec4(range.x)) < vec4(i32(range.y));
}

// The order key in which -0 comes right before +0: BitLayout::order_key in src/element/layout.rs.
fn order_key(v: vec4<u32>) -> vec4<u32> {
    if FLOAT {
        return v ^ (vec4<u32>(vec4<i32>(v) >> vec4(31u)) & vec4(MAGNITUDE));
    }
    return v;
}

// The order keys of two 64-bit elements.
struct Wide {
    high: vec2<i32>,
    low: vec2<u32>,
}

fn wide_key(v: vec4<u32>) -> Wide {
    if FLOAT {
        let low = v.xz;
        let high = v.yw & vec2(MAGNITUDE);
        let negated = ~high + select(vec2(0u), vec2(1u), low == vec2(0u));
        let negative = v.yw >= vec2(SIGN);
        return Wide(vec2<i32>(select(high, negated, negative)), select(low, ~low + vec2(1u), negative));
    }
    return Wide(vec2<i32>(select(v.yw ^ vec2(SIGN), v.yw, SIGNED)), v.xz);
}

// a < b in the order of keys.
fn less(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> {
    if BITS == 64u && !FLOAT && !SIGNED {
        // Without keys: in Tint's code for two keys, SwiftShader finds the key of 0 greater than itself.
        return broadcast_pair((a.yw < b.yw) | ((a.yw == b.yw) & (a.xz < b.xz)));
    }
    if BITS == 64u {
        let ka = wide_key(a);
        let kb = wide_key(b);
        return broadcast_pair((ka.high < kb.high) | ((ka.high == kb.high) & (ka.low < kb.low)));
    }
    return compare_key(a) < compare_key(b);
}

// a == b in the order of keys.
fn equal(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> {
    if BITS == 64u {
        let ka = wide_key(a);
        let kb = wide_key(b);
        return broadcast_pair((ka.high == kb.high) & (ka.low == kb.low));
    }
    return compare_key(a) == compare_key(b);
}

// Half of each element, ties to even; NaN and infinities are unchanged.
fn halve(v: vec4<u32>) -> vec4<u32> {
    if FLOAT {
        let magnitude = select(v & vec4(MAGNITUDE), v & vec4(MAX, MAGNITUDE, MAX, MAGNITUDE), BITS == 64u);
        // Subtracts one from the exponent, or, if that leaves the normal numbers, shifts the whole significand.
        let top = select(magnitude, magnitude.yyww, BITS == 64u);
        let smaller = select(magnitude - vec4(MIN_NORMAL), magnitude - vec4(0u, MIN_NORMAL, 0u, MIN_NORMAL), BITS == 64u);
        let small = select(smaller, shift_half(magnitude), top < vec4(2u * MIN_NORMAL));
        let sign = select(v & vec4(SIGN), v & vec4(0u, SIGN, 0u, SIGN), BITS == 64u);
        return sign | select(small, magnitude, top > vec4(MAX_FINITE));
    }
    return shift_half(v);
}

// Half of each element as an integer, ties to even.
fn shift_half(v: vec4<u32>) -> vec4<u32> {
    let shifted = select(v >> vec4(1u), vec4<u32>(vec4<i32>(v) >> vec4(1u)), SIGNED);
    if BITS == 64u {
        let low = (v.xz >> vec2(1u)) | (v.yw << vec2(31u));
        let rounded = low + (low & v.xz & vec2(1u));
        let high = shifted.yw + select(vec2(0u), vec2(1u), rounded < low);
        return vec4(rounded.x, high.x, rounded.y, high.y);
    }
    let floor = shifted & vec4(~(LANE_LSB - 1u));
    return floor + (floor & v & vec4(LANE_LSB));
}

// The half that the other operand of a tie gets: the same for a float, the remainder for an integer.
fn halve_remainder(v: vec4<u32>) -> vec4<u32> {
    let half = halve(v);
    if FLOAT {
        return half;
    }
    if BITS == 64u {
        let low = v.xz - half.xz;
        let high = v.yw - half.yw - select(vec2(0u), vec2(1u), v.xz < half.xz);
        return vec4(low.x, high.x, low.y, high.y);
    }
    return v - half;
}

// Element e of a block in the low bits (low word first); `store_element` stores it where the block is zero.
fn element_of(block: vec4<u32>, e: u32) -> vec2<u32> {
    if BITS == 64u {
        return select(block.xy, block.zw, e != 0u);
    }
    let bit = e * BITS;
    return vec2((block[bit / 32u] >> (bit % 32u)) & (MAX >> LANE_SHIFT), 0u);
}

// A block filled with one element.
fn splat_element(element: vec2<u32>) -> vec4<u32> {
    if BITS == 64u {
        return element.xyxy;
    }
    return vec4(element.x * (MAX / (MAX >> LANE_SHIFT)));
}

fn store_element(block: ptr<function, vec4<u32>>, e: u32, element: vec2<u32>) {
    if BITS == 64u {
        (*block)[2u * e] = element.x;
        (*block)[2u * e + 1u] = element.y;
    } else {
        let bit = e * BITS;
        (*block)[bit / 32u] |= element.x << (bit % 32u);
    }
}
