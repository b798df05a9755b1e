// Clipping by norm: how elements are scaled by their norm, their products, and their gradients: the twins of
// reference::scaling, scale, scaling_backward and scale_backward.
import package::lib::constants::{BLOCKS_PER_INVOCATION, LANE_SHIFT, MAX_FINITE, MAX_NUMBER, MIN_NORMAL, SUBWORDS, WORKGROUP};
import package::lib::element::{
    MAGNITUDE, SIGN, element_of, extract_subword, insert_subword, store_element,
};
import package::lib::dispatch::{block_of, invocation_index};
import package::lib::scale_params::params;
import package::lib::softfloat::{
    F32_INFINITY, F32_NAN, add_f32, exponent_bits, from_f32, mul_f32, quiet_nan, round_float, significand_shift, to_f32,
    unit_exponent,
};

@group(0) @binding(1) var<storage, read> norms: array<u32>;
@group(0) @binding(2) var<storage, read> relative_norms: array<u32>;
// For each norm: the norm itself, the coefficient, what is done, and whether it is an error.
@group(0) @binding(3) var<storage, read_write> made_scalings: array<vec4<u32>>;

@group(0) @binding(4) var<storage, read> scalings: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<u32>>;

// For each norm: the unit, the projection, and whether x receives NaN.
@group(0) @binding(1) var<storage, read> dots: array<u32>;
@group(0) @binding(3) var<storage, read_write> made_projections: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> projections: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> g: array<vec4<u32>>;

const ONE: u32 = 0x3f800000u;

// What is done with elements.
const KEEP: u32 = 0u;
const MULTIPLY: u32 = 1u;
const ZERO: u32 = 2u;

// What happens to elements whose norm is not finite.
const PROPAGATE: u32 = 0u;
const ZERO_ALL: u32 = 1u;
const SKIP: u32 = 2u;
const REPORT: u32 = 3u;

@compute @workgroup_size(WORKGROUP)
fn make_scalings(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        made_scalings[i] = scaling(norms[i], params.max_norm);
    }
}

// The same if the limit is a multiple of another norm.
@compute @workgroup_size(WORKGROUP)
fn make_relative_scalings(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        let least = params.least;
        let norm = relative_norms[i];
        made_scalings[i] = scaling(norms[i], mul_f32(params.max_norm, select(norm, least, norm < least)));
    }
}

fn scaling(norm_of_all: u32, limit: u32) -> vec4<u32> {
    var norm = norm_of_all;
    if params.average != 0u {
        norm = divide(norm, params.average);
    }
    let policy = params.policy;
    if norm >= F32_INFINITY && policy != PROPAGATE {
        if policy == ZERO_ALL {
            return vec4(norm, 0u, ZERO, 0u);
        }
        return vec4(norm, ONE, KEEP, select(0u, 1u, policy == REPORT));
    }
    if norm <= limit && limit <= F32_INFINITY {
        return vec4(norm, ONE, KEEP, 0u);
    }
    return vec4(norm, divide(limit, add_f32(norm, params.eps)), MULTIPLY, 0u);
}

// a / b of nonnegative numbers, in f32.
fn divide(a: u32, b: u32) -> u32 {
    if a > F32_INFINITY || b > F32_INFINITY || (a == F32_INFINITY && b == F32_INFINITY) || (a == 0u && b == 0u) {
        return F32_NAN;
    }
    if a == 0u || b == F32_INFINITY {
        return 0u;
    }
    if a == F32_INFINITY || b == 0u {
        return F32_INFINITY;
    }
    let divisor = significand24(b);
    var rest = significand24(a);
    var exponent = exponent_of(a) - exponent_of(b);
    if rest < divisor {
        rest = rest << 1u;
        exponent -= 1;
    }
    // Bit by bit: the quotient has 32.
    var quotient = 0u;
    for (var n = 0u; n < 32u; n++) {
        let fits = rest >= divisor;
        quotient = (quotient << 1u) | select(0u, 1u, fits);
        rest = select(rest, rest - divisor, fits) << 1u;
    }
    return round_float(false, vec2(select(0u, 1u, rest != 0u), quotient), exponent).x;
}

// The significand of a finite nonzero magnitude in f32, with its leading bit at 23, and the exponent of that bit.
fn significand24(size: u32) -> u32 {
    let leading = select(0u, 0x800000u, size >= 0x800000u);
    return ((size & 0x7fffffu) | leading) << significand_shift(size);
}

fn exponent_of(size: u32) -> i32 {
    return i32(max(size >> 23u, 1u)) - 127 - i32(significand_shift(size));
}

@compute @workgroup_size(WORKGROUP)
fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    let by = scalings[0];
    for (var n = 0u; n < BLOCKS_PER_INVOCATION; n++) {
        let i = block_of(invocation_index(id), n, BLOCKS_PER_INVOCATION);
        if i < params.pieces {
            y[i] = scaled_block(x[i], by);
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn scale_in_place(@builtin(global_invocation_id) id: vec3<u32>) {
    let by = scalings[0];
    if by.z == KEEP {
        return;
    }
    for (var n = 0u; n < BLOCKS_PER_INVOCATION; n++) {
        let i = block_of(invocation_index(id), n, BLOCKS_PER_INVOCATION);
        if i < params.pieces {
            y[i] = scaled_block(y[i], by);
        }
    }
}

fn scaled_block(block: vec4<u32>, by: vec4<u32>) -> vec4<u32> {
    if by.z == KEEP {
        return block;
    }
    var scaled = vec4(0u);
    if by.z == MULTIPLY {
        for (var s = 0u; s < SUBWORDS; s++) {
            scaled |= insert_subword(products(extract_subword(block, s), vec4(by.y)), s);
        }
    }
    return scaled;
}

// Each slice by its own scaling. An axis is its length, and the stride of the scalings along it.
@compute @workgroup_size(WORKGROUP)
fn scale_along(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.pieces {
        return;
    }
    var scaled = vec4(0u);
    for (var s = 0u; s < SUBWORDS; s++) {
        let v = extract_subword(x[i], s);
        var coefficients = vec4(0u);
        var actions = vec4(0u);
        for (var lane = 0u; lane < 4u; lane++) {
            // Element lane * SUBWORDS + s of the block.
            let by = scalings[scaling_of(params.first + i * params.elements + lane * SUBWORDS + s)];
            coefficients[lane] = by.y;
            actions[lane] = by.z;
        }
        let lanes = select(vec4(0u), products(v, coefficients), actions == vec4(MULTIPLY));
        scaled |= insert_subword(select(lanes, v, actions == vec4(KEEP)), s);
    }
    y[i] = scaled;
}

// The index of an element's scaling.
fn scaling_of(element: u32) -> u32 {
    var rest = element;
    var at = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        at += rest % axis.x * axis.y;
        rest = rest / axis.x;
    }
    return at;
}

@compute @workgroup_size(WORKGROUP)
fn make_projections(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        made_projections[i] = projection(scalings[i], dots[i]);
    }
}

fn projection(by: vec4<u32>, dot: u32) -> vec4<u32> {
    let norm = by.x;
    let unit = power_of_two(unit_exponent(norm));
    let sum = mul_f32(add_f32(norm, params.eps), unit);
    let size = divide(divide(dot & MAGNITUDE, mul_f32(norm, unit)), sum);
    return vec4(unit, mul_f32(size | (dot & SIGN), by.y), select(0u, 1u, norm >= F32_INFINITY), 0u);
}

// Two to a power that f32 can represent.
fn power_of_two(exponent: i32) -> u32 {
    return select(u32(exponent + 127) << 23u, 1u << u32(exponent + 149), exponent < -126);
}

@compute @workgroup_size(WORKGROUP)
fn scale_backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i >= params.pieces {
        return;
    }
    let upstream = g[i];
    let block = x[i];
    var gradient = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let at = scaling_of(params.first + i * params.elements + e);
        let by = scalings[at];
        let along = projections[at];
        var element = element_of(upstream, e);
        if by.z == ZERO {
            element = vec2(0u);
        } else if by.z == MULTIPLY {
            element = projected(to_f32(element_of(block, e).x), to_f32(element.x), by.y, along);
        }
        store_element(&gradient, e, element);
    }
    y[i] = gradient;
}

fn projected(of_x: u32, of_g: u32, coefficient: u32, along: vec4<u32>) -> vec2<u32> {
    let removed = mul_f32(mul_f32(of_x, along.x), along.y);
    let gradient = add_f32(mul_f32(of_g, coefficient), removed ^ SIGN);
    let near = from_f32(gradient);
    // Beyond the range, a type without infinity has NaN.
    if along.z != 0u || ((near << LANE_SHIFT) & MAGNITUDE) > MAX_NUMBER {
        return quiet_nan();
    }
    return vec2(near, 0u);
}

// Products of floats with coefficients of at most 1, rounded once. So none is beyond the range, and the product of a
// subnormal number is subnormal: it needs no leading bit.
fn products(v: vec4<u32>, coefficient: vec4<u32>) -> vec4<u32> {
    let size = v & vec4(MAGNITUDE);
    let field = size >> vec4(31u - exponent_bits());
    let implicit = select(vec4(0u), vec4(MIN_NORMAL), field > vec4(0u));
    // The leading bit of a normal number at 23.
    let m = ((size & vec4(MIN_NORMAL - 1u)) | implicit) >> vec4(8u - exponent_bits());
    let up = select(vec4(23u) - firstLeadingBit(coefficient), vec4(0u), coefficient >= vec4(0x800000u));
    let leading = select(vec4(0u), vec4(0x800000u), coefficient >= vec4(0x800000u));
    let n = ((coefficient & vec4(0x7fffffu)) | leading) << (up & vec4(31u));
    // The upper 32 of 48 bits, the last of which is sticky.
    let cross = (m >> vec4(12u)) * (n & vec4(0xfffu)) + (m & vec4(0xfffu)) * (n >> vec4(12u));
    let bottom = (m & vec4(0xfffu)) * (n & vec4(0xfffu));
    let middle = cross + (bottom >> vec4(12u));
    let all = (((m >> vec4(12u)) * (n >> vec4(12u))) << vec4(8u)) + (middle >> vec4(4u));
    let lost = ((middle & vec4(15u)) | (bottom & vec4(0xfffu))) != vec4(0u);
    let significand = all | select(vec4(0u), vec4(1u), lost);
    // How far the exponent is above the minimum, and how many bits are dropped.
    let carried = significand >> vec4(31u);
    let exponent = vec4<i32>(max(field, vec4(1u)) + max(coefficient >> vec4(23u), vec4(1u)) + carried) - vec4<i32>(up) - vec4(128);
    let dropped = vec4<i32>(vec4(LANE_SHIFT + exponent_bits() - 1u) + carried) + max(-exponent, vec4(0));
    // One bit less, so that all 32 can be dropped.
    let halved = (significand >> vec4(1u)) | (significand & vec4(1u));
    let shift = vec4<u32>(min(dropped, vec4(32)) - vec4(1));
    let kept = halved >> shift;
    let rest = halved - (kept << shift);
    let half = (vec4(1u) << shift) >> vec4(1u);
    let rounds_up = (rest > half) | ((rest == half) & ((kept & vec4(1u)) != vec4(0u)));
    let near = kept + select(vec4(0u), vec4(1u), rounds_up);
    // The leading bit of a normal number adds one to the exponent.
    let above = vec4<u32>(max(exponent, vec4(0))) << vec4(31u - exponent_bits());
    let number = select(vec4(0u), (near << vec4(LANE_SHIFT)) + above, (dropped <= vec4(32)) & (coefficient != vec4(0u)));
    let nan = vec4(quiet_nan().x << LANE_SHIFT);
    let infinite = (size <= vec4(MAX_NUMBER)) & (coefficient != vec4(0u));
    let odd = select(nan, v, infinite);
    let product = select(odd, number | (v & vec4(SIGN)), size <= vec4(MAX_FINITE));
    return select(product, nan, coefficient > vec4(F32_INFINITY));
}
