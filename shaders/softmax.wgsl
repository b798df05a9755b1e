// Softmax along slices, and its gradient: the twins of reference::softmax and reference::softmax_backward. The greatest element of each slice is found, then the exact sum of its
// exponentials, then what divides by that; last, each block of elements is computed.
import package::lib::constants::{LANE_SHIFT, LANES_PER_SUBWORD, ORDER, ORDER_COLUMNS, ORDER_ROWS, SUBWORDS, WORKGROUP};
import package::lib::element::{MAGNITUDE, MAX, SIGN, element_of, extract_subword, insert_subword, store_element};
import package::lib::dispatch::invocation_index;
import package::lib::exponential_below::{exp_below, units_of};
import package::lib::integer::{high_product, wide_product};
import package::lib::reduce_params::{element_index, params};
import package::lib::softfloat::{F32_INFINITY, add64, add_f32, from_f32, mul_f32, quiet_nan, round_word, sub64, to_f32};

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
// Eight words for each slice. First the order key of the greatest element, an unused word, and the sum as 16-bit halves of 96 bits in units of 2^-62;
// then the greatest element as an f32, the sum's first 32 bits, 2^63 by that, and how many bits of the sum were dropped.
@group(0) @binding(3) var<storage, read_write> slice_words: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read> slices: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> dots: array<u32>;
@group(0) @binding(6) var<storage, read> g: array<vec4<u32>>;

const SLICE_WORDS: u32 = 8u;

// The first of the halves.
const SUM_WORD: u32 = 2u;

const HALVES: u32 = 6u;

// The bits dropped of the sum of a slice that has no softmax.
const NO_SUM: u32 = 255u;

// The key of a slice with a NaN, and those of the infinities.
const KEY_OF_NAN: u32 = 0xffffffffu;
const KEY_OF_INFINITY: u32 = 0xff800000u;
const KEY_OF_NEGATIVE_INFINITY: u32 = 0x007fffffu;

const ELEMENTS: u32 = SUBWORDS * LANES_PER_SUBWORD;

var<workgroup> greatest_key: atomic<u32>;
var<workgroup> halves: array<atomic<u32>, HALVES>;

@compute @workgroup_size(WORKGROUP)
fn clear_slices(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        atomicStore(&slice_words[i], 0u);
    }
}

// The elements of a slice that an invocation takes: for rows blocks, which may also have elements of others; else single elements, from
// the first of the slice on.
struct Share {
    slice: u32,
    start: u32,
    end: u32,
    step: u32,
    first: u32,
    last: u32,
}

// For rows, a workgroup takes a part of a slice; for others an invocation does.
fn share_of(id: vec3<u32>, group: vec3<u32>, lane: u32) -> Share {
    if ORDER == ORDER_ROWS {
        let n = group.y * (params.stride / WORKGROUP) + group.x;
        let slice = n / params.parts;
        let first = slice * params.leaves;
        let last = first + params.leaves;
        let block = first / ELEMENTS;
        let blocks = (last + ELEMENTS - 1u) / ELEMENTS - block;
        let each = (blocks + params.parts - 1u) / params.parts;
        let start = n % params.parts * each;
        let end = select(0u, min(start + each, blocks), slice < params.outputs);
        return Share(min(slice, params.outputs - 1u), block + start + lane, block + end, WORKGROUP, first, last);
    }
    let n = invocation_index(id);
    let slice = n % params.outputs;
    let part = n / params.outputs;
    let each = (params.leaves + params.parts - 1u) / params.parts;
    let end = select(0u, min((part + 1u) * each, params.leaves), part < params.parts);
    return Share(slice, part * each, end, 1u, element_index(slice, 0u), 0u);
}

// The slice of an element.
fn slice_of(element: u32) -> u32 {
    if ORDER == ORDER_ROWS {
        return min(element / params.leaves, params.outputs - 1u);
    }
    var rest = element;
    var slices_before = 1u;
    var slice = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        if axis.z == 0u {
            slice += rest % axis.x * slices_before;
            slices_before *= axis.x;
        }
        rest = rest / axis.x;
    }
    return slice;
}

// An element of a share, as an f32. In columns elements are evenly spaced.
fn single(share: Share, i: u32) -> u32 {
    var index = share.first + i * params.width;
    if ORDER != ORDER_COLUMNS {
        index = element_index(share.slice, i);
    }
    return to_f32(element_of(x[index / ELEMENTS], index % ELEMENTS).x);
}

// Whether each lane of a subword of block i belongs to the slice. Lane n has element n * SUBWORDS + s.
fn lanes_inside(share: Share, i: u32, s: u32) -> vec4<bool> {
    let index = vec4(i * ELEMENTS + s) + vec4(0u, 1u, 2u, 3u) * vec4(SUBWORDS);
    return (index >= vec4(share.first)) & (index < vec4(share.last));
}

fn floats_of(block: vec4<u32>, s: u32) -> vec4<u32> {
    let v = extract_subword(block, s) >> vec4(LANE_SHIFT);
    return vec4(to_f32(v.x), to_f32(v.y), to_f32(v.z), to_f32(v.w));
}

// Keys in the order of numbers, NaN the greatest.
fn keys_of(v: vec4<u32>) -> vec4<u32> {
    let key = v ^ select(vec4(SIGN), vec4(MAX), v >= vec4(SIGN));
    return select(key, vec4(KEY_OF_NAN), (v & vec4(MAGNITUDE)) > vec4(F32_INFINITY));
}

@compute @workgroup_size(WORKGROUP)
fn find_greatest(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = share_of(id, group, lane);
    if ORDER == ORDER_ROWS {
        if lane == 0u {
            atomicStore(&greatest_key, 0u);
        }
        workgroupBarrier();
        var keys = vec4(0u);
        for (var i = share.start; i < share.end; i += share.step) {
            let block = x[i];
            for (var s = 0u; s < SUBWORDS; s++) {
                keys = max(keys, select(vec4(0u), keys_of(floats_of(block, s)), lanes_inside(share, i, s)));
            }
        }
        atomicMax(&greatest_key, max(max(keys.x, keys.y), max(keys.z, keys.w)));
        workgroupBarrier();
        if lane == 0u {
            atomicMax(&slice_words[share.slice * SLICE_WORDS], atomicLoad(&greatest_key));
        }
    } else {
        var key = 0u;
        for (var i = share.start; i < share.end; i += share.step) {
            key = max(key, keys_of(vec4(single(share, i))).x);
        }
        atomicMax(&slice_words[share.slice * SLICE_WORDS], key);
    }
}

// The element with a key.
fn float_with(key: u32) -> u32 {
    return select(~key, key ^ SIGN, key >= SIGN);
}

// An exponential in units of 2^-62, truncated.
fn term_of(e: vec2<u32>) -> vec2<u32> {
    // Shifted left by 30, then right by the halvings: left by up to 30 or right by up to 31.
    let left = u32(max(30 - i32(e.y), 0));
    let right = u32(clamp(i32(e.y) - 30, 0, 31));
    let vanishes = e.y > 61u;
    return select(vec2((e.x << left) >> right, (e.x >> 1u) >> (31u - left)), vec2(0u), vanishes);
}

// The sum of a share, of less than 2^34 terms.
fn add_term(sum: ptr<function, vec3<u32>>, term: vec2<u32>) {
    let low = add64((*sum).xy, term);
    let carries = (low.y < term.y) | ((low.y == term.y) & (low.x < term.x));
    *sum = vec3(low, (*sum).z + select(0u, 1u, carries));
}

@compute @workgroup_size(WORKGROUP)
fn add_exponentials(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = share_of(id, group, lane);
    let greatest = float_with(atomicLoad(&slice_words[share.slice * SLICE_WORDS]));
    let units = units_of(greatest);
    var sum = vec3(0u);
    if ORDER == ORDER_ROWS {
        if lane < HALVES {
            atomicStore(&halves[lane], 0u);
        }
        workgroupBarrier();
        for (var i = share.start; i < share.end; i += share.step) {
            let block = x[i];
            for (var s = 0u; s < SUBWORDS; s++) {
                let v = floats_of(block, s);
                let inside = lanes_inside(share, i, s);
                add_term(&sum, select(vec2(0u), term_of(exp_below(v.x, greatest, units)), inside.x));
                add_term(&sum, select(vec2(0u), term_of(exp_below(v.y, greatest, units)), inside.y));
                add_term(&sum, select(vec2(0u), term_of(exp_below(v.z, greatest, units)), inside.z));
                add_term(&sum, select(vec2(0u), term_of(exp_below(v.w, greatest, units)), inside.w));
            }
        }
        // Halves of words, so that up to 2^16 of them fit a word.
        atomicAdd(&halves[0], sum.x & 0xffffu);
        atomicAdd(&halves[1], sum.x >> 16u);
        atomicAdd(&halves[2], sum.y & 0xffffu);
        atomicAdd(&halves[3], sum.y >> 16u);
        atomicAdd(&halves[4], sum.z & 0xffffu);
        atomicAdd(&halves[5], sum.z >> 16u);
        workgroupBarrier();
        // The carries, so that those of many workgroups fit as well.
        var carry = 0u;
        for (var n = 0u; n < HALVES; n++) {
            let half = atomicLoad(&halves[n]) + carry;
            carry = half >> 16u;
            if lane == n {
                atomicAdd(&slice_words[share.slice * SLICE_WORDS + SUM_WORD + n], half & 0xffffu);
            }
        }
    } else {
        for (var i = share.start; i < share.end; i += share.step) {
            add_term(&sum, term_of(exp_below(single(share, i), greatest, units)));
        }
        let at = share.slice * SLICE_WORDS + SUM_WORD;
        atomicAdd(&slice_words[at], sum.x & 0xffffu);
        atomicAdd(&slice_words[at + 1u], sum.x >> 16u);
        atomicAdd(&slice_words[at + 2u], sum.y & 0xffffu);
        atomicAdd(&slice_words[at + 3u], sum.y >> 16u);
        atomicAdd(&slice_words[at + 4u], sum.z & 0xffffu);
        atomicAdd(&slice_words[at + 5u], sum.z >> 16u);
    }
}

// Rounds the sum of each slice to 32 bits, and finds its reciprocal.
@compute @workgroup_size(WORKGROUP)
fn round_sums(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.outputs {
        return;
    }
    let at = i * SLICE_WORDS;
    let key = atomicLoad(&slice_words[at]);
    var carry = 0u;
    var v: array<u32, HALVES>;
    for (var n = 0u; n < HALVES; n++) {
        let half = atomicLoad(&slice_words[at + SUM_WORD + n]) + carry;
        v[n] = half & 0xffffu;
        carry = half >> 16u;
    }
    let low = v[0] | (v[1] << 16u);
    let middle = v[2] | (v[3] << 16u);
    let high = v[4] | (v[5] << 16u);
    // Its leading bit is at 61 or above.
    let large = high != 0u;
    let first = select(middle, high, large);
    let second = select(low, middle, large);
    let up = countLeadingZeros(first) & 31u;
    let kept = (first << up) | ((second >> 1u) >> (31u - up));
    let rest = second << up;
    let below = large & (low != 0u);
    let rounds_up = (rest > SIGN) | ((rest == SIGN) & (below | ((kept & 1u) == 1u)));
    let rounded = kept + select(0u, 1u, rounds_up);
    let carried = rounded == 0u;
    let sum = select(rounded, SIGN, carried);
    let dropped = select(32u, 64u, large) - up + select(0u, 1u, carried);
    // 2^63 by the sum, bit by bit; for a sum of 2^31 one less, which is all that a word holds.
    var remainder = SIGN;
    var inverse = 0u;
    for (var n = 0u; n < 32u; n++) {
        let over = remainder >= SIGN;
        let doubled = remainder << 1u;
        let fits = over | (doubled >= sum);
        remainder = select(doubled, doubled - sum, fits);
        inverse = (inverse << 1u) | select(0u, 1u, fits);
    }
    inverse = select(inverse, MAX, sum == SIGN);
    let none = (key >= KEY_OF_INFINITY) | (key <= KEY_OF_NEGATIVE_INFINITY);
    atomicStore(&slice_words[at], float_with(key));
    atomicStore(&slice_words[at + 1u], sum);
    atomicStore(&slice_words[at + 2u], inverse);
    atomicStore(&slice_words[at + 3u], select(dropped, NO_SUM, none));
}

// An element's exponential by the sum of its slice, rounded once.
fn share_of_sum(v: u32, slice: vec4<u32>) -> u32 {
    let e = exp_below(v, slice.x, units_of(slice.x));
    // In units of 2^-31, or one less: the remainder says so.
    let near = high_product(e.x, slice.z);
    let rest = sub64(vec2(e.x << 31u, e.x >> 1u), wide_product(near, slice.y));
    let more = (rest.y != 0u) | (rest.x >= slice.y);
    let digits = near + select(0u, 1u, more);
    let exact = select(rest.x == 0u, (rest.y == 0u) & (rest.x == slice.y), more);
    // Its leading bit is at 29 or above.
    let up = countLeadingZeros(digits) & 31u;
    let word = digits << up;
    let sticky = select(word & 1u, 1u, !exact);
    let rounded = round_word(false, (word >> 1u) | sticky, 30 - i32(up) - i32(e.y) - i32(slice.w));
    return select(rounded, quiet_nan().x, slice.w == NO_SUM);
}

@compute @workgroup_size(WORKGROUP)
fn softmax(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.blocks {
        return;
    }
    let block = x[i];
    var shares = vec4(0u);
    if ORDER == ORDER_ROWS {
        // A row is longer than a block, which has elements of up to two.
        let first = slice_of(i * ELEMENTS);
        let end = (first + 1u) * params.leaves;
        let slice = slices[first * 2u];
        let next = slices[min(first + 1u, params.outputs - 1u) * 2u];
        for (var s = 0u; s < SUBWORDS; s++) {
            let v = floats_of(block, s);
            let index = vec4(i * ELEMENTS + s) + vec4(0u, 1u, 2u, 3u) * vec4(SUBWORDS);
            let beyond = index >= vec4(end);
            let lanes = vec4(
                share_of_sum(v.x, select(slice, next, vec4(beyond.x))),
                share_of_sum(v.y, select(slice, next, vec4(beyond.y))),
                share_of_sum(v.z, select(slice, next, vec4(beyond.z))),
                share_of_sum(v.w, select(slice, next, vec4(beyond.w))),
            );
            shares |= insert_subword(lanes << vec4(LANE_SHIFT), s);
        }
    } else {
        for (var e = 0u; e < params.elements; e++) {
            let slice = slices[slice_of(i * ELEMENTS + e) * 2u];
            store_element(&shares, e, vec2(share_of_sum(to_f32(element_of(block, e).x), slice), 0u));
        }
    }
    y[i] = shares;
}

// From the result, which is bound as x, and the dot products of all slices with g; `params.row` is the first slice of the dispatch.
@compute @workgroup_size(WORKGROUP)
fn softmax_backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.blocks {
        return;
    }
    let results = x[i];
    let upstream = g[i];
    var gx = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let along = dots[params.row + slice_of(i * ELEMENTS + e)];
        let difference = add_f32(to_f32(element_of(upstream, e).x), along ^ SIGN);
        let gradient = mul_f32(to_f32(element_of(results, e).x), difference);
        store_element(&gx, e, vec2(from_f32(gradient), 0u));
    }
    y[i] = gx;
}
