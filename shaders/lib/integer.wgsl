// Products and shifts of more than a word, from what WGSL has: words, and products modulo 2^32. Numbers of 64 bits are two words, low word first.

// The product of two words: its low and its high one.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let halves_a = vec2(a & 0xffffu, a >> 16u);
    let halves_b = vec2(b & 0xffffu, b >> 16u);
    let low = halves_a.x * halves_b.x;
    let cross = vec2(halves_a.x * halves_b.y, halves_a.y * halves_b.x);
    let middle = (low >> 16u) + (cross.x & 0xffffu) + (cross.y & 0xffffu);
    let high = halves_a.y * halves_b.y + (cross.x >> 16u) + (cross.y >> 16u) + (middle >> 16u);
    return vec2(a * b, high);
}

// The high word of the product.
fn high_product(a: u32, b: u32) -> u32 {
    return wide_product(a, b).y;
}

// A number shifted right by up to 63 bits, truncated.
fn shifted_right(v: vec2<u32>, n: u32) -> vec2<u32> {
    let words = select(v, vec2(v.y, 0u), n >= 32u);
    let bits = n & 31u;
    // Not by 32, which WGSL does not define.
    return vec2((words.x >> bits) | ((words.y << 1u) << (31u - bits)), words.y >> bits);
}

// A number shifted left by less than 32 bits.
fn shifted_left(v: vec2<u32>, n: u32) -> vec2<u32> {
    return vec2(v.x << n, (v.y << n) | ((v.x >> 1u) >> (31u - n)));
}
