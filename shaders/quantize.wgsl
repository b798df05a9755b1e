// Rounds to the values of codes, for floats of up to 32 bits, in integers: the twin of reference::fake_quantize, and its gradients.
import package::lib::constants::{
    BITS, E2M1_CODES, FLOAT, LANE_SHIFT, NAN_CODE, NAN_PASSES, QUANT_GRADIENT, QUOTIENT, ROUNDING, SIGNED, TO_EXPONENT_BITS,
};
import package::lib::element::{MAGNITUDE, SIGN, element_of, store_element};
import package::lib::float_code::{
    EXACT, NAN_GREATEST, NAN_LEAST, NAN_STAYS, float_code, float_value, rounded_quotient,
};
import package::lib::params::params;
import package::lib::philox::philox;
import package::lib::softfloat::{
    F32_INFINITY, add64, add_f32, div_f32, from_f32, infinity_of, is_nan_f32, mul_f32, normalized, quiet_nan,
    quotient_digits, reciprocal, round_float, to_bits, to_f32,
};

// The choices of a rule, by their numbers in src/quantize.rs.
const HALF_EVEN: u32 = 0u;
const HALF_UP: u32 = 1u;
const DOWN: u32 = 3u;
const STOCHASTIC: u32 = 4u;
const ROUNDED: u32 = 0u;
const INTERIOR: u32 = 1u;
const UNROUNDED: u32 = 2u;

// Beyond all codes, whatever the zero point is.
const FAR: u32 = 0x40000u;

// A quotient: its sign, the integer part of its magnitude, and the class of its fraction: 0 none, 1 below a half, 2 a half, 3 above.
struct Ratio {
    negative: bool,
    whole: u32,
    part: u32,
    // For stochastic rounding: the fraction in units of 2^-32, and whether more than half of one is left.
    fraction: u32,
    above: bool,
}

// The class of the fraction n / d.
fn part_of(n: u32, d: u32) -> u32 {
    let twice = n << 1u;
    return select(0u, 1u, n != 0u) + select(0u, 1u, twice >= d) + select(0u, 1u, twice > d);
}

// The real quotient of two f32 that are not NaN, times a power of two. Those of 0, and those by infinity, are 0.
fn exact_ratio(x: u32, divisor: u32, power: i32) -> Ratio {
    let negative = (x ^ divisor) >= SIGN;
    let sizes = vec2(x & MAGNITUDE, divisor & MAGNITUDE);
    let parts = normalized(sizes);
    let v = parts.v;
    let exponent = parts.exponents.x - parts.exponents.y + power;
    let digits = quotient_digits(v.x, v.y, reciprocal(v.y), u32(clamp(exponent, 0, 17)));
    var whole = digits.x;
    var part = part_of(digits.y, v.y);
    if exponent < 0 {
        // Between a quarter and one, or below a half.
        whole = 0u;
        part = select(1u, 1u + select(0u, 1u, v.x >= v.y) + select(0u, 1u, v.x > v.y), exponent == -1);
    }
    let far = exponent > 17 || sizes.x >= F32_INFINITY || sizes.y == 0u;
    let none = sizes.x == 0u || (sizes.y >= F32_INFINITY && sizes.x < F32_INFINITY);
    whole = select(whole, FAR, far);
    var ratio = Ratio(negative, select(whole, 0u, none), select(part, 0u, far || none), 0u, false);
    if ROUNDING == STOCHASTIC && !far && !none && exponent >= -33 {
        ratio.above = v.x > v.y;
        if exponent >= -32 {
            // All digits up to 2^-32: some first, and then 16 at a time. Those of the integer part leave the word.
            let count = u32(exponent + 32);
            var next = quotient_digits(v.x, v.y, reciprocal(v.y), count % 16u);
            ratio.fraction = next.x;
            for (var n = 0u; n < count / 16u; n++) {
                next = quotient_digits(next.y, v.y, reciprocal(v.y), 16u);
                ratio.fraction = (ratio.fraction << 16u) | next.x;
            }
            ratio.above = 2u * next.y > v.y;
        }
    }
    return ratio;
}

// An f32 that is not NaN.
fn ratio_of(value: u32) -> Ratio {
    let size = value & MAGNITUDE;
    let exponent = size >> 23u;
    let significand = (size & 0x7fffffu) | 0x800000u;
    // From 1/2 to less than 2^18.
    let shift = clamp(150u, exponent + 6u, exponent + 24u) - exponent;
    let whole = significand >> shift;
    let part = part_of(significand - (whole << shift), 1u << shift);
    let tiny = exponent < 126u;
    let far = exponent > 144u;
    var ratio = Ratio(
        value >= SIGN,
        select(select(whole, 0u, tiny), FAR, far),
        select(select(part, select(0u, 1u, size != 0u), tiny), 0u, far),
        0u,
        false,
    );
    // From 2^-33 on.
    if ROUNDING == STOCHASTIC && !far && exponent >= 94u {
        let lost = 118u - min(exponent, 118u);
        ratio.fraction = (significand >> lost) << (max(exponent, 118u) - 118u);
        ratio.above = 2u * (significand & ((1u << lost) - 1u)) > (1u << lost);
    }
    return ratio;
}

// x by the divisor, as the rule divides.
fn divided(x: u32, divisor: u32) -> Ratio {
    if QUOTIENT == EXACT {
        return exact_ratio(x, divisor, 0);
    }
    var value = rounded_quotient(x, divisor);
    // 0 by 0, and infinity by infinity.
    if (value & MAGNITUDE) > F32_INFINITY {
        value = select(((x ^ divisor) & SIGN) | F32_INFINITY, 0u, (x & MAGNITUDE) == 0u);
    }
    return ratio_of(value);
}

// Four times a quotient, as the rule divides, of numbers that are neither 0 nor infinite.
fn quarters(x: u32, divisor: u32) -> Ratio {
    if QUOTIENT == EXACT {
        return exact_ratio(x, divisor, 2);
    }
    let value = rounded_quotient(x, divisor);
    let size = value & MAGNITUDE;
    // A subnormal number becomes another that is below every code.
    return ratio_of(select(min(size + 0x1000000u, F32_INFINITY), 0u, size == 0u) | (value & SIGN));
}

// The code of a number as a 4-bit float: by how many middles between two magnitudes, in quarters, it is beyond. A tie goes to the even one.
fn e2m1_code(x: u32, divisor: u32) -> u32 {
    if is_nan_f32(x) || is_nan_f32(divisor) {
        return select(0u, 7u, NAN_CODE == NAN_LEAST || NAN_CODE == NAN_GREATEST) | select(0u, 8u, NAN_CODE == NAN_LEAST);
    }
    let sign = ((x ^ divisor) >> 31u) << 3u;
    let sizes = vec2(x & MAGNITUDE, divisor & MAGNITUDE);
    if sizes.x >= F32_INFINITY || (sizes.y == 0u && sizes.x != 0u) {
        return sign | 7u;
    }
    if sizes.x == 0u || sizes.y >= F32_INFINITY {
        return sign;
    }
    let ratio = quarters(sizes.x, sizes.y);
    // Twice the quarters, and one more if there is a rest.
    let size = vec4(2u * ratio.whole + select(0u, 1u, ratio.part != 0u));
    let even = select(vec4(0u), vec4(1u), size > vec4(2u, 10u, 20u, 40u));
    let odd = select(vec4(0u), vec4(1u), size >= vec4(6u, 14u, 28u, 0xffffffffu));
    return sign | dot(even + odd, vec4(1u));
}

// The f32 of a 4-bit float.
fn e2m1_value(code: u32) -> u32 {
    let magnitude = code & 7u;
    let normal = ((126u + (magnitude >> 1u)) << 23u) | ((magnitude & 1u) << 22u);
    return select(select(normal, 0x3f000000u, magnitude == 1u), 0u, magnitude == 0u) | ((code & 8u) << 28u);
}

// `random` chooses the neighbour where rounding is stochastic.
fn integer_of(ratio: Ratio, rounding: u32, random: u32) -> i32 {
    var half_up = true;
    if rounding == HALF_EVEN {
        half_up = (ratio.whole & 1u) == 1u;
    }
    if rounding == HALF_UP {
        half_up = !ratio.negative;
    }
    var up = ratio.part == 3u || (ratio.part == 2u && half_up);
    if rounding == DOWN {
        up = ratio.negative && ratio.part != 0u;
    }
    if rounding == STOCHASTIC {
        up = ratio.fraction > random || (ratio.fraction == random && ratio.above);
    }
    let magnitude = i32(ratio.whole + select(0u, 1u, up));
    return select(magnitude, -magnitude, ratio.negative);
}

// An element's code.
struct Code {
    // The steps from the zero point to the code.
    steps: i32,
    // The code of the zero point.
    zero: i32,
    // Whether the gradient of a number passes.
    passes: bool,
    nan_x: bool,
    // Which operand is the NaN that is the result.
    from_x: bool,
    from_scale: bool,
    from_zero: bool,
}

fn zero_of(zero_point: u32, codes: vec4<i32>) -> i32 {
    return clamp(integer_of(ratio_of(zero_point), HALF_EVEN, 0u), codes.x, codes.y);
}

// The random bits of an element, by its block in the dispatch and its place there.
fn random_of(at: vec2<u32>) -> u32 {
    if ROUNDING != STOCHASTIC {
        return 0u;
    }
    let block = params.random.z + at.x;
    let shift = firstTrailingBit(params.elements);
    return philox(vec2((block << shift) + at.y, block >> (32u - shift)), params.random.xy);
}

fn code_of(x: u32, of_scale: u32, zero_point: u32, codes: vec4<i32>, at: vec2<u32>) -> Code {
    var code: Code;
    code.nan_x = is_nan_f32(x);
    code.from_x = code.nan_x && NAN_CODE == NAN_STAYS;
    code.from_scale = is_nan_f32(of_scale) && !code.from_x;
    code.from_zero = is_nan_f32(zero_point) && !code.from_x && !code.from_scale;
    let zero = zero_of(zero_point, codes);
    code.zero = zero;
    let ratio = divided(x, of_scale);
    let unclipped = integer_of(ratio, ROUNDING, random_of(at)) + zero;
    code.steps = clamp(unclipped, codes.x, codes.y) - zero;
    code.passes = true;
    if QUANT_GRADIENT == ROUNDED {
        code.passes = codes.x <= unclipped && unclipped <= codes.y;
    }
    if QUANT_GRADIENT == INTERIOR {
        code.passes = codes.x < unclipped && unclipped < codes.y;
    }
    if QUANT_GRADIENT == UNROUNDED {
        let whole = i32(ratio.whole);
        let beyond = select(0, 1, ratio.part != 0u);
        let down = select(whole, -whole - beyond, ratio.negative);
        let up = select(whole + beyond, -whole, ratio.negative);
        code.passes = codes.x - zero <= down && up <= codes.y - zero;
    }
    if code.nan_x {
        code.steps = 0;
        if NAN_CODE == NAN_LEAST {
            code.steps = codes.x - zero;
        }
        if NAN_CODE == NAN_GREATEST {
            code.steps = codes.y - zero;
        }
        code.passes = false;
    }
    return code;
}

// An integer of less than 24 bits as an f32.
fn f32_of(value: i32) -> u32 {
    let size = u32(abs(value));
    let top = firstLeadingBit(size | 1u);
    let magnitude = ((127u + top) << 23u) | ((size << (23u - top)) & 0x7fffffu);
    return select(magnitude, 0u, size == 0u) | select(0u, SIGN, value < 0);
}

// Steps times the scale, rounded to an element once.
fn value_of(steps: i32, of_scale: u32) -> vec2<u32> {
    if BITS >= 32u {
        return vec2(mul_f32(f32_of(steps), of_scale), 0u);
    }
    let negative = (steps < 0) != (of_scale >= SIGN);
    let size = of_scale & MAGNITUDE;
    if size >= F32_INFINITY {
        if steps == 0 {
            return quiet_nan();
        }
        return infinity_of(negative);
    }
    // A short float has at most 11 bits.
    let significand = ((size & 0x7fffffu) | select(0u, 0x800000u, size >= 0x800000u)) >> 13u;
    let product = u32(abs(steps)) * significand;
    if product == 0u {
        return vec2(from_f32(select(0u, SIGN, negative)), 0u);
    }
    let top = firstLeadingBit(product);
    let exponent = i32(max(size >> 23u, 1u)) - 137 + i32(top);
    return round_float(negative, vec2(0u, product << (31u - top)), exponent);
}

// The code of an element, by a scale and a zero point that are f32.
fn quantize(x: vec2<u32>, of_scale: vec2<u32>, zero_point: vec2<u32>, codes: vec4<i32>, at: vec2<u32>) -> vec2<u32> {
    let value = to_f32(x.x);
    if TO_EXPONENT_BITS != 0u {
        return vec2(float_code(value, of_scale.x), 0u);
    }
    if E2M1_CODES {
        return vec2(e2m1_code(value, of_scale.x), 0u);
    }
    let nan_zero = is_nan_f32(zero_point.x);
    let code = code_of(value, of_scale.x, select(zero_point.x, 0u, nan_zero), codes, at);
    var q = code.steps + code.zero;
    if is_nan_f32(value) || is_nan_f32(of_scale.x) || nan_zero {
        q = code.zero;
        if NAN_CODE == NAN_LEAST {
            q = codes.x;
        }
        if NAN_CODE == NAN_GREATEST {
            q = codes.y;
        }
    }
    return vec2(bitcast<u32>(q) & (0xffffffffu >> (32u - min(to_bits(), 32u))), 0u);
}

// The value of a code, by a scale and a zero point that are f32.
fn dequantize(code: vec2<u32>, of_scale: vec2<u32>, zero_point: vec2<u32>, codes: vec4<i32>, at: vec2<u32>) -> vec2<u32> {
    if FLOAT {
        return float_value(to_f32(code.x), of_scale.x);
    }
    if E2M1_CODES {
        return float_value(e2m1_value(code.x), of_scale.x);
    }
    var q = bitcast<i32>(code.x);
    if SIGNED {
        q = bitcast<i32>(code.x << LANE_SHIFT) >> LANE_SHIFT;
    }
    let zero = zero_of(zero_point.x, codes);
    let below = q < zero;
    // Below 2^32: the difference of a code and one of 17 bits.
    let steps = select(bitcast<u32>(q) - bitcast<u32>(zero), bitcast<u32>(zero) - bitcast<u32>(q), below);
    let size = of_scale.x & MAGNITUDE;
    let negative = below != (of_scale.x >= SIGN);
    if is_nan_f32(of_scale.x) || is_nan_f32(zero_point.x) || (size >= F32_INFINITY && steps == 0u) {
        return quiet_nan();
    }
    if size >= F32_INFINITY {
        return infinity_of(negative);
    }
    let significand = (size & 0x7fffffu) | select(0u, 0x800000u, size >= 0x800000u);
    // The product has up to 56 bits: those of the lower half of the steps, and of the upper one, times the significand.
    let low = product_48(steps & 0xffffu, significand);
    let high = product_48(steps >> 16u, significand);
    var product = add64(low, vec2(high.x << 16u, (high.y << 16u) | (high.x >> 16u)));
    if (product.x | product.y) == 0u {
        return vec2(select(0u, 1u, negative) << (to_bits() - 1u), 0u);
    }
    let top = select(firstLeadingBit(product.x), 32u + firstLeadingBit(product.y), product.y != 0u);
    let up = 63u - top;
    if up >= 32u {
        product = vec2(0u, product.x << (up - 32u));
    } else if up > 0u {
        product = vec2(product.x << up, (product.y << up) | (product.x >> (32u - up)));
    }
    return round_float(negative, product, i32(max(size >> 23u, 1u)) - 150 + i32(top));
}

// The product of 16 and 24 bits.
fn product_48(a: u32, b: u32) -> vec2<u32> {
    let low = a * (b & 0xffffu);
    let high = a * (b >> 16u);
    return add64(vec2(low, 0u), vec2(high << 16u, high >> 16u));
}

fn fake_quantize(x: vec4<u32>, scales: vec4<u32>, zero_points: vec4<u32>, codes: vec4<i32>, at: u32) -> vec4<u32> {
    var y = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let operands = vec3(element_of(x, e).x, element_of(scales, e).x, element_of(zero_points, e).x);
        let of_scale = to_f32(operands.y);
        let code = code_of(to_f32(operands.x), of_scale, to_f32(operands.z), codes, vec2(at, e));
        var element = value_of(code.steps, of_scale);
        element.x = select(element.x, operands.x, code.from_x);
        element.x = select(element.x, operands.y, code.from_scale);
        element.x = select(element.x, operands.z, code.from_zero);
        store_element(&y, e, element);
    }
    return y;
}

struct QuantGradients {
    gx: vec4<u32>,
    gscale: vec4<u32>,
    gzero: vec4<u32>,
}

fn fake_quantize_backward(
    x: vec4<u32>,
    g: vec4<u32>,
    scales: vec4<u32>,
    zero_points: vec4<u32>,
    codes: vec4<i32>,
    at: u32,
) -> QuantGradients {
    // A pointer to a field of a struct cannot be passed everywhere.
    var gradients_x = vec4(0u);
    var gradients_scale = vec4(0u);
    var gradients_zero = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        let of_x = to_f32(element_of(x, e).x);
        let of_scale = to_f32(element_of(scales, e).x);
        let code = code_of(of_x, of_scale, to_f32(element_of(zero_points, e).x), codes, vec2(at, e));
        let given = element_of(g, e);
        let upstream = to_f32(given.x);
        var steps = f32_of(code.steps);
        if code.passes {
            steps = add_f32(steps, div_f32(of_x, of_scale) ^ SIGN);
        }
        let none = vec2(0u);
        var gx = select(none, given, vec2(code.passes || (code.nan_x && NAN_PASSES)));
        var gscale = vec2(from_f32(mul_f32(upstream, steps)), 0u);
        var gzero = select(vec2(from_f32(mul_f32(upstream, of_scale ^ SIGN)), 0u), none, vec2(code.passes));
        // The NaN that is the result receives g.
        if code.from_x {
            gscale = none;
            gzero = none;
        }
        if code.from_scale {
            gx = none;
            gscale = given;
            gzero = none;
        }
        if code.from_zero {
            gx = none;
            gscale = none;
            gzero = given;
        }
        store_element(&gradients_x, e, gx);
        store_element(&gradients_scale, e, gscale);
        store_element(&gradients_zero, e, gzero);
    }
    return QuantGradients(gradients_x, gradients_scale, gradients_zero);
}
