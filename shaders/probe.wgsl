// Only for conformance checks: inputs created on the device, and the driver's results for WGSL's own floats.
import package::lib::constants::WORKGROUP;
import package::lib::dispatch::invocation_index;
import package::lib::params::params;

@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<u32>>;

// Words that begin at params.scalars.x and grow by params.scalars.y.
@compute @workgroup_size(WORKGROUP)
fn patterns(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        let n = vec4(4u * i) + vec4(0u, 1u, 2u, 3u);
        y[i] = vec4(params.scalars.x) + n * vec4(params.scalars.y);
    }
}

@compute @workgroup_size(WORKGROUP)
fn builtin_clamp(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        let bounds = bitcast<vec4<f32>>(params.scalars);
        y[i] = bitcast<vec4<u32>>(clamp(bitcast<vec4<f32>>(a[i]), bounds.xxxx, bounds.yyyy));
    }
}

@compute @workgroup_size(WORKGROUP)
fn builtin_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = invocation_index(id);
    if i < params.blocks {
        y[i] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(a[i]) + bitcast<vec4<f32>>(b[i]));
    }
}
