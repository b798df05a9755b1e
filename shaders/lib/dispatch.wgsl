// The block that an invocation works on.
import package::lib::constants::WORKGROUP;
import package::lib::params::params;

// Workgroups are folded into rows, since their number along a dimension is limited.
fn invocation_index(id: vec3<u32>) -> u32 {
    return id.y * params.stride + id.x;
}

// Block n of an invocation that works on `count`: they are spaced by a workgroup, so that adjacent invocations work on
// adjacent blocks.
fn block_of(invocation: u32, n: u32, count: u32) -> u32 {
    return (invocation / WORKGROUP * count + n) * WORKGROUP + invocation % WORKGROUP;
}
