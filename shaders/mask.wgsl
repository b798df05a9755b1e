// How the bits of a saved mask lie: a word has those of MASKED blocks. The blocks of a word are a workgroup
// apart, so that neighbouring invocations read neighbouring blocks and write neighbouring words.

// Block n of a word.
fn masked_block(word: u32, n: u32) -> u32 {
    return block_of(word, n, MASKED);
}

// What is decided of the elements of a slice, a bit each.
fn pack(decided: vec4<bool>) -> u32 {
    let bits = select(vec4(0u), vec4(1u, 2u, 4u, 8u), decided);
    if LANES == 2u {
        return bits.x | (bits.w >> 2u);
    }
    return bits.x | bits.y | bits.z | bits.w;
}

// The same, from bits to elements.
fn unpack(bits: u32) -> vec4<bool> {
    if LANES == 2u {
        return both((vec2(bits) & vec2(1u, 2u)) != vec2(0u));
    }
    return (vec4(bits) & vec4(1u, 2u, 4u, 8u)) != vec4(0u);
}
