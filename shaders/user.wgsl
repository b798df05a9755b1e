// What wgclip::wgsl offers to kernels of other programs: clips between blocks of bounds that are both there.
import package::clip::clip;
import package::clip_backward::clip_backward;
import package::lib::bounds::Bounds;

fn user_bounds(lo: vec4<u32>, hi: vec4<u32>) -> Bounds {
    return Bounds(lo, hi, lo, vec4(0u), vec4(true), vec4(true));
}

fn clip_block(x: vec4<u32>, lo: vec4<u32>, hi: vec4<u32>) -> vec4<u32> {
    return clip(x, user_bounds(lo, hi));
}

// user_rule() is written by wgclip::wgsl.
fn clip_backward_block(x: vec4<u32>, g: vec4<u32>, lo: vec4<u32>, hi: vec4<u32>) -> vec4<u32> {
    return clip_backward(x, g, user_bounds(lo, hi), user_rule());
}
