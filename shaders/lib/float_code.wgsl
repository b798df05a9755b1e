// Codes that are 8-bit floats, and how quotients are rounded: the twin of reference::quantize_to_float and reference::dequantize_float.
import package::lib::constants::{NAN_CODE, QUOTIENT, TO_MAX_FINITE, TO_QUIET_NAN};
import package::lib::element::{MAGNITUDE, SIGN};
import package::lib::softfloat::{
    F32_INFINITY, F32_ONE, div_f32, infinity_of, is_nan_f32, mul_f32, narrow, normalized, quiet_nan, quotient_digits,
    reciprocal, round_float, to_bits,
};

// The choices of a rule, by their numbers in src/quantize/mod.rs.
const EXACT: u32 = 0u;
const DIVISION: u32 = 1u;
const NAN_STAYS: u32 = 0u;
const NAN_LEAST: u32 = 1u;
const NAN_GREATEST: u32 = 2u;

// x by the divisor, as a rule divides that rounds the quotient to f32.
fn rounded_quotient(x: u32, divisor: u32) -> u32 {
    if QUOTIENT == DIVISION {
        return div_f32(x, divisor);
    }
    return mul_f32(x, div_f32(F32_ONE, divisor));
}

// The code of a number in a type of 8-bit floats.
fn float_code(x: u32, divisor: u32) -> u32 {
    let sign = ((x ^ divisor) >> 31u) << (to_bits() - 1u);
    if is_nan_f32(x) || is_nan_f32(divisor) {
        if NAN_CODE == NAN_STAYS {
            return TO_QUIET_NAN;
        }
        let greatest = select(0u, TO_MAX_FINITE, NAN_CODE == NAN_LEAST || NAN_CODE == NAN_GREATEST);
        return greatest | (select(0u, 1u, NAN_CODE == NAN_LEAST) << (to_bits() - 1u));
    }
    let sizes = vec2(x & MAGNITUDE, divisor & MAGNITUDE);
    if sizes.x >= F32_INFINITY || (sizes.y == 0u && sizes.x != 0u) {
        return sign | TO_MAX_FINITE;
    }
    if sizes.x == 0u || sizes.y >= F32_INFINITY {
        return sign;
    }
    if QUOTIENT != EXACT {
        return sign | narrow(rounded_quotient(sizes.x, sizes.y), TO_MAX_FINITE, TO_MAX_FINITE);
    }
    let parts = normalized(sizes);
    let digits = quotient_digits(parts.v.x, parts.v.y, reciprocal(parts.v.y), 17u);
    // 19 bits, the last of which is sticky.
    let digit_bits = (digits.x << 1u) | select(0u, 1u, digits.y != 0u);
    let top = firstLeadingBit(digit_bits);
    let exponent = parts.exponents.x - parts.exponents.y + i32(top) - 18;
    let code = round_float(false, vec2(0u, digit_bits << (31u - top)), exponent);
    return sign | min(code.x, TO_MAX_FINITE);
}

// The value of a code that is a float: its significand has up to 4 bits as an f32.
fn float_value(code: u32, of_scale: u32) -> vec2<u32> {
    let negative = (code ^ of_scale) >= SIGN;
    let sizes = vec2(code & MAGNITUDE, of_scale & MAGNITUDE);
    let greatest = max(sizes.x, sizes.y);
    let least = min(sizes.x, sizes.y);
    if greatest > F32_INFINITY || (greatest == F32_INFINITY && least == 0u) {
        return quiet_nan();
    }
    if greatest == F32_INFINITY {
        return infinity_of(negative);
    }
    if least == 0u {
        return vec2(select(0u, 1u, negative) << (to_bits() - 1u), 0u);
    }
    let parts = normalized(sizes);
    let product = (parts.v.x >> 20u) * parts.v.y;
    let top = firstLeadingBit(product);
    // As integers the significands have 4 and 24 bits.
    let exponent = parts.exponents.x + parts.exponents.y - 254 - 3 - 23 + i32(top);
    return round_float(negative, vec2(0u, product << (31u - top)), exponent);
}
