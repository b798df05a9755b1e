// The gradient of x by a mask: g where the bit is set, else zero. The lowest bits of `mask` are those of the block.
import package::lib::constants::{LANES_PER_SUBWORD, SUBWORDS};
import package::lib::element::{extract_subword, insert_subword};
import package::lib::mask::unpack;

fn mask_backward(mask: u32, g: vec4<u32>) -> vec4<u32> {
    var gx = vec4(0u);
    for (var s = 0u; s < SUBWORDS; s++) {
        let part = select(vec4(0u), extract_subword(g, s), unpack(mask >> (s * LANES_PER_SUBWORD)));
        gx |= insert_subword(part, s);
    }
    return gx;
}
