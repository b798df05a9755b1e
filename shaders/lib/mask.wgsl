// The bits of a mask. A word holds those of BLOCKS_PER_MASK_WORD blocks, which are spaced by a workgroup, so that
// adjacent invocations read adjacent blocks and write adjacent words.
import package::lib::constants::LANES_PER_SUBWORD;
import package::lib::element::broadcast_pair;

// The decisions for the elements of a subword, one bit each.
fn pack(decided: vec4<bool>) -> u32 {
    let bits = select(vec4(0u), vec4(1u, 2u, 4u, 8u), decided);
    if LANES_PER_SUBWORD == 2u {
        return bits.x | (bits.w >> 2u);
    }
    return bits.x | bits.y | bits.z | bits.w;
}

// The reverse, from bits to elements.
fn unpack(bits: u32) -> vec4<bool> {
    if LANES_PER_SUBWORD == 2u {
        return broadcast_pair((vec2(bits) & vec2(1u, 2u)) != vec2(0u));
    }
    return (vec4(bits) & vec4(1u, 2u, 4u, 8u)) != vec4(0u);
}
