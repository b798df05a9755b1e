// Exact reductions over axes: sums, sums of magnitudes, of squares and of products, greatest magnitudes. The limbs of some outputs are
// cleared, elements are added to them, and then each is rounded: the twin of src/backend/cpu/reduce.
import package::lib::constants::{
    BITS, FLOAT, LANES_PER_SUBWORD, LANE_SHIFT, LIMBS, ORDER, ORDER_COLUMNS, ORDER_ROWS, REDUCE,
    REDUCE_MAX_ABS, REDUCE_PRODUCTS, REDUCE_SUM_SQUARES, SIGNED, SUBWORDS, TO_BITS, UNIT, WORKGROUP,
};
import package::lib::element::{MAX, SIGN, element_of, extract_subword, store_element};
import package::lib::exact::{
    MET_INFINITY, MET_NAN, MET_NEGATIVE_INFINITY, WINDOW_BITS, accumulate, add_partial, base_for, clear_partial, finite_magnitudes, flag, flush,
    is_finite, keep_greatest, limbs, terms_of, window_at,
};
import package::lib::factors::block_at;
import package::lib::dispatch::invocation_index;
import package::lib::reduce_params::{element_index, params};
import package::lib::softfloat::{add64, infinity_of, less64, quiet_nan, round_float, sub64, unit_exponent};

// The norms of the outputs, for dot products that are scaled by them.
@group(0) @binding(5) var<storage, read> norms: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<u32>;

const EACH: u32 = SUBWORDS * LANES_PER_SUBWORD;

// Words of an output: its limbs and its flags.
const STRIDE: u32 = LIMBS + 1u;

@compute @workgroup_size(WORKGROUP)
fn clear_limbs(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        atomicStore(&limbs[i], 0u);
    }
}

// What an invocation reads: in steps, each a subword or all subwords of a block.
struct Work {
    start: u32,
    end: u32,
    step: u32,
    // The output of the limbs, and for columns the block, the subword, and the blocks of a row.
    output: u32,
    column: u32,
    subword: u32,
    width: u32,
    // For a row, where its elements begin and end.
    row_begin: u32,
    row_end: u32,
}

// Subwords per step.
const SUBWORDS_OF_STEP: u32 = select(1u, SUBWORDS, ORDER == ORDER_ROWS);

// Invocations that read adjacent blocks. Each group has its own consecutive blocks, so that a device with few lanes also
// reads its memory in order.
const GROUP: u32 = 32u;

// For outputs in rows, a workgroup takes a part of one, a whole block per step.
fn row_work(n: u32, lane: u32) -> Work {
    let output = n / params.parts;
    let row_begin = params.first + output * params.leaves;
    let row_end = row_begin + params.leaves;
    let first = (row_begin + EACH - 1u) / EACH;
    let blocks = max(row_end / EACH, first) - first;
    let groups = params.parts * (WORKGROUP / GROUP);
    let per_group = (blocks + groups - 1u) / groups;
    let start = (n % params.parts * (WORKGROUP / GROUP) + lane / GROUP) * per_group;
    let end = select(0u, min(start + per_group, blocks), output < params.outputs);
    return Work(first + start + lane % GROUP, first + end, GROUP, params.row + output, 0u, 0u, 0u, row_begin, row_end);
}

// For outputs in columns, of whole blocks, an invocation takes a subword of each block in a part of a column; for any
// others a part of one output, element by element.
fn other_work(n: u32) -> Work {
    let outputs = select(params.outputs, params.outputs / LANES_PER_SUBWORD, ORDER == ORDER_COLUMNS);
    let part = n / outputs;
    let per_part = (params.leaves + params.parts - 1u) / params.parts;
    let end = select(0u, min((part + 1u) * per_part, params.leaves), n < params.blocks);
    let output = n % outputs;
    if ORDER == ORDER_COLUMNS {
        let columns = params.outputs / EACH;
        let column = output % columns;
        let subword = output / columns;
        let width = params.width / EACH;
        return Work(part * per_part, end, 1u, column * EACH, column + params.first / EACH, subword, width, 0u, 0u);
    }
    return Work(part * per_part, end, LANES_PER_SUBWORD, output, 0u, 0u, 0u, 0u, 0u);
}

// A subword of a step.
fn subword_at(work: Work, i: u32, s: u32, of_factors: bool) -> vec4<u32> {
    if ORDER == ORDER_ROWS {
        return extract_subword(block_at(i, of_factors), s);
    }
    if ORDER == ORDER_COLUMNS {
        return extract_subword(block_at(i * work.width + work.column, of_factors), work.subword);
    }
    return gathered(params.first + work.output, i, work.end, of_factors);
}

// The factors of a subword: the subword itself, except for products.
fn factors_at(work: Work, i: u32, s: u32, v: vec4<u32>) -> vec4<u32> {
    if REDUCE == REDUCE_PRODUCTS {
        return subword_at(work, i, s, true);
    }
    return v;
}

// A partly filled block at an end of a row, for its first part: two invocations have one, others zeros.
fn end_block(work: Work, n: u32, lane: u32, of_factors: bool) -> vec4<u32> {
    let first = work.row_begin / EACH;
    let last = work.row_end / EACH;
    let is_first = lane == 0u && work.row_begin % EACH != 0u;
    let is_last = lane == 1u && work.row_end % EACH != 0u && (last != first || work.row_begin % EACH == 0u);
    var block = vec4(0u);
    if n % params.parts == 0u && n / params.parts < params.outputs && (is_first || is_last) {
        let i = select(last, first, is_first);
        block = between(block_at(i, of_factors), i * EACH, work.row_begin, work.row_end);
    }
    return block;
}

// The elements of a block that belong to an output, and zeros.
fn between(block: vec4<u32>, start: u32, row_begin: u32, row_end: u32) -> vec4<u32> {
    var kept = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        if start + e >= row_begin && start + e < row_end {
            store_element(&kept, e, element_of(block, e));
        }
    }
    return kept;
}

// Leaves of an output as a subword.
fn gathered(output: u32, leaf: u32, end: u32, of_factors: bool) -> vec4<u32> {
    var lanes = vec4(0u);
    for (var lane = 0u; lane < min(LANES_PER_SUBWORD, end - leaf); lane++) {
        let i = element_index(output, leaf + lane);
        let element = element_of(block_at(i / EACH, of_factors), i % EACH);
        if BITS == 64u {
            lanes[2u * lane] = element.x;
            lanes[2u * lane + 1u] = element.y;
        } else {
            lanes[lane] = element.x << LANE_SHIFT;
        }
    }
    return lanes;
}

@compute @workgroup_size(WORKGROUP)
fn reduce(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var n = invocation_index(id);
    var work: Work;
    if ORDER == ORDER_ROWS {
        clear_partial(lane);
        workgroupBarrier();
        n = group.y * (params.stride / WORKGROUP) + group.x;
        work = row_work(n, lane);
    } else {
        work = other_work(n);
    }
    var at = vec4(work.output);
    if ORDER == ORDER_COLUMNS {
        // An element of lane l is at l * SUBWORDS + subword of its block.
        at += vec4(work.subword) + min(vec4(0u, 1u, 2u, 3u), vec4(LANES_PER_SUBWORD - 1u)) * vec4(SUBWORDS);
    }
    at = select(at * vec4(STRIDE), vec4(0u), ORDER == ORDER_ROWS);

    var end = vec4(0u);
    if ORDER == ORDER_ROWS {
        end = end_block(work, n, lane, false);
    }
    var end_factors = end;
    if ORDER == ORDER_ROWS && REDUCE == REDUCE_PRODUCTS {
        end_factors = end_block(work, n, lane, true);
    }
    var odd = vec4(false);
    if REDUCE == REDUCE_MAX_ABS {
        var greatest = vec4(0u);
        for (var s = 0u; s < SUBWORDS_OF_STEP; s++) {
            greatest = max(greatest, finite_magnitudes(extract_subword(end, s)));
        }
        for (var i = work.start; i < work.end; i += work.step) {
            for (var s = 0u; s < SUBWORDS_OF_STEP; s++) {
                let v = subword_at(work, i, s, false);
                greatest = max(greatest, finite_magnitudes(v));
                odd = odd | !is_finite(v);
            }
        }
        keep_greatest(greatest, at);
    } else {
        // A few elements determine the best first window.
        var sample = finite_magnitudes(extract_subword(end, 0u));
        var sample_factors = finite_magnitudes(extract_subword(end_factors, 0u));
        for (var i = work.start; i < min(work.end, work.start + 4u * work.step); i += work.step) {
            let v = subword_at(work, i, 0u, false);
            sample = max(sample, finite_magnitudes(v));
            sample_factors = max(sample_factors, finite_magnitudes(factors_at(work, i, 0u, v)));
        }
        let base = base_for(sample, sample_factors);
        var lowest = 0;
        var highest = 0;
        var distance = 0;
        loop {
            var window = window_at(base + distance * WINDOW_BITS);
            for (var i = work.start; i < work.end; i += work.step) {
                for (var s = 0u; s < SUBWORDS_OF_STEP; s++) {
                    let v = subword_at(work, i, s, false);
                    let w = factors_at(work, i, s, v);
                    accumulate(&window, terms_of(v, w));
                    odd = odd | !is_finite(v) | !is_finite(w);
                }
            }
            if ORDER == ORDER_ROWS {
                for (var s = 0u; s < SUBWORDS; s++) {
                    accumulate(&window, terms_of(extract_subword(end, s), extract_subword(end_factors, s)));
                }
            }
            flush(window, at, ORDER != ORDER_COLUMNS);
            // The first pass determines how many more are needed: down, then up.
            let low = min(min(window.lowest.x, window.lowest.y), min(window.lowest.z, window.lowest.w));
            let high = max(max(window.highest.x, window.highest.y), max(window.highest.z, window.highest.w));
            lowest = select(lowest, low, distance == 0);
            highest = select(highest, high, distance == 0);
            distance = select(max(distance, 0) + 1, distance - 1, distance <= 0 && distance > lowest);
            if distance > highest {
                break;
            }
        }
    }
    if FLOAT {
        for (var i = select(work.end, work.start, any(odd)); i < work.end; i += work.step) {
            for (var s = 0u; s < SUBWORDS_OF_STEP; s++) {
                let v = subword_at(work, i, s, false);
                flag(v, factors_at(work, i, s, v), at);
            }
        }
    }
    if ORDER == ORDER_ROWS {
        if FLOAT {
            for (var s = 0u; s < SUBWORDS; s++) {
                flag(extract_subword(end, s), extract_subword(end_factors, s), at);
            }
        }
        workgroupBarrier();
        // For a workgroup beyond the last it is all zero, and so are its limbs.
        add_partial(lane, min(work.output, params.row + params.outputs - 1u) * STRIDE);
    }
}

// Rounds the outputs, and packs them into words.
@compute @workgroup_size(WORKGROUP)
fn round_outputs(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.blocks {
        return;
    }
    // A block at a time.
    let each = 128u / to_width();
    var block = vec4(0u);
    for (var e = 0u; e < each; e++) {
        let output = i * each + e;
        if output < params.outputs {
            let rounded = rounded_output(output * STRIDE, 0);
            if TO_BITS == 64u {
                block[2u * e] = rounded.x;
                block[2u * e + 1u] = rounded.y;
            } else {
                let bit = e * TO_BITS;
                block[bit / 32u] |= rounded.x << (bit % 32u);
            }
        }
    }
    let first = params.first / each + i;
    for (var word = 0u; word < 4u; word++) {
        result[4u * first + word] = block[word];
    }
}

// Rounds dot products, each times the power of two that brings its norm to between 1 and 2.
@compute @workgroup_size(WORKGROUP)
fn round_dots(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.outputs {
        let norm = norms[params.first + i];
        result[params.first + i] = rounded_output(i * STRIDE, unit_exponent(norm)).x;
    }
}

fn to_width() -> u32 {
    return TO_BITS;
}

// An output times two to a power.
fn rounded_output(at: u32, power: i32) -> vec2<u32> {
    let flags = atomicLoad(&limbs[at + LIMBS]);
    if FLOAT {
        if flags != 0u {
            let both = MET_INFINITY | MET_NEGATIVE_INFINITY;
            let nan = (flags & MET_NAN) != 0u || (flags & both) == both;
            return select(infinity_of((flags & MET_INFINITY) == 0u), quiet_nan(), nan);
        }
        if REDUCE == REDUCE_MAX_ABS {
            return vec2(atomicLoad(&limbs[at]), 0u);
        }
    }
    var words: array<u32, LIMBS>;
    for (var n = 0u; n < LIMBS; n++) {
        words[n] = atomicLoad(&limbs[at + n]);
    }
    let negative = words[LIMBS - 1u] >= SIGN;
    if negative {
        var carry = 1u;
        for (var n = 0u; n < LIMBS; n++) {
            words[n] = ~words[n] + carry;
            carry = select(0u, carry, words[n] == 0u);
        }
    }
    // One more than the index of the topmost nonzero limb, and the three limbs from there down.
    var top = 0u;
    for (var n = 0u; n < LIMBS; n++) {
        top = select(top, n + 1u, words[n] != 0u);
    }
    if !FLOAT {
        return clipped_integer(vec2(words[0], words[1]), top > max(BITS / 32u, 1u), negative);
    }
    if top == 0u {
        return vec2(0u);
    }
    let high = words[top - 1u];
    var middle = 0u;
    var low = 0u;
    if top > 1u {
        middle = words[top - 2u];
    }
    if top > 2u {
        low = words[top - 3u];
    }
    var sticky = false;
    for (var n = 0u; n + 3u < top; n++) {
        sticky = sticky || words[n] != 0u;
    }
    let up = 31u - firstLeadingBit(high);
    let significand = vec2(
        (middle << up) | ((low >> 1u) >> (31u - up)),
        (high << up) | ((middle >> 1u) >> (31u - up)),
    );
    sticky = sticky || (low << up) != 0u;
    let exponent = i32(32u * top - 1u - up) + UNIT + power;
    if REDUCE == REDUCE_SUM_SQUARES {
        return rounded_root(significand, sticky, exponent);
    }
    return round_float(negative, significand | vec2(select(0u, 1u, sticky), 0u), exponent);
}

// The root of `significand * 2^(exponent - 63)`, whose leading bit is at 63.
fn rounded_root(significand: vec2<u32>, sticky: bool, exponent: i32) -> vec2<u32> {
    // An even power of two.
    let odd = ((exponent - 63) & 1) != 0;
    let halved = vec2((significand.x >> 1u) | (significand.y << 31u), significand.y >> 1u);
    let square = select(significand, halved, odd);
    let lost = odd && (significand.x & 1u) != 0u;
    let half = (exponent - 63 + select(0, 1, odd)) >> 1u;
    // Bit by bit: the root has 32.
    var root = 0u;
    var rest = vec2(0u);
    for (var n = 0u; n < 32u; n++) {
        let pair = (select(square.x, square.y, n < 16u) >> (30u - 2u * (n % 16u))) & 3u;
        rest = vec2((rest.x << 2u) | pair, (rest.y << 2u) | (rest.x >> 30u));
        let trial = vec2((root << 2u) | 1u, root >> 30u);
        let fits = !less64(rest, trial);
        rest = select(rest, sub64(rest, trial), fits);
        root = (root << 1u) | select(0u, 1u, fits);
    }
    let inexact = lost || sticky || any(rest != vec2(0u));
    return round_float(false, vec2(select(0u, 1u, inexact), root), half + 31);
}

// An integer of the type from a magnitude, or the nearest that it has. `beyond`: there are more words.
fn clipped_integer(magnitude: vec2<u32>, beyond: bool, negative: bool) -> vec2<u32> {
    let one = select(0u, 1u, negative);
    if BITS == 64u {
        let most = vec2(MAX, MAX >> select(0u, 1u, SIGNED));
        // The minimum is one further than the maximum.
        let reach = add64(most, vec2(one, 0u));
        let clipped = select(magnitude, reach, vec2(beyond || less64(reach, magnitude)));
        let value = select(clipped, vec2(~clipped.x + 1u, ~clipped.y + select(0u, 1u, clipped.x == 0u)), negative);
        return value;
    }
    let mask = MAX >> LANE_SHIFT;
    let reach = (mask >> select(0u, 1u, SIGNED)) + one;
    let clipped = select(min(magnitude.x, reach), reach, beyond);
    return vec2(select(clipped, (~clipped + 1u) & mask, negative), 0u);
}
