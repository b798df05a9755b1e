// Random numbers by their index: Philox4x32-10, the twin of reference::philox.

// The product of two words: its low and its high one.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let halves_a = vec2(a & 0xffffu, a >> 16u);
    let halves_b = vec2(b & 0xffffu, b >> 16u);
    let low = halves_a.x * halves_b.x;
    let cross = vec2(halves_a.x * halves_b.y, halves_a.y * halves_b.x);
    let middle = (low >> 16u) + (cross.x & 0xffffu) + (cross.y & 0xffffu);
    let high = halves_a.y * halves_b.y + (cross.x >> 16u) + (cross.y >> 16u) + (middle >> 16u);
    return vec2((middle << 16u) | (low & 0xffffu), high);
}

fn philox(index: vec2<u32>, seed: vec2<u32>) -> u32 {
    var counter = vec4(index, 0u, 0u);
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let first = wide_product(0xd2511f53u, counter.x);
        let second = wide_product(0xcd9e8d57u, counter.z);
        counter = vec4(second.y ^ counter.y ^ key.x, second.x, first.y ^ counter.w ^ key.y, first.x);
        key += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter.x;
}
