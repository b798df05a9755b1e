// What an element type is, on the GPU: the one shader that knows types. Its twin is src/element.rs.
//
// A block is 16 bytes of elements. The ops see it as SLICES slices of four words. An element narrower than a
// word stands at the top of its word, zeros below it, so that a comparison of words is a comparison of elements.
// An element of 64 bits fills two words, the low one first; what is decided of it is decided for both.
//
// Floats are never compared as floats. WGSL lets a driver assume that NaN does not occur, flush subnormals
// and fold `x != x` away; so an element stays a bit pattern and is compared by its order key, an integer.

// Bits of an element, and how they are to be read: as a float, or as an integer that is signed or not.
override BITS: u32;
override FLOAT: bool;
override SIGNED: bool;
// The format of a float at the top of a word: the magnitudes of infinity (a NaN is beyond it) and of the least
// normal number (below that one, the bit pattern is the value, in units of the least subnormal).
override INFINITY: u32;
override NORMAL: u32;
// Slices of a block, elements of a slice, the lowest bit of an element at the top of its word, and its number.
override SLICES: u32;
override LANES: u32;
override UNIT: u32;
override TOP: u32;

const SIGN: u32 = 0x80000000u;
const MAGNITUDE: u32 = 0x7fffffffu;
const MAX: u32 = 0xffffffffu;

// Slice i of a block.
fn slice(block: vec4<u32>, i: u32) -> vec4<u32> {
    if SLICES == 1u {
        return block;
    }
    return (block << vec4(32u - BITS * (i + 1u))) & vec4(~(UNIT - 1u));
}

// Slice i back at its place in the block, zero elsewhere.
fn unslice(lanes: vec4<u32>, i: u32) -> vec4<u32> {
    if SLICES == 1u {
        return lanes;
    }
    return lanes >> vec4(32u - BITS * (i + 1u));
}

// Both words of each element of 64 bits.
fn both(decided: vec2<bool>) -> vec4<bool> {
    return decided.xxyy;
}

fn is_nan(v: vec4<u32>) -> vec4<bool> {
    if !FLOAT {
        return vec4(false);
    }
    let magnitude = v & vec4(MAGNITUDE);
    if BITS == 64u {
        let infinity = magnitude.yw == vec2(INFINITY);
        return both(magnitude.yw > vec2(INFINITY) | (infinity & v.xz != vec2(0u)));
    }
    return vec4<i32>(magnitude) > vec4(i32(INFINITY));
}

// The order key of elements of up to 32 bits. For floats sign and magnitude to two's complement: integers in the
// order of the numbers, one key for both zeros. NaN lies beyond the infinities.
fn key(v: vec4<u32>) -> vec4<i32> {
    if FLOAT {
        let magnitude = vec4<i32>(v & vec4(MAGNITUDE));
        return select(magnitude, -magnitude, vec4<i32>(v) < vec4(0));
    }
    return vec4<i32>(select(v ^ vec4(SIGN), v, SIGNED));
}

// Whether elements of up to 32 bits lie in a range of the order: where it begins, and how many places it has, both less
// 2^31, which makes one comparison of the two. A NaN lies in none that ends at an infinity. For values that the host
// knows this takes half as long as comparing keys.
fn within(v: vec4<u32>, range: vec2<u32>) -> vec4<bool> {
    return vec4<i32>(place(v) - vec4(range.x)) < vec4(i32(range.y));
}

// The place in the order, in which -0 comes right before +0: see Format::place in src/format.rs.
fn place(v: vec4<u32>) -> vec4<u32> {
    if FLOAT {
        return v ^ (vec4<u32>(vec4<i32>(v) >> vec4(31u)) & vec4(MAGNITUDE));
    }
    return v;
}

// The order keys of two elements of 64 bits.
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
    if BITS == 64u {
        let ka = wide_key(a);
        let kb = wide_key(b);
        return both(ka.high < kb.high | (ka.high == kb.high & ka.low < kb.low));
    }
    return key(a) < key(b);
}

// a == b in the order of keys.
fn equal(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> {
    if BITS == 64u {
        let ka = wide_key(a);
        let kb = wide_key(b);
        return both(ka.high == kb.high & ka.low == kb.low);
    }
    return key(a) == key(b);
}

// Half of each element, ties to even; NaN and infinities as they are.
fn halve(v: vec4<u32>) -> vec4<u32> {
    if FLOAT {
        let magnitude = select(v & vec4(MAGNITUDE), v & vec4(MAX, MAGNITUDE, MAX, MAGNITUDE), BITS == 64u);
        // One off the exponent, or, where that leaves the normal numbers, a shift of the whole significand.
        let top = select(magnitude, magnitude.yyww, BITS == 64u);
        let smaller = select(magnitude - vec4(NORMAL), magnitude - vec4(0u, NORMAL, 0u, NORMAL), BITS == 64u);
        let small = select(smaller, shift_half(magnitude), top < vec4(2u * NORMAL));
        let sign = select(v & vec4(SIGN), v & vec4(0u, SIGN, 0u, SIGN), BITS == 64u);
        return sign | select(small, magnitude, top >= vec4(INFINITY));
    }
    return shift_half(v);
}

// Half of each element, taken as an integer, ties to even.
fn shift_half(v: vec4<u32>) -> vec4<u32> {
    let shifted = select(v >> vec4(1u), vec4<u32>(vec4<i32>(v) >> vec4(1u)), SIGNED);
    if BITS == 64u {
        let low = (v.xz >> vec2(1u)) | (v.yw << vec2(31u));
        let rounded = low + (low & v.xz & vec2(1u));
        let high = shifted.yw + select(vec2(0u), vec2(1u), rounded < low);
        return vec4(rounded.x, high.x, rounded.y, high.y);
    }
    let floor = shifted & vec4(~(UNIT - 1u));
    return floor + (floor & v & vec4(UNIT));
}

// What the other operand of a tie gets: the same half of a float, what is left of an integer.
fn other_half(v: vec4<u32>) -> vec4<u32> {
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

// Element e of a block in the low bits (low word first), and put at its place in a block that is zero there.
fn element_of(block: vec4<u32>, e: u32) -> vec2<u32> {
    if BITS == 64u {
        return select(block.xy, block.zw, e != 0u);
    }
    let bit = e * BITS;
    return vec2((block[bit / 32u] >> (bit % 32u)) & (MAX >> TOP), 0u);
}

// A block full of an element.
fn fill(element: vec2<u32>) -> vec4<u32> {
    if BITS == 64u {
        return element.xyxy;
    }
    return vec4(element.x * (MAX / (MAX >> TOP)));
}

fn put(block: ptr<function, vec4<u32>>, e: u32, element: vec2<u32>) {
    if BITS == 64u {
        (*block)[2u * e] = element.x;
        (*block)[2u * e + 1u] = element.y;
    } else {
        let bit = e * BITS;
        (*block)[bit / 32u] |= element.x << (bit % 32u);
    }
}
