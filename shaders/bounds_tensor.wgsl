// Bounds of which one at least is a tensor that broadcasts to x. The other kind is bounds_value.wgsl.

@group(0) @binding(1) var<storage, read> lo_blocks: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> hi_blocks: array<vec4<u32>>;

// How a bound lies beside x: one value for all, an element for each, or by the strides of params.axes.
const LAYOUT_VALUE: u32 = 0u;
const LAYOUT_SAME: u32 = 1u;

// The bounds of block i.
fn lo_of(i: u32) -> vec4<u32> {
    if LO_LAYOUT == LAYOUT_VALUE {
        return params.lo;
    }
    if LO_LAYOUT == LAYOUT_SAME {
        return lo_blocks[i];
    }
    var place = begin(i);
    var block = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        put(&block, e, element_of(lo_blocks[place.lo / (SLICES * LANES)], place.lo % (SLICES * LANES)));
        advance(&place);
    }
    return block;
}

fn hi_of(i: u32) -> vec4<u32> {
    if HI_LAYOUT == LAYOUT_VALUE {
        return params.hi;
    }
    if HI_LAYOUT == LAYOUT_SAME {
        return hi_blocks[i];
    }
    var place = begin(i);
    var block = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        put(&block, e, element_of(hi_blocks[place.hi / (SLICES * LANES)], place.hi % (SLICES * LANES)));
        advance(&place);
    }
    return block;
}

// Where a bound is NaN. One that is absent has the bits of a NaN, but is none.
fn lo_nan(lo: vec4<u32>) -> vec4<bool> {
    return vec4(params.has_lo != 0u) & is_nan(lo);
}

fn hi_nan(hi: vec4<u32>) -> vec4<bool> {
    return vec4(params.has_hi != 0u) & is_nan(hi);
}

// A place in x, as a coordinate along each axis, and the elements of the bounds that belong to it.
// An axis is its length, the strides of lo and hi along it, and the coordinate at which the dispatch begins.
struct Place {
    at: array<u32, 8>,
    lo: u32,
    hi: u32,
}

// The place of the first element of block i.
fn begin(i: u32) -> Place {
    var place: Place;
    var rest = i * SLICES * LANES;
    var carry = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        var at = axis.w + rest % axis.x + carry;
        rest = rest / axis.x;
        carry = select(0u, 1u, at >= axis.x);
        at -= carry * axis.x;
        place.at[a - 1u] = at;
        place.lo += at * axis.y;
        place.hi += at * axis.z;
    }
    return place;
}

// On to the next element. Behind the last one comes the first, so that nothing beyond a bound is read.
fn advance(place: ptr<function, Place>) {
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        (*place).at[a - 1u] += 1u;
        (*place).lo += axis.y;
        (*place).hi += axis.z;
        if (*place).at[a - 1u] < axis.x {
            return;
        }
        (*place).at[a - 1u] = 0u;
        (*place).lo -= axis.x * axis.y;
        (*place).hi -= axis.x * axis.z;
    }
}
