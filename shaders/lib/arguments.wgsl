// The arguments of an operation besides its operands, from the parameters of a dispatch.
import package::lib::bounds::Bounds;
import package::lib::constants::BITS;
import package::lib::params::params;
import package::lib::rule::Rule;

// The scalar bounds. Load them before branching: llvmpipe scalarises uniform loads in divergent control flow, which
// dominated the run time.
fn load_bounds() -> Bounds {
    return Bounds(
        splat(params.values[0].xy),
        splat(params.values[1].xy),
        splat(params.clamped_lo.xy),
        params.ranges,
        vec4(params.has_lo != 0u),
        vec4(params.has_hi != 0u),
    );
}

fn load_rule() -> Rule {
    return Rule(vec4(params.toward != 0u), vec4(params.nan_zero != 0u));
}

// A block filled with the element that these words begin with.
fn splat(words: vec2<u32>) -> vec4<u32> {
    if BITS == 64u {
        return words.xyxy;
    }
    return words.xxxx;
}
