// The gradients of x, lo and hi, of the upstream gradient g: the contract is src/reference.rs.
// Gradients are selected, never multiplied by a mask: 0 * inf would be NaN.

@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> g: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> gx: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> glo: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> ghi: array<vec4<u32>>;

const TIES_EXCLUSIVE: u32 = 1u;
const TIES_HALF: u32 = 2u;

struct Grads {
    x: vec4<u32>,
    lo: vec4<u32>,
    hi: vec4<u32>,
}

// The share of v that passes a bound: `beyond` it, tied with it, or neither. `inward`: the descent step
// would move back.
fn through(v: vec4<u32>, beyond: vec4<bool>, tied: vec4<bool>, inward: vec4<bool>) -> vec4<u32> {
    var share = v;
    if TIES == TIES_EXCLUSIVE {
        share = vec4(0u);
    } else if TIES == TIES_HALF {
        share = halve(v);
    }
    let back = vec4(params.toward != 0u) & inward & !is_nan(v);
    return select(select(v, share, tied), select(vec4(0u), v, back), beyond);
}

// The share of v that a bound receives.
fn received(v: vec4<u32>, beyond: vec4<bool>, tied: vec4<bool>) -> vec4<u32> {
    var share = vec4(0u);
    if TIES == TIES_EXCLUSIVE {
        share = v;
    } else if TIES == TIES_HALF {
        share = other_half(v);
    }
    return select(select(vec4(0u), share, tied), v, beyond);
}

fn grad_lanes(v: vec4<u32>, upstream: vec4<u32>, lo: vec4<u32>, hi: vec4<u32>) -> vec4<u32> {
    let zero = vec4(0u);
    // Back through min(t, hi), then through t = max(v, lo). Nothing ties with a bound that is absent.
    let below = less(v, lo);
    let t = select(v, lo, below);
    let ties_hi = vec4(params.has_hi != 0u) & equal(t, hi);
    let ties_lo = vec4(params.has_lo != 0u) & equal(v, lo);
    let to_t = through(upstream, less(hi, t), ties_hi, less(zero, upstream));
    var to_x = through(to_t, below, ties_lo, less(to_t, zero));

    to_x = select(to_x, zero, lo_nan(lo) | hi_nan(hi));
    let of_nan = select(upstream, zero, params.nan_zero != 0u);
    return select(to_x, of_nan, is_nan(v));
}

// What the bounds receive is the chain rule's, whatever x receives outside them.
fn bound_grad_lanes(v: vec4<u32>, upstream: vec4<u32>, lo: vec4<u32>, hi: vec4<u32>) -> Grads {
    let zero = vec4(0u);
    let never = vec4(false);
    let nan = is_nan(v);
    let nan_lo = !nan & lo_nan(lo);
    let nan_hi = !nan & !nan_lo & hi_nan(hi);

    let below = less(v, lo);
    let t = select(v, lo, below);
    let above = less(hi, t);
    let ties_hi = vec4(params.has_hi != 0u) & equal(t, hi);
    let ties_lo = vec4(params.has_lo != 0u) & equal(v, lo);
    var share = upstream;
    if TIES == TIES_EXCLUSIVE {
        share = zero;
    } else if TIES == TIES_HALF {
        share = halve(upstream);
    }
    let to_t = select(select(upstream, share, ties_hi), zero, above);
    var to_hi = received(upstream, above, ties_hi);
    var to_lo = received(to_t, below, ties_lo);

    to_hi = select(select(to_hi, upstream, nan_hi), zero, nan | nan_lo);
    to_lo = select(select(to_lo, upstream, nan_lo), zero, nan | nan_hi);
    return Grads(grad_lanes(v, upstream, lo, hi), to_lo, to_hi);
}

fn grad_block(i: u32, upstream: vec4<u32>) -> vec4<u32> {
    let values = x[i];
    let lo = lo_of(i);
    let hi = hi_of(i);
    var result = vec4(0u);
    for (var s = 0u; s < SLICES; s++) {
        result |= unslice(grad_lanes(slice(values, s), slice(upstream, s), slice(lo, s), slice(hi, s)), s);
    }
    return result;
}

fn bound_grad_block(i: u32) -> Grads {
    let values = x[i];
    let upstream = g[i];
    let lo = lo_of(i);
    let hi = hi_of(i);
    var result = Grads();
    for (var s = 0u; s < SLICES; s++) {
        let part = bound_grad_lanes(slice(values, s), slice(upstream, s), slice(lo, s), slice(hi, s));
        result.x |= unslice(part.x, s);
        result.lo |= unslice(part.lo, s);
        result.hi |= unslice(part.hi, s);
    }
    return result;
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        gx[i] = grad_block(i, g[i]);
    }
}

// gx takes the place of the upstream gradient.
@compute @workgroup_size(WORKGROUP)
fn clip_grad_in_place(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        gx[i] = grad_block(i, gx[i]);
    }
}

// An entry for each choice of bounds, since a buffer that nobody wants would have to be made.
@compute @workgroup_size(WORKGROUP)
fn clip_grad_lo(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        let grads = bound_grad_block(i);
        gx[i] = grads.x;
        glo[i] = grads.lo;
    }
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad_hi(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        let grads = bound_grad_block(i);
        gx[i] = grads.x;
        ghi[i] = grads.hi;
    }
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad_both(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = block_index(id);
    if i < params.blocks {
        let grads = bound_grad_block(i);
        gx[i] = grads.x;
        glo[i] = grads.lo;
        ghi[i] = grads.hi;
    }
}
