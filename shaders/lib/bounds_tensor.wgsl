// Bounds of which one at least is a tensor that broadcasts to x.
import package::lib::bounds::Bounds;
import package::lib::constants::{
    HI_LAYOUT, LANES_PER_SUBWORD, LAYOUT_COLUMNS, LAYOUT_ONE, LAYOUT_ROWS, LAYOUT_SAME, LAYOUT_STRIDED, LO_LAYOUT,
    SUBWORDS,
};
import package::lib::element::{element_of, splat_element, store_element};
import package::lib::params::params;

@group(0) @binding(1) var<storage, read> lo_blocks: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> hi_blocks: array<vec4<u32>>;

// The bounds of block i: where they are values, those that were loaded.
fn bounds_at(i: u32, loaded: Bounds) -> Bounds {
    var bounds = loaded;
    if LO_LAYOUT == LAYOUT_SAME {
        bounds.lo = lo_blocks[i];
    } else if LO_LAYOUT == LAYOUT_ONE {
        bounds.lo = splat_element(lo_element(0u));
    } else if LO_LAYOUT == LAYOUT_ROWS {
        bounds.lo = splat_element(lo_element(row_and_column(i).x));
    } else if LO_LAYOUT == LAYOUT_COLUMNS {
        bounds.lo = lo_blocks[row_and_column(i).y];
    }
    if HI_LAYOUT == LAYOUT_SAME {
        bounds.hi = hi_blocks[i];
    } else if HI_LAYOUT == LAYOUT_ONE {
        bounds.hi = splat_element(hi_element(0u));
    } else if HI_LAYOUT == LAYOUT_ROWS {
        bounds.hi = splat_element(hi_element(row_and_column(i).x));
    } else if HI_LAYOUT == LAYOUT_COLUMNS {
        bounds.hi = hi_blocks[row_and_column(i).y];
    }
    if LO_LAYOUT == LAYOUT_STRIDED || HI_LAYOUT == LAYOUT_STRIDED {
        gather(i, &bounds);
    }
    return bounds;
}

fn lo_element(n: u32) -> vec2<u32> {
    return element_of(lo_blocks[n / (SUBWORDS * LANES_PER_SUBWORD)], n % (SUBWORDS * LANES_PER_SUBWORD));
}

fn hi_element(n: u32) -> vec2<u32> {
    return element_of(hi_blocks[n / (SUBWORDS * LANES_PER_SUBWORD)], n % (SUBWORDS * LANES_PER_SUBWORD));
}

// The row of a block, and its position in the row, counted in blocks. An axis is its length, the strides of lo and hi along
// it, and the coordinate at which the dispatch begins.
fn row_and_column(i: u32) -> vec2<u32> {
    let inner = params.axes[1];
    let blocks = inner.x / (SUBWORDS * LANES_PER_SUBWORD);
    let n = i + inner.w / (SUBWORDS * LANES_PER_SUBWORD);
    return vec2(params.axes[0].w + n / blocks, n % blocks);
}

// Fills in the bounds that are strided, an element at a time.
fn gather(i: u32, bounds: ptr<function, Bounds>) {
    var position = begin(i);
    var lo = vec4(0u);
    var hi = vec4(0u);
    for (var e = 0u; e < params.elements; e++) {
        if LO_LAYOUT == LAYOUT_STRIDED {
            store_element(&lo, e, lo_element(position.lo));
        }
        if HI_LAYOUT == LAYOUT_STRIDED {
            store_element(&hi, e, hi_element(position.hi));
        }
        advance(&position);
    }
    if LO_LAYOUT == LAYOUT_STRIDED {
        (*bounds).lo = lo;
    }
    if HI_LAYOUT == LAYOUT_STRIDED {
        (*bounds).hi = hi;
    }
}

// A position in x, as a coordinate along each axis, and the elements of the bounds that belong to it.
struct Position {
    at: array<u32, 8>,
    lo: u32,
    hi: u32,
}

// The position of the first element of block i.
fn begin(i: u32) -> Position {
    var position: Position;
    var rest = i * SUBWORDS * LANES_PER_SUBWORD;
    var carry = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        var at = axis.w + rest % axis.x + carry;
        rest = rest / axis.x;
        carry = select(0u, 1u, at >= axis.x);
        at -= carry * axis.x;
        position.at[a - 1u] = at;
        position.lo += at * axis.y;
        position.hi += at * axis.z;
    }
    return position;
}

// On to the next element. Wraps to the first element so the tail never reads out of bounds.
fn advance(position: ptr<function, Position>) {
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        (*position).at[a - 1u] += 1u;
        (*position).lo += axis.y;
        (*position).hi += axis.z;
        if (*position).at[a - 1u] < axis.x {
            return;
        }
        (*position).at[a - 1u] = 0u;
        (*position).lo -= axis.x * axis.y;
        (*position).hi -= axis.x * axis.z;
    }
}
