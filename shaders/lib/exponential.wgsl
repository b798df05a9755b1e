// exp(-t), and quotients that are rounded once, in integers of 32 bits: what tanh and sigmoid are made of. No input of theirs is nearer to the
// midpoint of two f32 than the errors here let it be (docs/activations.md), so that nothing is ever computed again with more bits.
import package::lib::integer::{high_product, shifted_left, shifted_right, wide_product};
import package::lib::softfloat::{add64, sub64};

// ln 2 / 256 in units of 2^-88, as limbs of 16 bits: the product of a limb with a number below 2^16, and a carry, fit a word.
const LN2_LIMBS = array<u32, 5>(51684u, 31147u, 53711u, 6135u, 45426u);

// exp(-t) is `value` in units of 2^-64, times 2^-halvings. The value lies between a little less than 1/2 and 1.
struct Exponential {
    value: vec2<u32>,
    halvings: u32,
}

// For t = significand * 2^exponent, a significand of 24 bits, from 2^-17 to 110. To 2^-58.
fn exp_minus(significand: u32, exponent: i32) -> Exponential {
    // How many 256ths of ln 2 t has, or one less. 47274 is 2^7 * 256 / ln 2.
    let product = (significand >> 8u) * 47274u + (((significand & 255u) * 47274u) >> 8u);
    let k = (product >> 1u) >> u32(clamp(-2 - exponent, 0, 31));
    // The rest, in units of 2^-72. It is below 2^-8, so that whole multiples of that may be lost on the way.
    let t = vec2(0u, significand << (u32(40 + exponent) & 31u));
    let s0 = k * LN2_LIMBS[0];
    let s1 = k * LN2_LIMBS[1] + (s0 >> 16u);
    let s2 = k * LN2_LIMBS[2] + (s1 >> 16u);
    let s3 = k * LN2_LIMBS[3] + (s2 >> 16u);
    let s4 = k * LN2_LIMBS[4] + (s3 >> 16u);
    let r = sub64(t, vec2((s2 << 16u) | (s1 & 0xffffu), (s4 << 16u) | (s3 & 0xffffu)));
    // 1 - exp(-r) = r - v + v * w: v is half the square in units of 2^-81, w = r/3 - r^2/12 + r^3/60 - r^4/360 in units of 2^-41.
    let short = r.y >> 16u;
    let cross = short * (r.x >> 16u);
    let v = add64(wide_product(r.y, r.y), vec2(cross << 1u, cross >> 31u));
    let b = 2863311531u - ((short * (34953u - ((short * 11u) >> 15u))) >> 10u);
    let a = 2863311530u - (high_product(r.y, b) >> 10u);
    let w = high_product(r.y, a);
    let vw = add64(wide_product(v.y, w), vec2((v.x >> 16u) * (w >> 16u), 0u));
    let lost = sub64(r, shifted_right(sub64(v, shifted_right(vw, 9u)), 9u));
    let power = power_of_two(k & 255u);
    return Exponential(sub64(power, shifted_right(product64(power, lost), 8u)), k >> 8u);
}

// The upper 64 bits of the product of two numbers of 64 bits, or up to 3 less.
fn product64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let crosses = add64(vec2(high_product(a.x, b.y), 0u), vec2(high_product(a.y, b.x), 0u));
    return add64(wide_product(a.y, b.y), crosses);
}

// 2^(-n/256) in units of 2^-64, for n below 256: a product of two of 16 numbers. They are chosen by selects, since an array of constants with an index
// costs a driver a copy of it (SwiftShader: three times this function's users), and a table in a buffer costs a binding.
fn power_of_two(n: u32) -> vec2<u32> {
    return product64(power_of_16ths(n >> 4u), power_of_256ths(n & 15u));
}

// 2^(-n/16), for n below 16. 1 is one unit less.
fn power_of_16ths(n: u32) -> vec2<u32> {
    return vec2(
        entry(
            n,
            vec4(0xffffffffu, 0x2486cc2cu, 0xdd24392fu, 0x2a94e111u),
            vec4(0xd69d6af4u, 0x1f8480e4u, 0x5506daddu, 0x580c36bfu),
            vec4(0xf9de6484u, 0x42a14ac6u, 0xb15138eau, 0x91a111aeu),
            vec4(0x8db8a96fu, 0xab11c336u, 0xea8bd6e7u, 0xcc487b15u),
        ),
        entry(
            n,
            vec4(0xffffffffu, 0xf5257d15u, 0xeac0c6e7u, 0xe0ccdeecu),
            vec4(0xd744fccau, 0xce248c15u, 0xc5672a11u, 0xbd08a39fu),
            vec4(0xb504f333u, 0xad583eeau, 0xa5fed6a9u, 0x9ef53260u),
            vec4(0x9837f051u, 0x91c3d373u, 0x8b95c1e3u, 0x85aac367u),
        ),
    );
}

// 2^(-n/256), for n below 16.
fn power_of_256ths(n: u32) -> vec2<u32> {
    return vec2(
        entry(
            n,
            vec4(0xffffffffu, 0x511ec8a5u, 0x7b8f884cu, 0x96a89f35u),
            vec4(0xf486c175u, 0x21e447bbu, 0xe5f09c49u, 0x4227c3f4u),
            vec4(0x722a033au, 0xeb939f35u, 0x5dd4ba74u, 0xb2094d9cu),
            vec4(0x0ad13bb9u, 0xc4288239u, 0x733f846eu, 0xe6537290u),
        ),
        entry(
            n,
            vec4(0xffffffffu, 0xff4ecb59u, 0xfe9e115cu, 0xfdedd1b4u),
            vec4(0xfd3e0c0cu, 0xfc8ec011u, 0xfbdfed6cu, 0xfb3193ccu),
            vec4(0xfa83b2dbu, 0xf9d64a46u, 0xf92959bbu, 0xf87ce0e5u),
            vec4(0xf7d0df73u, 0xf7255510u, 0xf67a416cu, 0xf5cfa433u),
        ),
    );
}

// One of 16 words.
fn entry(n: u32, first: vec4<u32>, second: vec4<u32>, third: vec4<u32>, fourth: vec4<u32>) -> u32 {
    let lower = select(first, second, vec4((n & 4u) != 0u));
    let upper = select(third, fourth, vec4((n & 4u) != 0u));
    let row = select(lower, upper, vec4((n & 8u) != 0u));
    let pair = select(row.xy, row.zw, vec2((n & 2u) != 0u));
    return select(pair.x, pair.y, (n & 1u) != 0u);
}

// 2^63 by d, a number from 2^31 to 2^32, to some 28 bits: a cubic to 9 bits, and two steps of Newton's method.
fn near_reciprocal(d: u32) -> u32 {
    let top = d >> 16u;
    let f = top - 32768u;
    let first = min(65422u - ((f * (61788u - ((f * (43615u - ((f * 14538u) >> 15u))) >> 15u))) >> 15u), 65535u);
    let lacks = bitcast<i32>(0x80000000u - top * first);
    let second = bitcast<u32>(bitcast<i32>(first << 16u) + ((i32(first) * (lacks >> 9u)) >> 6u)) >> 16u;
    let rest = bitcast<i32>(0x80000000u - (top * second + (((d & 0xffffu) * second) >> 16u)));
    return bitcast<u32>(bitcast<i32>(second << 16u) + ((i32(second) * (rest >> 4u)) >> 11u));
}

// A quotient: its first bits, the leading one at 30 (or the number is just below a power of two), the last one sticky; and the exponent of bit 30.
struct Quotient {
    word: u32,
    exponent: i32,
}

// n / d, for n in units of 2^-64 with its leading bit at 63, and d in units of 2^-61, from 1 to 2. No such quotient may have fewer than 26 bits.
fn quotient_word(n: vec2<u32>, d: vec2<u32>) -> Quotient {
    let near = high_product(n.y, near_reciprocal((d.y << 2u) | (d.x >> 30u)));
    // 25 bits, which are right or off by one: the remainder says so. It is small, so that 64 bits of it are enough.
    let dropped = select(7u, 6u, near < 0x80000000u);
    let digits = near >> dropped;
    var product = wide_product(digits, d.x);
    product.y += digits * d.y;
    let rest = sub64(shifted_left(n, 29u - dropped), product);
    let more = (rest.y < 0x80000000u) & ((rest.y > d.y) | ((rest.y == d.y) & (rest.x >= d.x)));
    let exact = digits + select(0u, 1u, more) - (rest.y >> 31u);
    return Quotient((exact << 6u) | 1u, i32(dropped) - 8);
}
