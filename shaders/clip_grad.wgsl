// gx, the gradient that reaches x, of the upstream gradient g: the contract is src/reference.rs.
// Gradients are selected, never multiplied by a mask: 0 * inf would be NaN.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> g: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> gx: array<vec4<u32>>;

const TIES_EXCLUSIVE: u32 = 1u;
const TIES_HALF: u32 = 2u;

// The share of v that passes a bound: `beyond` it, tied with it, or neither. `inward`: the descent step
// would move back.
fn through(v: vec4<u32>, beyond: vec4<bool>, tied: vec4<bool>, inward: vec4<bool>) -> vec4<u32> {
    var share = v;
    if params.ties == TIES_EXCLUSIVE {
        share = vec4(0u);
    } else if params.ties == TIES_HALF {
        share = halve(v);
    }
    let back = vec4(params.toward != 0u) & inward & !is_nan(v);
    return select(select(v, share, tied), select(vec4(0u), v, back), beyond);
}

fn grad_lanes(v: vec4<u32>, upstream: vec4<u32>) -> vec4<u32> {
    let zero = vec4(0u);
    let lo = splat(params.lo);
    let hi = splat(params.hi);

    // Back through min(t, hi), then through t = max(v, lo). Nothing ties with a bound that is absent.
    let below = less(v, lo);
    let t = select(v, lo, below);
    let ties_hi = vec4(params.has_hi != 0u) & equal(t, hi);
    let ties_lo = vec4(params.has_lo != 0u) & equal(v, lo);
    let to_t = through(upstream, less(hi, t), ties_hi, less(zero, upstream));
    let to_x = through(to_t, below, ties_lo, less(to_t, zero));

    let of_nan = select(upstream, zero, params.nan_zero != 0u);
    return select(to_x, of_nan, is_nan(v));
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        let values = x[i];
        let upstream = g[i];
        var result = vec4(0u);
        for (var s = 0u; s < SLICES; s++) {
            result |= unslice(grad_lanes(slice(values, s), slice(upstream, s)), s);
        }
        gx[i] = result;
    }
}
