// exp of how far an f32 is below another, as an integer of 32 bits, halved: the twin of reference::softmax's exponentials.
import package::lib::element::{MAGNITUDE, SIGN};
import package::lib::exponential::entry;
import package::lib::integer::high_product;
import package::lib::softfloat::sub64;

// An f32 below 2^31 in units of 2^-32, truncated.
fn units_of(v: u32) -> vec2<u32> {
    let size = v & MAGNITUDE;
    let significand = (size & 0x7fffffu) | select(0u, 0x800000u, size >= 0x800000u);
    // The significand's last bit is 2^(exponent - 150).
    let up = i32(size >> 23u) - 118;
    let left = u32(max(up, 0)) & 31u;
    let words = vec2(significand << left, (significand >> 1u) >> (31u - left));
    let raised = select(words, vec2(0u, significand << left), up >= 32);
    let units = vec2(select(raised.x, raised.x >> u32(clamp(-up, 0, 31)), up < 0), raised.y);
    let negative = vec2(0u - units.x, ~units.y + select(0u, 1u, units.x == 0u));
    return select(units, negative, v >= SIGN);
}

// exp(x - greatest): a number in units of 2^-32, and how often it is halved.
fn exp_below(v: u32, greatest: u32, units: vec2<u32>) -> vec2<u32> {
    // No further than 128: there it rounds to 0. Beyond 2^31 elements that differ are as far apart as that.
    let apart = sub64(units, units_of(v));
    let large = max(v & MAGNITUDE, greatest & MAGNITUDE) >= 0x4f000000u;
    let far = select(apart.y >= 128u, v != greatest, large);
    let near = select(apart, vec2(0u), large);
    let distance = select(near, vec2(0u, 128u), far);
    // Multiples of ln 2, or one less: 23637 is 2^14 / ln 2.
    let halvings = (((distance.x >> 25u) | (distance.y << 7u)) * 23637u) >> 21u;
    // Their product with ln 2 in units of 2^-40, and what remains in units of 2^-32.
    let low = halvings * 0x17f7d2u;
    let high = halvings * 0xb172u + (low >> 24u);
    let product = vec2((low & 0xffffffu) | (high << 24u), high >> 8u);
    let rest = sub64(vec2(distance.x << 8u, (distance.y << 8u) | (distance.x >> 24u)), product);
    return vec2(exp_of_remainder((rest.x >> 8u) | (rest.y << 24u)), halvings);
}

// exp(-r) in units of 2^-32, for r in the same units and up to 0.702.
fn exp_of_remainder(r: u32) -> u32 {
    let s = r & 0xffffffu;
    // 1 - exp(-s) = s - s^2/2 + s^3/6: 10923 is 2^16 / 6.
    let short = s >> 8u;
    let square = short * short;
    let cube = ((square >> 16u) * short) >> 16u;
    let loss = s - (square >> 17u) + ((cube * 10923u) >> 24u);
    // 1 - (1 - a) (1 - b) = a + b - a b.
    let of_256ths = loss_of_256ths((r >> 24u) & 15u);
    let power = short_power_of_16ths(r >> 28u);
    return power - high_product(power, of_256ths + loss - high_product(of_256ths, loss));
}

// exp(-n / 16) in units of 2^-32, for n below 12; 1 is one unit less.
fn short_power_of_16ths(n: u32) -> u32 {
    return entry(
        n,
        vec4(0xffffffffu, 0xf07d5fdeu, 0xe1eb5127u, 0xd43b4096u),
        vec4(0xc75f7cf5u, 0xbb4b2970u, 0xaff230afu, 0xa54938cau),
        vec4(0x9b4597e3u, 0x91dd4986u, 0x8906e49au, 0x80b991ffu),
        vec4(0u),
    );
}

// 1 - exp(-n / 256) in units of 2^-32, for n below 16.
fn loss_of_256ths(n: u32) -> u32 {
    return entry(
        n,
        vec4(0u, 0x00ff802bu, 0x01fe0155u, 0x02fb847du),
        vec4(0x03f80aa0u, 0x04f394bbu, 0x05ee23cau, 0x06e7b8c7u),
        vec4(0x07e054acu, 0x08d7f871u, 0x09cea50du, 0x0ac45b78u),
        vec4(0x0bb91ca8u, 0x0cace991u, 0x0d9fc326u, 0x0e91aa5bu),
    );
}
