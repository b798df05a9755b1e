// Bounds of which one at least is a tensor that broadcasts to x. The other kind is bounds_value.wgsl.

@group(0) @binding(1) var<storage, read> lo_blocks: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> hi_blocks: array<vec4<u32>>;

// How a bound lies beside x: a value; a tensor with an element for each of x, for all, for each row or for each column
// (rows being whole blocks); or any other, by the strides of params.axes.
const LAYOUT_SAME: u32 = 1u;
const LAYOUT_ONE: u32 = 2u;
const LAYOUT_ROWS: u32 = 3u;
const LAYOUT_COLUMNS: u32 = 4u;
const LAYOUT_STRIDED: u32 = 5u;

// The bounds of a block.
struct Bounds {
    lo: vec4<u32>,
    hi: vec4<u32>,
}

fn bounds_of(i: u32) -> Bounds {
    var bounds = Bounds(told.lo, told.hi);
    if LO_LAYOUT == LAYOUT_SAME {
        bounds.lo = lo_blocks[i];
    } else if LO_LAYOUT == LAYOUT_ONE {
        bounds.lo = fill(lo_element(0u));
    } else if LO_LAYOUT == LAYOUT_ROWS {
        bounds.lo = fill(lo_element(row_and_column(i).x));
    } else if LO_LAYOUT == LAYOUT_COLUMNS {
        bounds.lo = lo_blocks[row_and_column(i).y];
    }
    if HI_LAYOUT == LAYOUT_SAME {
        bounds.hi = hi_blocks[i];
    } else if HI_LAYOUT == LAYOUT_ONE {
        bounds.hi = fill(hi_element(0u));
    } else if HI_LAYOUT == LAYOUT_ROWS {
        bounds.hi = fill(hi_element(row_and_column(i).x));
    } else if HI_LAYOUT == LAYOUT_COLUMNS {
        bounds.hi = hi_blocks[row_and_column(i).y];
    }
    if LO_LAYOUT == LAYOUT_STRIDED || HI_LAYOUT == LAYOUT_STRIDED {
        gather(i, &bounds);
    }
    return bounds;
}

// Where a bound is NaN. One that is absent has the bits of a NaN, but is none.
fn lo_nan(lo: vec4<u32>) -> vec4<bool> {
    return told.has_lo & is_nan(lo);
}

fn hi_nan(hi: vec4<u32>) -> vec4<bool> {
    return told.has_hi & is_nan(hi);
}

// Where max(v, lo) is not v, and where min(v, hi) is not v although max(v, lo) is no NaN: the first NaN comes out.
fn raised(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    return (less(v, bounds.lo) | lo_nan(bounds.lo)) & !is_nan(v);
}

fn lowered(v: vec4<u32>, bounds: Bounds) -> vec4<bool> {
    return (less(bounds.hi, v) | hi_nan(bounds.hi)) & !is_nan(v) & !lo_nan(bounds.lo);
}

// min(lo, hi), in the place of what is raised.
fn floor_of(bounds: Bounds, s: u32) -> vec4<u32> {
    return select(bounds.lo, bounds.hi, (less(bounds.hi, bounds.lo) | hi_nan(bounds.hi)) & !lo_nan(bounds.lo));
}

fn lo_element(n: u32) -> vec2<u32> {
    return element_of(lo_blocks[n / (SLICES * LANES)], n % (SLICES * LANES));
}

fn hi_element(n: u32) -> vec2<u32> {
    return element_of(hi_blocks[n / (SLICES * LANES)], n % (SLICES * LANES));
}

// The row of a block, and its place in the row, counted in blocks. An axis is its length, the strides of lo and hi along
// it, and the coordinate at which the dispatch begins.
fn row_and_column(i: u32) -> vec2<u32> {
    let inner = params.axes[1];
    let blocks = inner.x / (SLICES * LANES);
    let n = i + inner.w / (SLICES * LANES);
    return vec2(params.axes[0].w + n / blocks, n % blocks);
}

// Fills in the bounds that are strided, an element at a time.
fn gather(i: u32, bounds: ptr<function, Bounds>) {
    var place = begin(i);
    var lo = vec4(0u);
    var hi = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        if LO_LAYOUT == LAYOUT_STRIDED {
            put(&lo, e, lo_element(place.lo));
        }
        if HI_LAYOUT == LAYOUT_STRIDED {
            put(&hi, e, hi_element(place.hi));
        }
        advance(&place);
    }
    if LO_LAYOUT == LAYOUT_STRIDED {
        (*bounds).lo = lo;
    }
    if HI_LAYOUT == LAYOUT_STRIDED {
        (*bounds).hi = hi;
    }
}

// A place in x, as a coordinate along each axis, and the elements of the bounds that belong to it.
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
