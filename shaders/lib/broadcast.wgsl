// Maps a block of x to the elements of broadcast inputs. An axis of x is its length and the coordinate at which the dispatch
// begins; its strides are those of up to four inputs. src/wgsl/broadcast.rs generates the code that reads the inputs.
import package::lib::constants::{LANES_PER_SUBWORD, SUBWORDS};
import package::lib::params::params;

// The row of a block, and its position in the row, counted in blocks.
fn row_and_column(i: u32) -> vec2<u32> {
    let inner = params.axes[1];
    let blocks = inner.x / (SUBWORDS * LANES_PER_SUBWORD);
    let n = i + inner.y / (SUBWORDS * LANES_PER_SUBWORD);
    return vec2(params.axes[0].y + n / blocks, n % blocks);
}

// A position in x, as a coordinate along each axis, and the corresponding element of each input.
struct Position {
    at: array<u32, 8>,
    elements: vec4<u32>,
}

// The position of the first element of block i.
fn begin(i: u32) -> Position {
    var position: Position;
    var rest = i * SUBWORDS * LANES_PER_SUBWORD;
    var carry = 0u;
    for (var a = params.rank; a > 0u; a--) {
        let axis = params.axes[a - 1u];
        var at = axis.y + rest % axis.x + carry;
        rest = rest / axis.x;
        carry = select(0u, 1u, at >= axis.x);
        at -= carry * axis.x;
        position.at[a - 1u] = at;
        position.elements += vec4(at) * params.strides[a - 1u];
    }
    return position;
}

// Advances to the next element. Wraps to the first element so the tail never reads out of bounds.
fn advance(position: ptr<function, Position>) {
    for (var a = params.rank; a > 0u; a--) {
        let length = params.axes[a - 1u].x;
        let strides = params.strides[a - 1u];
        (*position).at[a - 1u] += 1u;
        (*position).elements += strides;
        if (*position).at[a - 1u] < length {
            return;
        }
        (*position).at[a - 1u] = 0u;
        (*position).elements -= vec4(length) * strides;
    }
}
