// Random numbers by their index: Philox4x32-10, the twin of reference::philox.
import package::lib::integer::wide_product;

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
