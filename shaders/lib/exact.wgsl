// Exact sums as integers, in limbs of 32 bits: the twin of src/norm/exact.rs, which says why nothing is lost. Each output has
// LIMBS limbs in two's complement and then a word of flags. Each addition to a limb detects whether it overflows, and carries
// to the next limb: so limbs can be added to in any order, by all invocations at once, and hold any number of addends.
//
// An invocation first adds to a window of four words, for terms that begin in 64 bits of the limbs. Others are added to
// further windows, in further passes over the same elements, because software drivers execute a branch that no
// invocation takes.
import package::lib::constants::{
    BITS, EXPONENT_BITS, FLOAT, LANE_SHIFT, LIMBS, MAX_FINITE, MAX_NUMBER, MIN_NORMAL, ORDER, ORDER_ROWS, POSITION, REDUCE,
    REDUCE_MAX_ABS, REDUCE_PRODUCTS, REDUCE_SUM, REDUCE_SUM_SQUARES, SIGNED,
};
import package::lib::element::{MAGNITUDE, SIGN};
import package::lib::softfloat::to_f32;

// Flags for the non-finite elements seen.
const MET_NAN: u32 = 1u;
const MET_INFINITY: u32 = 2u;
const MET_NEGATIVE_INFINITY: u32 = 4u;

@group(0) @binding(3) var<storage, read_write> limbs: array<atomic<u32>>;
// The limbs of a workgroup that works on one output.
var<workgroup> partial: array<atomic<u32>, LIMBS + 1u>;

// Four terms, as 64-bit integers times a power of two: how many bits above bit 0 of the limbs.
struct Terms {
    low: vec4<u32>,
    high: vec4<u32>,
    position: vec4<i32>,
    negative: vec4<bool>,
}

// The terms of a subword, or for products of two. Non-finite elements count as zero.
fn terms_of(v: vec4<u32>, factors: vec4<u32>) -> Terms {
    if REDUCE == REDUCE_PRODUCTS {
        return product_terms(v, factors);
    }
    if !FLOAT {
        return integer_terms(v);
    }
    var low = v;
    var top = v;
    if BITS == 64u {
        low = vec4(v.x, v.z, 0u, 0u);
        top = vec4(v.y, v.w, 0u, 0u);
    }
    let negative = (top >= vec4(SIGN)) & vec4(REDUCE == REDUCE_SUM);
    let significand = significands(top);
    let position = positions(top);
    if BITS == 64u {
        let finite = (top & vec4(MAGNITUDE)) <= vec4(MAX_FINITE);
        return Terms(select(vec4(0u), low, finite), significand, position, negative);
    }
    if REDUCE == REDUCE_SUM_SQUARES {
        return multiplied(significand, significand, position + position, vec4(false));
    }
    return Terms(significand, vec4(0u), position, negative);
}

// Four products.
fn product_terms(v: vec4<u32>, factors: vec4<u32>) -> Terms {
    let finite = max(v & vec4(MAGNITUDE), factors & vec4(MAGNITUDE)) <= vec4(MAX_FINITE);
    let a = select(vec4(0u), significands(v), finite);
    return multiplied(a, significands(factors), positions(v) + positions(factors), (v ^ factors) >= vec4(SIGN));
}

// The significands of finite floats; for 64 bits the upper words.
fn significands(v: vec4<u32>) -> vec4<u32> {
    let magnitude = v & vec4(MAGNITUDE);
    let implicit = select(vec4(0u), vec4(MIN_NORMAL), magnitude >= vec4(MIN_NORMAL));
    let significand = (magnitude & vec4(MIN_NORMAL - 1u)) | implicit;
    return select(vec4(0u), significand, magnitude <= vec4(MAX_FINITE)) >> vec4(LANE_SHIFT);
}

// The positions where they begin.
fn positions(v: vec4<u32>) -> vec4<i32> {
    let exponent = (v & vec4(MAGNITUDE)) >> vec4(31u - exponent_width());
    return vec4<i32>(max(exponent, vec4(1u))) + vec4(POSITION - 1);
}

// The words of a subword by which elements are compared.
fn top_words(v: vec4<u32>) -> vec4<u32> {
    if BITS == 64u {
        return vec4(v.y, v.w, 0u, 0u);
    }
    return v;
}

// The magnitude of each lane, or zero if it is not finite.
fn finite_magnitudes(v: vec4<u32>) -> vec4<u32> {
    let magnitude = top_words(v) & vec4(MAGNITUDE);
    return select(vec4(0u), magnitude, magnitude <= vec4(MAX_FINITE));
}

fn is_finite(v: vec4<u32>) -> vec4<bool> {
    return (top_words(v) & vec4(MAGNITUDE)) <= vec4(MAX_FINITE);
}

// The flag of each lane that is not finite.
fn flags_of(v: vec4<u32>, factors: vec4<u32>) -> vec4<u32> {
    if REDUCE == REDUCE_PRODUCTS {
        let a = v & vec4(MAGNITUDE);
        let b = factors & vec4(MAGNITUDE);
        // Infinity times zero, and NaN times anything, is NaN.
        let none = (max(a, b) > vec4(MAX_NUMBER)) | (min(a, b) == vec4(0u)) | vec4(MAX_NUMBER == MAX_FINITE);
        let sign = select(vec4(MET_INFINITY), vec4(MET_NEGATIVE_INFINITY), (v ^ factors) >= vec4(SIGN));
        return select(select(sign, vec4(MET_NAN), none), vec4(0u), max(a, b) <= vec4(MAX_FINITE));
    }
    let top = top_words(v);
    let magnitude = top & vec4(MAGNITUDE);
    var nan = magnitude > vec4(MAX_NUMBER);
    if BITS == 64u {
        nan = nan | ((magnitude == vec4(MAX_NUMBER)) & (vec4(v.x, v.z, 0u, 0u) != vec4(0u)));
    }
    let negative = (top >= vec4(SIGN)) & vec4(REDUCE == REDUCE_SUM);
    let infinity = select(vec4(MET_INFINITY), vec4(MET_NEGATIVE_INFINITY), negative);
    return select(select(infinity, vec4(MET_NAN), nan), vec4(0u), magnitude <= vec4(MAX_FINITE));
}

fn exponent_width() -> u32 {
    return EXPONENT_BITS;
}

fn integer_terms(v: vec4<u32>) -> Terms {
    if BITS == 64u {
        let low = vec4(v.x, v.z, 0u, 0u);
        let high = vec4(v.y, v.w, 0u, 0u);
        let negative = (high >= vec4(SIGN)) & vec4(SIGNED);
        let negated = ~high + select(vec4(0u), vec4(1u), low == vec4(0u));
        return Terms(select(low, ~low + vec4(1u), negative), select(high, negated, negative), vec4(0), negative);
    }
    let negative = (v >= vec4(SIGN)) & vec4(SIGNED);
    let magnitude = select(v, ~v + vec4(1u), negative) >> vec4(LANE_SHIFT);
    return Terms(magnitude, vec4(0u), vec4(0), negative);
}

// Products of significands of up to 24 bits, in halves.
fn multiplied(v: vec4<u32>, factors: vec4<u32>, position: vec4<i32>, negative: vec4<bool>) -> Terms {
    if BITS < 32u {
        return Terms(v * factors, vec4(0u), position, negative);
    }
    let a = v >> vec4(12u);
    let b = v & vec4(0xfffu);
    let c = factors >> vec4(12u);
    let d = factors & vec4(0xfffu);
    let cross = a * d + b * c;
    let shifted = cross << vec4(12u);
    let middle = b * d + shifted;
    let top = a * c;
    let low = middle + (top << vec4(24u));
    let carries = select(vec4(0u), vec4(1u), middle < shifted) + select(vec4(0u), vec4(1u), low < middle);
    return Terms(low, (top >> vec4(8u)) + (cross >> vec4(20u)) + carries, position, negative);
}

// Four sums of 128 bits in two's complement, in units of 2^base: a whole number of limbs.
struct Window {
    w0: vec4<u32>,
    w1: vec4<u32>,
    w2: vec4<u32>,
    w3: vec4<u32>,
    // The number of addends that are complements lacking their one.
    negatives: vec4<u32>,
    // How many windows below and above this one the terms reach.
    lowest: vec4<i32>,
    highest: vec4<i32>,
    base: i32,
}

// Bits from one window to the next.
const WINDOW_BITS: i32 = 64;

// An empty window. Its terms begin up to 63 bits above the base and have at most 53 bits, so a lane has room for 2^11 of them.
fn window_at(base: i32) -> Window {
    let none = vec4(0u);
    return Window(none, none, none, none, none, vec4(0), vec4(0), base);
}

// The base of a window for about these magnitudes, and the factors: the greatest begins 16 to 47 bits above it.
fn base_for(magnitudes: vec4<u32>, factors: vec4<u32>) -> i32 {
    if !FLOAT {
        return 0;
    }
    var position = positions(magnitudes);
    if REDUCE == REDUCE_SUM_SQUARES || REDUCE == REDUCE_PRODUCTS {
        position += positions(factors);
    }
    let most = max(max(position.x, position.y), max(position.z, position.w));
    return max((most - 16) & ~31, 0);
}

// Adds a term to each lane, if it begins in the window.
fn accumulate(window: ptr<function, Window>, terms: Terms) {
    let shift = terms.position - vec4((*window).base);
    let present = (terms.low | terms.high) != vec4(0u);
    let distance = select(vec4(0), shift >> vec4(6u), present);
    (*window).lowest = min((*window).lowest, distance);
    (*window).highest = max((*window).highest, distance);
    let inside = distance == vec4(0);
    let low = select(vec4(0u), terms.low, inside);
    let high = select(vec4(0u), terms.high, inside);
    let s = vec4<u32>(shift) & vec4(31u);
    let a = low << s;
    let b = (high << s) | ((low >> vec4(1u)) >> (vec4(31u) - s));
    let c = (high >> vec4(1u)) >> (vec4(31u) - s);
    let far = (shift & vec4(32)) != vec4(0);
    let flip = select(vec4(0u), vec4(0xffffffffu), terms.negative);
    (*window).negatives -= flip;

    let a0 = select(a, vec4(0u), far) ^ flip;
    let a1 = select(b, a, far) ^ flip;
    let a2 = select(c, b, far) ^ flip;
    let a3 = select(vec4(0u), c, far) ^ flip;
    let s0 = (*window).w0 + a0;
    let c0 = select(vec4(0u), vec4(1u), s0 < a0);
    let s1 = (*window).w1 + a1;
    let t1 = s1 + c0;
    let c1 = select(vec4(0u), vec4(1u), (s1 < a1) | (t1 < c0));
    let s2 = (*window).w2 + a2;
    let t2 = s2 + c1;
    let c2 = select(vec4(0u), vec4(1u), (s2 < a2) | (t2 < c1));
    (*window).w0 = s0;
    (*window).w1 = t1;
    (*window).w2 = t2;
    (*window).w3 += a3 + c2;
}

// Adds the flags of a subword to those of its outputs.
fn flag(v: vec4<u32>, factors: vec4<u32>, at: vec4<u32>) {
    let flags = flags_of(v, factors);
    for (var lane = 0u; lane < 4u; lane++) {
        if flags[lane] != 0u {
            set_flags(at[lane] + LIMBS, flags[lane]);
        }
    }
}

// Adds a window to the limbs of its outputs. `merged`: all lanes belong to one output.
fn flush(window: Window, at: vec4<u32>, merged: bool) {
    // There is nothing below the first limb.
    let first = u32(window.base >> 5u);
    let x = add128(vec4(window.w0.x, window.w1.x, window.w2.x, window.w3.x), vec4(window.negatives.x, 0u, 0u, 0u));
    let y = add128(vec4(window.w0.y, window.w1.y, window.w2.y, window.w3.y), vec4(window.negatives.y, 0u, 0u, 0u));
    let z = add128(vec4(window.w0.z, window.w1.z, window.w2.z, window.w3.z), vec4(window.negatives.z, 0u, 0u, 0u));
    let w = add128(vec4(window.w0.w, window.w1.w, window.w2.w, window.w3.w), vec4(window.negatives.w, 0u, 0u, 0u));
    if merged {
        add_number(at.x, first, add128(add128(x, y), add128(z, w)));
        return;
    }
    add_number(at.x, first, x);
    add_number(at.y, first, y);
    if BITS < 64u {
        add_number(at.z, first, z);
        add_number(at.w, first, w);
    }
}

// Keeps the greatest of each lane's magnitudes.
fn keep_greatest(greatest: vec4<u32>, at: vec4<u32>) {
    for (var lane = 0u; lane < 4u; lane++) {
        if greatest[lane] != 0u {
            keep_greater(at[lane], to_f32(greatest[lane] >> LANE_SHIFT));
        }
    }
}

fn add128(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let x = a.x + b.x;
    var carry = select(0u, 1u, x < b.x);
    let y = a.y + b.y;
    let y1 = y + carry;
    carry = select(0u, 1u, y < b.y || y1 < carry);
    let z = a.z + b.z;
    let z1 = z + carry;
    carry = select(0u, 1u, z < b.z || z1 < carry);
    return vec4(x, y1, z1, a.w + b.w + carry);
}

// Adds a 128-bit number in two's complement, from limb `first` of an output on.
fn add_number(at: u32, first: u32, words: vec4<u32>) {
    let negative = words.w >= SIGN;
    add_words(at, first, select(words, add128(~words, vec4(1u, 0u, 0u, 0u)), negative), negative);
}

fn add_words(at: u32, first: u32, words: vec4<u32>, negative: bool) {
    for (var n = 0u; n < 4u; n++) {
        var value = words[n];
        // A carry beyond the last limb is dropped, as two's complement requires.
        for (var i = first + n; value != 0u && i < LIMBS; i++) {
            value = add_limb(at + i, value, negative);
        }
    }
}

// Adds to or subtracts from a limb, and returns the carry.
fn add_limb(i: u32, value: u32, negative: bool) -> u32 {
    var before: u32;
    if ORDER == ORDER_ROWS {
        if negative {
            before = atomicSub(&partial[i], value);
        } else {
            before = atomicAdd(&partial[i], value);
        }
    } else {
        if negative {
            before = atomicSub(&limbs[i], value);
        } else {
            before = atomicAdd(&limbs[i], value);
        }
    }
    return select(0u, 1u, select(before + value < value, before < value, negative));
}

fn set_flags(i: u32, flags: u32) {
    if ORDER == ORDER_ROWS {
        atomicOr(&partial[i], flags);
    } else {
        atomicOr(&limbs[i], flags);
    }
}

fn keep_greater(i: u32, value: u32) {
    if ORDER == ORDER_ROWS {
        atomicMax(&partial[i], value);
    } else {
        atomicMax(&limbs[i], value);
    }
}

// Clears limb `lane` of a workgroup: engines other than browsers may leave old contents.
fn clear_partial(lane: u32) {
    if lane <= LIMBS {
        atomicStore(&partial[lane], 0u);
    }
}

// Adds limb `lane` of a workgroup to that of the output.
fn add_partial(lane: u32, at: u32) {
    if lane > LIMBS {
        return;
    }
    var value = atomicLoad(&partial[lane]);
    if lane == LIMBS {
        atomicOr(&limbs[at + LIMBS], value);
    } else if REDUCE == REDUCE_MAX_ABS {
        atomicMax(&limbs[at + lane], value);
    } else {
        for (var i = lane; value != 0u && i < LIMBS; i++) {
            let before = atomicAdd(&limbs[at + i], value);
            value = select(0u, 1u, before + value < value);
        }
    }
}
