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

// The share of the gradient of a tie that the tensor side keeps.
fn kept(v: vec4<u32>) -> vec4<u32> {
    if TIES == TIES_EXCLUSIVE {
        return vec4(0u);
    }
    if TIES == TIES_HALF {
        return halve(v);
    }
    return v;
}

// The share that the bound gets.
fn given(v: vec4<u32>) -> vec4<u32> {
    if TIES == TIES_EXCLUSIVE {
        return v;
    }
    if TIES == TIES_HALF {
        return other_half(v);
    }
    return vec4(0u);
}

// What x receives beyond a bound. `inward`: the descent step would move back.
fn outside(v: vec4<u32>, inward: vec4<bool>) -> vec4<u32> {
    return select(vec4(0u), v, told.toward & inward & !is_nan(v));
}

// All three gradients of a slice. An entry that does not want one leaves it to the compiler to drop.
fn grad_lanes(v: vec4<u32>, upstream: vec4<u32>, lo: vec4<u32>, hi: vec4<u32>) -> Grads {
    let zero = vec4(0u);
    // Back through min(t, hi), then through t = max(v, lo). Nothing ties with a bound that is absent.
    let below = less(v, lo);
    let t = select(v, lo, below);
    let above = less(hi, t);
    let ties_hi = told.has_hi & equal(t, hi);
    let ties_lo = told.has_lo & equal(v, lo);
    let inside = select(upstream, kept(upstream), ties_hi);

    let to_t = select(inside, outside(upstream, less(zero, upstream)), above);
    var to_x = select(select(to_t, kept(to_t), ties_lo), outside(to_t, less(to_t, zero)), below);
    // What the bounds receive is the chain rule's, whatever x receives beyond them.
    let rest = select(inside, zero, above);
    var to_lo = select(select(zero, given(rest), ties_lo), rest, below);
    var to_hi = select(select(zero, given(upstream), ties_hi), upstream, above);

    // The first NaN supplied the output.
    let nan_lo = lo_nan(lo);
    let nan_hi = hi_nan(hi) & !nan_lo;
    to_x = select(to_x, zero, nan_lo | nan_hi);
    to_lo = select(select(to_lo, zero, nan_hi), upstream, nan_lo);
    to_hi = select(select(to_hi, zero, nan_lo), upstream, nan_hi);
    let nan = is_nan(v);
    let of_nan = select(upstream, zero, told.nan_zero);
    return Grads(select(to_x, of_nan, nan), select(to_lo, zero, nan), select(to_hi, zero, nan));
}

// The gradients of block i, of which `upstream` reaches y.
fn grads_of(i: u32, upstream: vec4<u32>) -> Grads {
    let values = x[i];
    let bounds = bounds_of(i);
    var result: Grads;
    for (var s = 0u; s < SLICES; s++) {
        let part = grad_lanes(slice(values, s), slice(upstream, s), slice(bounds.lo, s), slice(bounds.hi, s));
        result.x |= unslice(part.x, s);
        result.lo |= unslice(part.lo, s);
        result.hi |= unslice(part.hi, s);
    }
    return result;
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            gx[i] = grads_of(i, g[i]).x;
        }
    }
}

// gx takes the place of the upstream gradient.
@compute @workgroup_size(WORKGROUP)
fn clip_grad_in_place(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            gx[i] = grads_of(i, gx[i]).x;
        }
    }
}

// An entry for each choice of bounds, since a buffer that nobody wants would have to be made.
@compute @workgroup_size(WORKGROUP)
fn clip_grad_lo(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            let grads = grads_of(i, g[i]);
            gx[i] = grads.x;
            glo[i] = grads.lo;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad_hi(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            let grads = grads_of(i, g[i]);
            gx[i] = grads.x;
            ghi[i] = grads.hi;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn clip_grad_both(@builtin(global_invocation_id) id: vec3<u32>) {
    tell();
    let invocation = block_index(id);
    let blocks = params.blocks;
    for (var n = 0u; n < EACH; n++) {
        let i = block_of(invocation, n, EACH);
        if i < blocks {
            let grads = grads_of(i, g[i]);
            gx[i] = grads.x;
            glo[i] = grads.lo;
            ghi[i] = grads.hi;
        }
    }
}
