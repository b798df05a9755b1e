// 4-bit codes, two a byte: the twin of reference::pack4 and reference::unpack4.

// A pair of codes, each in a byte, in one byte: the first in the low bits.
fn pack4(pair: vec2<u32>, codes: vec4<i32>, at: vec2<u32>) -> vec2<u32> {
    return vec2((pair.x & 0xfu) | ((pair.x >> 4u) & 0xf0u), 0u);
}

// The reverse. Codes are integers with a sign if the least one is below 0.
fn unpack4(packed: vec2<u32>, codes: vec4<i32>, at: vec2<u32>) -> vec2<u32> {
    let pair = (packed.x & 0xfu) | ((packed.x & 0xf0u) << 4u);
    let sign = select(0u, 0x808u, codes.x < 0);
    // Each sign, in the four bits above it.
    return vec2(pair | ((pair & sign) * 0x1eu), 0u);
}
