// The gradients of x, lo and hi: the twin of reference::clip_backward_bounds.
import package::clip_backward::{Gradients, gradients};
import package::lib::bounds::{Bounds, subword_bounds};
import package::lib::constants::SUBWORDS;
import package::lib::element::{extract_subword, insert_subword};
import package::lib::rule::Rule;

fn clip_backward_bounds(x: vec4<u32>, g: vec4<u32>, bounds: Bounds, rule: Rule) -> Gradients {
    var result: Gradients;
    for (var s = 0u; s < SUBWORDS; s++) {
        let part = gradients(extract_subword(x, s), extract_subword(g, s), subword_bounds(bounds, s), rule);
        result.gx |= insert_subword(part.gx, s);
        result.glo |= insert_subword(part.glo, s);
        result.ghi |= insert_subword(part.ghi, s);
    }
    return result;
}
