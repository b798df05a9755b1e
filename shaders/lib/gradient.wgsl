// A gradient: the upstream gradient times a factor of a forward pass, as an integer of up to 96 bits, rounded once.
import package::lib::constants::TO_QUIET_NAN;
import package::lib::element::{MAGNITUDE, SIGN};
import package::lib::softfloat::{F32_INFINITY, round_word, to_bits, to_f32};

// `words` (the low word first) in units of 2^unit, and whether the number is a little larger. The power of two of g's last bit is not in it.
struct Product {
    words: vec3<u32>,
    unit: i32,
    more: bool,
}

// The gradient of an element: `product` is its factor times the significand of g. `zero`: the factor is 0; `is_g`: it is so near to 1 that g is the
// nearest number; `none`: there is no such gradient.
fn product_gradient(of_g: u32, product: Product, zero: bool, is_g: bool, none: bool) -> u32 {
    let g = to_f32(of_g);
    let size = g & MAGNITUDE;
    let infinite = size == F32_INFINITY;
    let near = round_product(g >= SIGN, product, i32(max(size >> 23u, 1u)) - 150);
    let chosen = select(near, of_g, is_g | infinite);
    let of_sign = (g >> 31u) << (to_bits() - 1u);
    let finite = select(chosen, of_sign, (size == 0u) | (zero & !infinite));
    return select(finite, TO_QUIET_NAN, none | (size > F32_INFINITY) | (zero & infinite));
}

fn round_product(negative: bool, product: Product, exponent: i32) -> u32 {
    // The upper words that are not zero.
    let v = product.words;
    let one = v.z == 0u;
    let two = one & (v.y == 0u);
    let top = select(select(v.zyx, vec3(v.yx, 0u), vec3(one)), vec3(v.x, 0u, 0u), vec3(two));
    let up = countLeadingZeros(top.x) & 31u;
    let word = (top.x << up) | ((top.y >> 1u) >> (31u - up));
    let below = ((top.y << up) | top.z) != 0u;
    let sticky = (word & 1u) | select(0u, 1u, below | product.more);
    let skipped = select(select(0, 32, one), 64, two);
    return round_word(negative, (word >> 1u) | sticky, product.unit + exponent + 95 - i32(up) - skipped);
}

// Of a finite number, the integer that times a power of two is its magnitude.
fn significand_of(size: u32) -> u32 {
    let magnitude = size & MAGNITUDE;
    return (magnitude & 0x7fffffu) | select(0u, 0x800000u, magnitude >= 0x800000u);
}
