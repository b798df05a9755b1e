// What an element type is, on the GPU: the one shader that knows types. Its twin is src/element.rs.
//
// A block is 16 bytes of elements. The ops see it as SLICES slices of four lanes, each lane at the top of
// its word, so that a comparison of words is a comparison of elements.
//
// Floats are never compared as floats. WGSL lets a driver assume that NaN does not occur, flush subnormals
// and fold `x != x` away; so a lane stays a bit pattern and is compared by its order key, an integer.

const SLICES: u32 = 1u;

const SIGN: u32 = 0x80000000u;
const MAGNITUDE: u32 = 0x7fffffffu;
// The format of a float lane: the magnitudes of infinity (a NaN is beyond it) and of the least normal number
// (below that one, the bit pattern is the value, in units of the least subnormal).
override INFINITY: u32;
override NORMAL: u32;

// Slice i of a block.
fn slice(block: vec4<u32>, i: u32) -> vec4<u32> {
    return block;
}

// Slice i back at its place in the block, zero elsewhere.
fn unslice(lanes: vec4<u32>, i: u32) -> vec4<u32> {
    return lanes;
}

// An element, given by its bits (low word first), in every lane.
fn splat(bits: vec2<u32>) -> vec4<u32> {
    return bits.xxxx;
}

fn is_nan(v: vec4<u32>) -> vec4<bool> {
    return vec4<i32>(v & vec4(MAGNITUDE)) > vec4(i32(INFINITY));
}

// Sign and magnitude to two's complement: integers in the order of the numbers, one key for both zeros. NaN
// lies beyond the infinities.
fn key(v: vec4<u32>) -> vec4<i32> {
    let magnitude = vec4<i32>(v & vec4(MAGNITUDE));
    return select(magnitude, -magnitude, vec4<i32>(v) < vec4(0));
}

// a < b in the order of keys.
fn less(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> {
    return key(a) < key(b);
}

// a == b in the order of keys.
fn equal(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> {
    return key(a) == key(b);
}

// Half of each lane, ties to even; NaN and infinities as they are.
fn halve(v: vec4<u32>) -> vec4<u32> {
    let magnitude = v & vec4(MAGNITUDE);
    // One off the exponent, or, where that leaves the normal numbers, a shift of the whole significand.
    let shifted = magnitude >> vec4(1u);
    let rounded = shifted + (shifted & magnitude & vec4(1u));
    let small = select(magnitude - vec4(NORMAL), rounded, magnitude < vec4(2u * NORMAL));
    return (v & vec4(SIGN)) | select(small, magnitude, magnitude >= vec4(INFINITY));
}
