// Compiles every kernel of a file of `dump_shaders` with Dawn's Tint, and runs those that come with operands: what a
// browser makes of them. Fails at the first kernel that does not compile, and counts bytes that differ.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
// Kept: its adapters live as long as it does.
globalThis.gpu = create([]);
const adapter = await globalThis.gpu.requestAdapter();
if (!adapter) throw new Error('no adapter: Dawn needs a Vulkan driver, Debian\'s chromium brings SwiftShader');
const device = await adapter.requestDevice({
    requiredLimits: { maxStorageBuffersPerShaderStage: 8 },
});
device.lost.then((info) => { if (info.reason !== 'destroyed') throw new Error(`the device was lost: ${info.message}`); });

const start = Date.now();
let compiled = 0, ran = 0, compared = 0;
for await (const line of createInterface({ input: createReadStream(process.argv[2]) })) {
    const kernel = JSON.parse(line);
    const module = device.createShaderModule({ code: kernel.wgsl });
    const info = await module.getCompilationInfo();
    const errors = info.messages.filter((message) => message.type === 'error');
    if (errors.length > 0) {
        const at = errors[0];
        const text = kernel.wgsl.split('\n')[at.lineNum - 1];
        throw new Error(`${kernel.name}: line ${at.lineNum}: ${at.message}\n    ${text}`);
    }
    compiled += 1;
    if (kernel.inputs) {
        compared += await run(kernel, module);
        ran += 1;
    }
}
if (ran === 0) throw new Error('no kernel was run');
const adapterName = adapter.info.description || adapter.info.device || adapter.info.vendor;
console.log(`Tint: ${compiled} kernels compiled, ${ran} run on ${adapterName}: ${compared} bytes as the reference says, `
    + `${((Date.now() - start) / 1000).toFixed(1)} s`);
process.exit(0);

function bytes(hex) {
    return Uint8Array.from(Buffer.from(hex, 'hex'));
}

// Whole blocks of 16 bytes.
function buffer(data, usage) {
    const made = device.createBuffer({ size: Math.ceil(data.length / 16) * 16, usage });
    const padded = new Uint8Array(made.size);
    padded.set(data);
    device.queue.writeBuffer(made, 0, padded);
    return made;
}

async function run(kernel, module) {
    device.pushErrorScope('validation');
    const layout = device.createBindGroupLayout({
        entries: [
            { binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform' } },
            ...kernel.bindings.map(([binding, readOnly]) => ({
                binding,
                visibility: GPUShaderStage.COMPUTE,
                buffer: { type: readOnly ? 'read-only-storage' : 'storage' },
            })),
        ],
    });
    const pipeline = await device.createComputePipelineAsync({
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: kernel.entry },
    });
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const inputs = kernel.inputs.map((hex) => buffer(bytes(hex), usage));
    const expected = kernel.outputs.map(bytes);
    // Poisoned: what is not written shows.
    const outputs = expected.map((data) => buffer(new Uint8Array(data.length).fill(0xa5), usage));
    const params = buffer(bytes(kernel.params), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    const group = device.createBindGroup({
        layout,
        entries: [params, ...inputs, ...outputs].map((resource, i) => ({
            binding: i === 0 ? 0 : kernel.bindings[i - 1][0],
            resource: { buffer: resource },
        })),
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(kernel.workgroups);
    pass.end();
    const reads = outputs.map((output) => {
        const read = device.createBuffer({
            size: output.size,
            usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
        });
        encoder.copyBufferToBuffer(output, 0, read, 0, output.size);
        return read;
    });
    device.queue.submit([encoder.finish()]);
    const error = await device.popErrorScope();
    if (error) throw new Error(`${kernel.name}: ${error.message}`);
    let compared = 0;
    for (const [i, read] of reads.entries()) {
        await read.mapAsync(GPUMapMode.READ);
        const actual = new Uint8Array(read.getMappedRange());
        const wrong = expected[i].findIndex((byte, at) => byte !== actual[at]);
        if (wrong >= 0) {
            throw new Error(`${kernel.name}: byte ${wrong} of output ${i} is ${actual[wrong]}, not ${expected[i][wrong]}`);
        }
        compared += expected[i].length;
        read.unmap();
    }
    return compared;
}
