// What the package promises, in Dawn and in the CPU path: operands of every kind, errors, order, lost devices, prepared operations.
import './dawn.mjs';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Clip, ClipError, ELEMENT_TYPES } from 'wgclip';

const USAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const limit = { timeout: 60_000 };

test('the list is that of the library, and its functions are here', limit, async () => {
    const table = await readFile(new URL('../../../docs/operations.md', import.meta.url), 'utf8');
    const rows = table.split('\n## ')[0].split('\n').filter((line) => line.startsWith('| `')).map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')));
    const clip = await Clip.create({ on: 'cpu' });
    assert.deepEqual(rows.map((row) => row[1]), clip.operations.map(({ name }) => name));
    for (const row of rows) assert.ok(row[5] === '-' || row[5] in clip, row[5]);
});

async function device() {
    return (await navigator.gpu.requestAdapter()).requestDevice();
}

/** A buffer of these elements, with what comes before and after them. */
function buffer(device, data, { before = 0, after = 0, usage = USAGE, fill = 0xa5 } = {}) {
    const size = Math.ceil((before + data.byteLength + after) / 4) * 4;
    const made = device.createBuffer({ size, usage });
    const bytes = new Uint8Array(size).fill(fill);
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), before);
    device.queue.writeBuffer(made, 0, bytes);
    return made;
}

async function read(device, buffer) {
    const staging = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    return staging.getMappedRange().slice(0);
}

async function rejects(promise, code, text) {
    await assert.rejects(promise, (error) => {
        assert.ok(error instanceof ClipError, `${error}`);
        assert.equal(error.code, code, error.message);
        if (text) assert.match(error.message, text);
        return true;
    });
}

for (const on of ['cpu', 'gpu']) {
    describe(`on the ${on}`, () => {
        const opened = Clip.create({ on });

        test('arrays keep their kind, and views are not read beyond', limit, async () => {
            const clip = await opened;
            const all = Float32Array.of(99, -2, 0.5, 7, 99);
            const view = all.subarray(1, 4);
            assert.deepEqual(await clip.clip(view, { min: 0, max: 1 }), Float32Array.of(0, 0.5, 1));
            assert.deepEqual(await clip.clipInPlace(view, { max: 1 }), Float32Array.of(-2, 0.5, 1));
            assert.deepEqual(all, Float32Array.of(99, -2, 0.5, 1, 99));
            const out = new Uint8ClampedArray(3);
            assert.equal(await clip.clip(Uint8ClampedArray.of(1, 100, 200), { min: 50, max: 1000 }, { out }), out);
            assert.deepEqual(out, Uint8ClampedArray.of(50, 100, 200));
            assert.deepEqual(await clip.clip(BigUint64Array.of(2n ** 63n, 1n), { max: 2n ** 40n }), BigUint64Array.of(2n ** 40n, 1n));
        });

        test('every length up to blocks and beyond, of every type', limit, async () => {
            const clip = await opened;
            for (const type of ELEMENT_TYPES) {
                const size = Number(type.match(/\d+/)[0]) / 8;
                const Bits = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[size];
                for (const length of [0, 1, 2, 3, 5, 15, 16, 17, 33]) {
                    const data = Bits.from({ length }, (_, n) => (size === 8 ? BigInt(n) : n));
                    const y = await clip.clip({ data, type }, {});
                    assert.deepEqual(y, data, `${type} of ${length}`);
                }
            }
        });

        test('NaN keeps its payload, and -0 and infinities pass where there is no bound', limit, async () => {
            const clip = await opened;
            const bits = Uint32Array.of(0xffc12345, 0x7f800001, 0x80000000, 0x7f800000, 0x00000001);
            const y = await clip.clip({ data: bits, type: 'float32' }, { min: 0 });
            assert.deepEqual(y, bits);
        });

        test('inward bounds are not rounded beyond their numbers', limit, async () => {
            const clip = await opened;
            const x = { data: Uint16Array.of(0x7bff, 0xfbff), type: 'float16' };
            // 2049 and -0.1 are no numbers of float16: 2050 (or 2048) and -0.099976 are.
            const nearest = await clip.clip(x, { min: -0.1, max: 2051 });
            const inward = await clip.clip(x, { min: -0.1, max: 2051, rounding: 'inward' });
            assert.deepEqual([...nearest], [0x6802, 0xae66]);
            assert.deepEqual([...inward], [0x6801, 0xae66]);
            const bytes = await clip.clip(Uint8Array.of(0, 9), { min: 0.5, max: 2.5, rounding: 'inward' });
            assert.deepEqual([...bytes], [1, 2]);
            const large = await clip.clip(BigInt64Array.of(2n ** 62n), { max: 2n ** 53n + 1n, rounding: 'inward' });
            assert.deepEqual([...large], [2n ** 53n + 1n]);
            await rejects(clip.clip(Uint8Array.of(1), { max: -0.5, rounding: 'inward' }), 'bounds', /no value/);
            await rejects(clip.clip(Uint8Array.of(1), { max: 1, rounding: 'down' }), 'bounds', /nearest/);
        });
        test('an operation of the list is there by its name', limit, async () => {
            const clip = await opened;
            const x = Float32Array.of(-2, 0.5, 2);
            assert.deepEqual([...(await clip.run('affine', { x, scale: 2, offset: 0.5 })).y], [-3.5, 1.5, 4.5]);
            const half = (await clip.run('clip_to', { x, min: 0, type: 'float16' })).y;
            assert.deepEqual([half.length, half.byteLength], [3, 6]);
            const { gx, glo, ghi, gslope } = await clip.run('leaky_clip_backward', { x, g: Float32Array.of(1, 2, 3), min: -1, slope: 0.25 });
            assert.deepEqual([[...gx], [...glo], ghi, [...gslope]], [[0.25, 2, 3], [0.75], undefined, [-1]]);
            const { y, mask } = await clip.run('clip_with_mask', { x, min: 0, max: 1 });
            assert.deepEqual([[...y], [...(await clip.run('mask_backward', { mask, g: x })).gx]], [[0, 0.5, 1], [0, 0.5, 0]]);
            const codes = (await clip.run('quantize', { x, scale: 0.25, zero_point: 3, type: 'int8' })).y;
            assert.deepEqual(codes, Int8Array.of(-5, 5, 11));
            const scale = { data: Float32Array.of(0.25, 1, 0.5), shape: [3] };
            const { y: values } = await clip.run('dequantize', { x: codes, scale, zero_point: 3, type: 'float32' });
            assert.deepEqual(values, Float32Array.of(-2, 2, 4));
            const wide = { data: Float64Array.of(1, 1, 1) };
            await rejects(clip.run('dequantize', { x: codes, scale: wide, zero_point: 3, type: 'float32' }), 'shape', /float32/);
            assert.deepEqual((await clip.run('tanh', { x })).y, Float32Array.of(-0.9640276, 0.46211717, 0.9640276));
            const gradient = await clip.run('sigmoid_backward', { y: Float32Array.of(0.5, 1), g: Float32Array.of(2, 2) });
            assert.deepEqual([...gradient.gx], [0.5, 0]);
            const pairs = Uint16Array.of(0x0e03, 0x0807);
            const { y: packed } = await clip.run('pack4', { x: pairs, type: 'uint8' });
            assert.deepEqual(packed, Uint8Array.of(0xe3, 0x87));
            // Signed, as codes of the default rule are.
            assert.deepEqual((await clip.run('unpack4', { x: packed, type: 'uint16' })).y, Uint16Array.of(0xfe03, 0xf807));
            await rejects(clip.run('pack4', { x: pairs, type: 'int8' }), 'unsupported', /to uint8/);
            await rejects(clip.run('clamp', { x }), 'operand', /there are clip,/);
            await rejects(clip.run('clip', { x, slope: 1 }), 'operand', /takes no slope/);
            await rejects(clip.run('affine', { x, scale: 1 }), 'operand', /needs offset/);
            await rejects(clip.run('leaky_clip', { x, min: 0 }), 'unsupported', /slope/);
        });
        test('bounds that are tensors broadcast, and receive gradients that are summed', limit, async () => {
            const clip = await opened;
            const x = { data: Float32Array.of(1, 5, 9, -1, 5, 11), shape: [2, 3] };
            const min = { data: Float32Array.of(0, 6, 0), shape: [3] };
            const max = { data: Float32Array.of(8, 10), shape: [2, 1] };
            const g = { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [2, 3] };
            assert.deepEqual(await clip.clip(x, { min, max }), Float32Array.of(1, 6, 8, 0, 6, 10));
            const made = await clip.clipBackwardBounds(x, g, { min, max });
            assert.deepEqual(made, {
                x: Float32Array.of(1, 0, 0, 0, 0, 0), min: Float32Array.of(4, 7, 0), max: Float32Array.of(3, 6),
            });
            const values = await clip.clipBackwardBounds(x, g, { max: 6, rule: { outside: 'straight-through' } });
            assert.deepEqual(values, { x: g.data, min: undefined, max: Float32Array.of(9) });
        });

        test('a softmax goes along axes', limit, async () => {
            const clip = await opened;
            const x = { data: Float32Array.of(0, 0, -Infinity, 1e30, -1e30, 0), shape: [2, 3] };
            assert.deepEqual(await clip.softmax(x), Float32Array.of(0.5, 0.5, 0, 1, 0, 0));
            assert.deepEqual(await clip.softmax(x, [1]), await clip.softmax(x));
            const columns = await clip.softmax({ data: Float32Array.of(1, 2, 3, 1, 2, 3), shape: [2, 3] }, [0]);
            assert.deepEqual(columns, new Float32Array(6).fill(0.5));
            assert.deepEqual(await clip.softmax(Float32Array.of(5, 5, 5, 5)), new Float32Array(4).fill(0.25));
            assert.deepEqual(await clip.softmax(Float32Array.of(1, NaN)), Float32Array.of(NaN, NaN));
            assert.deepEqual(await clip.softmax(new Float32Array(0)), new Float32Array(0));
            const y = { data: Uint16Array.of(0x3400, 0x3a00), type: 'float16' };
            const g = { data: Uint16Array.of(0x3c00, 0xbc00), type: 'float16' };
            assert.deepEqual(await clip.softmaxBackward(y, g), Uint16Array.of(0x3600, 0xb600));
            // A row of many workgroups, and as many columns.
            const long = Float32Array.from({ length: 70_001 }, (_, n) => (n * 37) % 101 / 16);
            const row = await clip.softmax(long);
            assert.ok(Math.abs(row.reduce((sum, part) => sum + part, 0) - 1) < 1e-5);
            assert.deepEqual(await clip.softmax({ data: long, shape: [70_001, 1] }, [0]), row);
            await rejects(clip.softmax(Float64Array.of(1)), 'unsupported', /32 bits/);
            await rejects(clip.softmax(x, [2]), 'shape', /axes/);
        });

        test('a mask keeps what passes', limit, async () => {
            const clip = await opened;
            const x = Float32Array.from({ length: 1000 }, (_, n) => n % 7 - 3);
            const g = Float32Array.from({ length: 1000 }, (_, n) => n + 1);
            const { y, mask } = await clip.clipWithMask(x, { min: -1, max: 2, rule: 'torch' });
            assert.deepEqual(y, x.map((v) => Math.min(Math.max(v, -1), 2)));
            const gx = await clip.clipBackward(x, g, { min: -1, max: 2, rule: 'torch' });
            assert.deepEqual(await clip.maskBackward(mask, g), gx);
            assert.equal(await clip.maskBackward(mask, g, { out: g }), g);
            assert.deepEqual(g, gx);
            mask.destroy();
            await rejects(clip.clipWithMask(x, { min: 0, rule: 'jax' }), 'rule');
        });

        test('a global norm is exact, and what is not finite follows the policy', limit, async () => {
            const clip = await opened;
            const tensors = [Float32Array.of(3e20, 0), { data: Uint16Array.of(0x4200, 0), type: 'bfloat16' }, Float32Array.of(4e20)];
            const norm = await clip.clipByGlobalNorm(tensors, { maxNorm: 1 });
            assert.ok(Math.abs(norm / 5e20 - 1) < 1e-6, `${norm}`);
            assert.deepEqual([...tensors[0], ...tensors[2]].map((v) => v.toFixed(6)), ['0.600000', '0.000000', '0.800000']);
            const bad = [Float32Array.of(1, Infinity)];
            await rejects(clip.clipByGlobalNorm(bad, { maxNorm: 1, nonfinite: 'error' }), 'nonfinite');
            assert.deepEqual(bad, [Float32Array.of(1, Infinity)]);
            assert.equal(await clip.clipByGlobalNorm(bad, { maxNorm: 1, nonfinite: 'zero' }), Infinity);
            assert.deepEqual(bad, [Float32Array.of(0, 0)]);
            await rejects(clip.clipByGlobalNorm(bad, { maxNorm: -1 }), 'limit');
            await rejects(clip.clipByGlobalNorm([Int32Array.of(1)], { maxNorm: 1 }), 'unsupported', /int32/);
            if (on === 'gpu') await rejects(clip.clipByGlobalNorm([Float64Array.of(1)], { maxNorm: 1 }), 'unsupported', /on: 'cpu'/);
            assert.equal(await clip.clipByGlobalNorm([], { maxNorm: 1 }), 0);
        });

        test('mistakes are typed errors that change nothing', limit, async () => {
            const clip = await opened;
            const x = Float32Array.of(1, 2, 3);
            await rejects(clip.clip(x, { min: NaN }), 'bounds');
            await rejects(clip.clip(Uint8Array.of(1), { min: 256 }), 'bounds', /outside the range of uint8/);
            await rejects(clip.clip(Int16Array.of(1), { max: 0.5 }), 'bounds', /whole/);
            await rejects(clip.clip(Int32Array.of(1), { min: 2n ** 200n }), 'bounds');
            await rejects(clip.clip(x, { min: '0' }), 'bounds');
            await rejects(clip.clip([1, 2], {}), 'operand', /no tensor/);
            await rejects(clip.clip(null, {}), 'operand');
            await rejects(clip.clip({ data: x, type: 'float64' }, {}), 'operand', /4 bytes/);
            await rejects(clip.clip({ data: x, type: 'half' }, {}), 'operand', /float16/);
            await rejects(clip.clip({ data: x, shape: [2, 2] }, {}), 'shape');
            await rejects(clip.clip({ data: x, shape: [3.5] }, {}), 'shape');
            await rejects(clip.clip(x, { min: Float32Array.of(1, 2) }), 'shape', /broadcast/);
            await rejects(clip.clip(x, { min: Int32Array.of(1, 2, 3) }), 'shape', /one type/);
            await rejects(clip.clip({ data: x, shape: new Array(1) }, {}), 'shape');
            await rejects(clip.clip({ data: x, shape: '3' }, {}), 'shape');
            await rejects(clip.clip(x), 'bounds');
            await rejects(clip.clip(x, null), 'bounds');
            await rejects(clip.clip(x, { min: true }), 'bounds', /no bound/);
            await rejects(clip.clip(new DataView(new ArrayBuffer(4)), {}), 'operand');
            await rejects(clip.clip({ buffer: null, type: 'float32' }, {}), 'operand');
            await rejects(clip.clip({ buffer: { size: 16, usage: USAGE } }, {}), 'operand', /no type/);
            await rejects(clip.clip(x, {}, { out: new Float32Array(2) }), 'shape');
            await rejects(clip.clip(x, {}, { out: new Int32Array(3) }), 'shape');
            await rejects(clip.clipBackward(x, new Float32Array(2), {}), 'shape');
            await rejects(clip.clipBackward(x, x, { rule: 'pytorch' }), 'rule', /torch-2.13/);
            assert.deepEqual(clip.choices('jax'), { outside: 'masked', ties: 'half', nan: 'zero' });
            assert.deepEqual(clip.choices({ outside: 'toward' }), { outside: 'toward', ties: 'inclusive', nan: 'pass' });
            await rejects(clip.clipBackward(x, x, { rule: 'toString' }), 'rule');
            await rejects(clip.clipBackward(x, x, { rule: { ties: 'both' } }), 'rule');
            await rejects(clip.clipBackward(x, x, { rule: 5 }), 'rule');
            await rejects(clip.clipBackward(x, x, { min: NaN, rule: { outside: 'straight-through' } }), 'bounds');
            await rejects(clip.clipWithMask(x, { rule: { outside: 'toward' } }), 'rule', /clipWithMask/);
            await rejects(clip.maskBackward({}, x), 'operand');
            await rejects(clip.clipByGlobalNorm(x, { maxNorm: 1 }), 'operand', /list/);
            await rejects(clip.clipByGlobalNorm([x]), 'limit');
            await rejects(clip.clipByGlobalNorm([x], { maxNorm: 1, kind: 'l3' }), 'limit');
            assert.deepEqual(x, Float32Array.of(1, 2, 3));
        });

        test('memory that is shared, and arrays of classes of one\'s own', limit, async () => {
            const clip = await opened;
            const shared = new Float32Array(new SharedArrayBuffer(12));
            shared.set([-1, 2, 3]);
            await clip.clipInPlace(shared, { min: 0 });
            assert.deepEqual([...shared], [0, 2, 3]);
            class Own extends Float32Array {
                constructor(length) { super(length + 1); }
            }
            const own = Object.setPrototypeOf(Float32Array.of(5, 6), Own.prototype);
            assert.deepEqual([...await clip.clip(own, { max: 5.5 })], [5, 5.5]);
        });

        test('many calls at once keep apart', limit, async () => {
            const clip = await opened;
            const made = await Promise.all(Array.from({ length: 50 }, (_, n) =>
                clip.clip(Float32Array.of(n, 100 + n, -n), { min: 0, max: n + 50 })));
            made.forEach((y, n) => assert.deepEqual(y, Float32Array.of(n, n + 50, n ? 0 : -0)));
        });
    });
}

test('the CPU has no buffers', limit, async () => {
    const clip = await Clip.create({ on: 'cpu' });
    const gpu = await device();
    await rejects(clip.clip({ buffer: buffer(gpu, new Float32Array(4)), type: 'float32' }, {}), 'operand', /no GPU device/);
    assert.equal(clip.isOnGpu, false);
    gpu.destroy();
});

describe('buffers of the page', () => {
    const ready = device().then(async (gpu) => ({ gpu, clip: await Clip.on(gpu) }));

    test('parts at any offset and length, and nothing beside them is written', limit, async () => {
        const { gpu, clip } = await ready;
        for (const [type, Bits] of [['float32', Uint32Array], ['float16', Uint16Array], ['int8', Uint8Array]]) {
            for (const before of [0, 4, 16, 256, 1024 + 4]) {
                for (const length of [4, 8, 20, 1000]) {
                    const data = Bits.from({ length }, (_, n) => n * 37);
                    const all = buffer(gpu, data, { before, after: 40 });
                    const x = { buffer: all, offset: before, size: data.byteLength, type };
                    const expected = await (await Clip.create({ on: 'cpu' })).clip({ data, type }, { min: 1, max: 50 });
                    await clip.clipInPlace(x, { min: 1, max: 50 });
                    const bytes = await read(gpu, all);
                    const where = `${type} of ${length} at ${before}`;
                    assert.deepEqual(new Bits(bytes.slice(before, before + data.byteLength)), expected, where);
                    const rest = [...new Uint8Array(bytes, 0, before), ...new Uint8Array(bytes, before + data.byteLength)];
                    assert.ok(rest.every((byte) => byte === 0xa5), where);
                    all.destroy();
                }
            }
        }
    });

    test('what is beside a shape is kept, and what cannot be kept is refused', limit, async () => {
        const { gpu, clip } = await ready;
        const all = buffer(gpu, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
        await clip.clipInPlace({ buffer: all, type: 'float32', shape: [2] }, { max: 0 });
        await clip.clipByGlobalNorm([{ buffer: all, offset: 12, type: 'float32', shape: [3] }], { maxNorm: 0 });
        assert.deepEqual(new Float32Array(await read(gpu, all)), Float32Array.of(0, 0, 3, 0, 0, 0, 7, 8));
        const bytes = buffer(gpu, Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9));
        await rejects(clip.clipInPlace({ buffer: bytes, size: 3, type: 'uint8' }, { max: 1 }), 'operand', /multiple of 4/);
        await rejects(clip.clip(Uint8Array.of(1, 2, 3), {}, { out: { buffer: bytes, type: 'uint8', shape: [3] } }), 'operand', /multiple of 4/);
        assert.deepEqual(new Uint8Array(await read(gpu, bytes)), new Uint8Array(8).fill(9));
        // The end of a buffer is nobody else's.
        await clip.clipInPlace({ buffer: bytes, offset: 4, type: 'uint8', shape: [3] }, { max: 1 });
        assert.deepEqual(new Uint8Array(await read(gpu, bytes), 0, 7), Uint8Array.of(9, 9, 9, 9, 1, 1, 1));
        assert.deepEqual(await clip.read({ buffer: bytes, size: 3, type: 'uint8' }), Uint8Array.of(9, 9, 9));
    });

    test('an array that is transferred during a call changes no other', limit, async () => {
        const { clip } = await ready;
        const [a, b] = [Float32Array.of(3), Float32Array.of(4)];
        const call = clip.clipByGlobalNorm([a, b], { maxNorm: 1 });
        structuredClone(b.buffer, { transfer: [b.buffer] });
        await rejects(call, 'operand', /transferred/);
        assert.deepEqual(a, Float32Array.of(3));
        assert.equal(await clip.clipByGlobalNorm([a, Float32Array.of(4)], { maxNorm: 9 }), 5);
    });

    test('a failure leaves nothing that fails again', limit, async () => {
        const { clip, gpu } = await ready;
        const other = await device();
        const create = gpu.createBuffer;
        const made = [];
        const x = new Float32Array(12_345).fill(9);
        gpu.createBuffer = (descriptor) => other.createBuffer(descriptor);
        await rejects(clip.clip(x, { max: 1 }), 'operand');
        gpu.createBuffer = (descriptor) => {
            const buffer = create.call(gpu, descriptor);
            const destroy = buffer.destroy.bind(buffer);
            made.push(buffer);
            buffer.destroy = () => (made.splice(made.indexOf(buffer), 1), destroy());
            return buffer;
        };
        assert.equal((await clip.clip(x, { max: 1 }))[12_344], 1);
        made.length = 0;
        for (let n = 0; n < 20; n++) await rejects(clip.clip({ buffer: buffer(gpu, new Float32Array(4)), type: 'float32' }, { min: NaN }), 'bounds');
        gpu.createBuffer = create;
        // Those of the test itself.
        assert.equal(made.length, 20, 'buffers that are left');
        other.destroy();
    });

    test('results are new buffers, or where the caller wants them', limit, async () => {
        const { gpu, clip } = await ready;
        const x = { buffer: buffer(gpu, Float32Array.of(-1, 2, 3, 4, 5)), type: 'float32', shape: [5] };
        const y = await clip.clip(x, { min: 0, max: 3 });
        assert.deepEqual({ ...y, buffer: undefined }, { buffer: undefined, offset: 0, size: 32, type: 'float32', shape: [5] });
        assert.deepEqual(new Float32Array(await read(gpu, y.buffer), 0, 5), Float32Array.of(0, 2, 3, 3, 3));
        const out = { buffer: buffer(gpu, new Float32Array(8)), type: 'float32', shape: [5] };
        const made = await clip.clip(x, { min: 0, max: 3 }, { out });
        assert.equal(made.buffer, out.buffer);
        assert.deepEqual(new Float32Array(await read(gpu, out.buffer), 0, 5), Float32Array.of(0, 2, 3, 3, 3));
        assert.deepEqual(await clip.read(y), Float32Array.of(0, 2, 3, 3, 3));
        assert.deepEqual(await clip.read({ ...y, type: 'bfloat16', size: 6, shape: undefined }), Uint16Array.of(0, 0, 0));
        // A host tensor beside one in a buffer.
        const low = await clip.clip(x, { min: Float32Array.of(9, 9, 9, 9, 9) });
        assert.deepEqual(new Float32Array(await read(gpu, low.buffer), 0, 5), Float32Array.of(9, 9, 9, 9, 9));
    });

    test('operands that are one buffer, or overlap', limit, async () => {
        const { gpu, clip } = await ready;
        const data = Float32Array.from({ length: 300 }, (_, n) => n - 150);
        const all = buffer(gpu, data);
        const part = (offset, length) => ({ buffer: all, offset, size: 4 * length, type: 'float32' });
        const gx = await clip.clipBackward(part(0, 200), part(0, 200), { min: -100 });
        assert.deepEqual(new Float32Array(await read(gpu, gx.buffer)), data.slice(0, 200).map((v) => (v < -100 ? 0 : v)));
        const both = await clip.clip(part(0, 100), { min: part(256, 100), max: part(256, 100) });
        assert.deepEqual(new Float32Array(await read(gpu, both.buffer)), data.slice(64, 164));
        // A straight-through gradient within the buffer: a copy to another part, and to one that overlaps.
        const straight = { rule: { outside: 'straight-through' } };
        await clip.clipBackward(part(0, 64), part(0, 64), straight, { out: part(768, 64) });
        assert.deepEqual(new Float32Array(await read(gpu, all), 768, 64), data.slice(0, 64));
        await clip.clipBackward(part(0, 64), part(768, 64), straight, { out: part(896, 64) });
        assert.deepEqual(new Float32Array(await read(gpu, all), 896, 64), data.slice(0, 64));
        gpu.queue.writeBuffer(all, 0, data);
        // The result over a part of the input.
        await clip.clip(part(0, 200), { min: 0 }, { out: part(400, 200) });
        const expected = data.slice();
        expected.set(data.slice(0, 200).map((v) => Math.max(v, 0)), 100);
        assert.deepEqual(new Float32Array(await read(gpu, all)), expected);
    });

    test('a global norm over buffers of several types', limit, async () => {
        const { gpu, clip } = await ready;
        const tensors = [
            { buffer: buffer(gpu, Float32Array.of(3, 0, 0)), type: 'float32', shape: [3] },
            { buffer: buffer(gpu, Uint16Array.of(0x4400, 0)), type: 'float16', shape: [2] },
        ];
        assert.equal(await clip.clipByGlobalNorm(tensors, { maxNorm: 2.5 }), 5);
        assert.deepEqual(new Float32Array(await read(gpu, tensors[0].buffer)), Float32Array.of(1.5, 0, 0));
        assert.deepEqual(new Uint16Array(await read(gpu, tensors[1].buffer)), Uint16Array.of(0x4000, 0));
    });

    test('a prepared operation joins a pass of the page', limit, async () => {
        const { gpu, clip } = await ready;
        const data = Float32Array.from({ length: 4096 }, (_, n) => n - 2048);
        const tensor = (data) => ({ buffer: buffer(gpu, data), type: 'float32' });
        const [x, y, g, gx] = [tensor(data), tensor(data), tensor(data), tensor(data)];
        const forward = await clip.prepare({ op: 'clip', x, y, min: -1, max: 1 });
        const backward = await clip.prepare({ op: 'clipBackward', x, g, gx, min: -1, max: 1, rule: 'torch' });
        for (let round = 0; round < 2; round++) {
            const encoder = gpu.createCommandEncoder();
            const pass = encoder.beginComputePass();
            forward(pass);
            backward(pass);
            pass.end();
            gpu.queue.submit([encoder.finish()]);
            assert.deepEqual(new Float32Array(await read(gpu, y.buffer)), data.map((v) => Math.min(Math.max(v, -1), 1)));
            assert.deepEqual(new Float32Array(await read(gpu, gx.buffer)), data.map((v) => (Math.abs(v) < 1 ? v : 0)));
        }
        // With a mask, and gradients of bounds.
        const mask = await clip.maskFor(x);
        const sums = [0, 1].map(() => ({ buffer: gpu.createBuffer({ size: 16, usage: USAGE }), type: 'float32', size: 16, shape: [] }));
        gpu.queue.writeBuffer(g.buffer, 0, data.map(() => 2));
        const all = await Promise.all([
            clip.prepare({ op: 'clipWithMask', x, y, mask, min: 0, rule: 'torch' }),
            clip.prepare({ op: 'maskBackward', mask, g, gx: g }),
            clip.prepare({ op: 'clipBackwardBounds', x, g: y, gmin: sums[0], gmax: sums[1], min: -5, max: 2, rule: { outside: 'straight-through' } }),
        ]);
        const encoder = gpu.createCommandEncoder();
        const pass = encoder.beginComputePass();
        all.forEach((record) => record(pass));
        pass.end();
        gpu.queue.submit([encoder.finish()]);
        assert.deepEqual(new Float32Array(await read(gpu, g.buffer)), data.map((v) => (v > 0 ? 2 : 0)));
        assert.equal(new Float32Array(await read(gpu, sums[0].buffer))[0], 0);
        assert.equal(new Float32Array(await read(gpu, sums[1].buffer))[0], data.reduce((sum, v) => sum + (v > 2 ? v : 0), 0));
        await rejects(clip.prepare({ op: 'clipBackwardBounds', x, g, gmin: sums[0], max: 2 }), 'bounds');
        await rejects(clip.prepare({ op: 'maskBackward', mask: {}, g, gx: g }), 'operand');
        await rejects(clip.prepare({ op: 'clipTo', x, g }), 'operand', /clipTo/);
        const odd = { buffer: x.buffer, size: 20, type: 'float32' };
        await rejects(clip.prepare({ op: 'clip', x: odd, y: odd }), 'operand', /whole blocks/);
        await rejects(clip.prepare({ op: 'clipBackward', x, g, gx, rule: { outside: 'straight-through' } }), 'rule');
        await rejects((await Clip.create({ on: 'cpu' })).prepare({ op: 'clip', x, y }), 'no-webgpu');
    });

    test('buffers that cannot be used are errors, and the device goes on', limit, async () => {
        const { gpu, clip } = await ready;
        const good = { buffer: buffer(gpu, Float32Array.of(5, 6)), type: 'float32' };
        await rejects(clip.clip({ buffer: gpu.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE }), type: 'float32' }, {}), 'operand', /COPY_DST/);
        await rejects(clip.clip({ ...good, offset: 2 }, {}), 'operand');
        await rejects(clip.clip({ ...good, offset: 4, size: 8 }, {}), 'operand');
        await rejects(clip.clip({ ...good, shape: [3] }, {}), 'shape');
        const destroyed = buffer(gpu, Float32Array.of(1, 2, 3, 4));
        destroyed.destroy();
        await rejects(clip.clipInPlace({ buffer: destroyed, type: 'float32' }, { max: 0 }), 'operand');
        const other = await device();
        await rejects(clip.clipInPlace({ buffer: buffer(other, Float32Array.of(1, 2, 3, 4)), type: 'float32' }, { max: 0 }), 'operand');
        await rejects(clip.clip({ buffer: good.buffer, type: 'float32', shape: [2] }, {}, { out: { ...good, shape: [1] } }), 'shape');
        const y = await clip.clip(good, { max: 5.5 });
        assert.deepEqual(new Float32Array(await read(gpu, y.buffer), 0, 2), Float32Array.of(5, 5.5));
        other.destroy();
    });

    test('what is too large is an error', limit, async () => {
        const { gpu, clip } = await ready;
        const length = gpu.limits.maxBufferSize / 4 + 1;
        // Not the memory of it: only its length is looked at.
        const fake = { buffer: { size: 4 * length + 16, usage: USAGE }, type: 'float32', shape: [length] };
        await rejects(clip.clip(fake, { min: 0 }), 'unsupported', /larger than this device allows/);
    });

    test('a tensor over more than one binding is split', { timeout: 120_000 }, async () => {
        const { gpu, clip } = await ready;
        const length = gpu.limits.maxStorageBufferBindingSize / 4 + 1028;
        const x = { buffer: gpu.createBuffer({ size: 4 * length, usage: USAGE }), type: 'float32' };
        gpu.queue.writeBuffer(x.buffer, 4 * (length - 4), Float32Array.of(-1, 2, 3, 0.5));
        gpu.queue.writeBuffer(x.buffer, 0, Float32Array.of(5));
        await clip.clipInPlace(x, { min: 0.25, max: 1 });
        const bytes = await read(gpu, x.buffer);
        assert.deepEqual(new Float32Array(bytes, 4 * (length - 4)), Float32Array.of(0.25, 1, 1, 0.5));
        assert.deepEqual(new Float32Array(bytes, 0, 2), Float32Array.of(1, 0.25));
        assert.ok(new Float32Array(bytes).subarray(1, length - 4).every((v) => v === 0.25));
        x.buffer.destroy();
    });
});

describe('a lost device', () => {
    test('of the page: every call says so, and none hangs', limit, async () => {
        const gpu = await device();
        const clip = await Clip.on(gpu);
        const x = Float32Array.from({ length: 1 << 20 }, (_, n) => n);
        const kept = x.slice();
        const calls = [clip.clipInPlace(x, { max: 5 }), clip.clipByGlobalNorm([x], { maxNorm: 1 })];
        gpu.destroy();
        for (const call of calls) await call.catch((error) => assert.equal(error.code, 'lost', error.message));
        await rejects(clip.clip(x, { max: 5 }), 'lost', /upload again/);
        await rejects(clip.prepare({ op: 'clip', x: { buffer: { size: 64, usage: USAGE }, type: 'float32' }, y: { buffer: { size: 64, usage: USAGE }, type: 'float32' } }), 'lost');
        assert.ok(x.every((v, n) => v === kept[n] || v <= 5));
    });

    test('of its own: the next call has another', limit, async () => {
        const clip = await Clip.create({ on: 'gpu' });
        const first = clip.device;
        const { mask } = await clip.clipWithMask(Float32Array.of(1), { max: 2 });
        first.destroy();
        await first.lost;
        assert.deepEqual(await clip.clip(Float32Array.of(1, 9), { max: 5 }), Float32Array.of(1, 5));
        assert.notEqual(clip.device, first);
        await rejects(clip.maskBackward(mask, Float32Array.of(1)), 'lost');
    });
});

test('without WebGPU the CPU serves, and says so', limit, async () => {
    const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
    Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });
    try {
        const clip = await Clip.create();
        assert.equal(clip.isOnGpu, false);
        assert.equal(clip.device, undefined);
        assert.deepEqual(await clip.clip(Float32Array.of(5), { max: 1 }), Float32Array.of(1));
        await rejects(Clip.create({ on: 'gpu' }), 'no-webgpu');
    } finally {
        Object.defineProperty(globalThis, 'navigator', before);
    }
});
