// What runs in the page of the tests: the package beside TensorFlow.js and ONNX Runtime Web, in the same browser and on the same device.
import '@tensorflow/tfjs-backend-cpu';
import type { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import { Clip, ClipError } from '../../src/index.js';
import { OrtClip } from '../../src/ort.js';
import { TfClip } from '../../src/tfjs.js';
import { clipModel } from './onnx.js';

type Ort = typeof import('onnxruntime-web/webgpu');

/** Special values, and random bits. */
function values(length: number): Float32Array {
    const specials = [NaN, -0, 0, Infinity, -Infinity, 1, -1, 1e-45, -1e-45, 3.4e38, 0.5];
    const bits = new Uint32Array(length);
    for (let at = 0; at < length; at += 16384) crypto.getRandomValues(bits.subarray(at, at + 16384));
    const made = new Float32Array(bits.buffer);
    specials.forEach((value, n) => (made[n] = value));
    return made;
}

/** How many elements of two arrays have other bits, and how many of these are NaN or subnormal in the second. */
function differ(a: Float32Array, b: Float32Array): { bits: number; ofNaN: number; ofSubnormals: number } {
    const [x, y] = [a, b].map(({ buffer, byteOffset, length }) => new Uint32Array(buffer, byteOffset, length)) as [Uint32Array, Uint32Array];
    let [bits, ofNaN, ofSubnormals] = [0, 0, 0];
    for (let n = 0; n < x.length; n++) {
        if (x[n] === y[n]) continue;
        bits += 1;
        if (Number.isNaN(b[n])) ofNaN += 1;
        if (b[n] !== 0 && Math.abs(b[n]!) < 2 ** -126) ofSubnormals += 1;
    }
    return { bits, ofNaN, ofSubnormals };
}

function median(times: number[]): number {
    return times.toSorted((a, b) => a - b)[times.length >> 1]!;
}

/** Two ways of the same, timed in turn: milliseconds each. */
async function inTurn(rounds: number, first: () => Promise<void>, second: () => Promise<void>): Promise<[number, number]> {
    const times: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds + 2; round++) {
        for (const [n, work] of [first, second].entries()) {
            const start = performance.now();
            await work();
            // The first two compile and fill pools.
            if (round > 1) times[n]!.push(performance.now() - start);
        }
    }
    return [median(times[0]), median(times[1])];
}

async function tfjs() {
    await tf.setBackend('webgpu');
    const clip = await TfClip.create();
    const cpu = await Clip.create({ on: 'cpu' });
    const data = values(100_003);
    const found: Record<string, unknown> = {};

    // Against the CPU path to the bit, and against tfjs.
    const x = tf.tensor1d(data);
    const ours = clip.clipByValue(x, -1, 1.5);
    const [made, right] = [await ours.data() as Float32Array, await cpu.clip(data, { min: -1, max: 1.5 })];
    found.wrong = differ(made, right).bits;
    found.theirs = differ(await tf.clipByValue(x, -1, 1.5).data() as Float32Array, await ours.data() as Float32Array);

    // Gradients, of an upstream one that is not 1.
    const g = Float32Array.from(data, (_, n) => (n % 13) - 6);
    const upstream = tf.tensor1d(g);
    const grad = (clip: (x: tf.Tensor) => tf.Tensor) => tf.grad((x: tf.Tensor) => clip(x))(x, upstream);
    const dx = await grad((x) => clip.clipByValue(x, -1, 1.5)).data() as Float32Array;
    found.wrongGradients = differ(dx, await cpu.clipBackward(data, g, { min: -1, max: 1.5, rule: 'tfjs' })).bits;
    found.theirGradients = differ(await grad((x) => tf.clipByValue(x, -1, 1.5)).data() as Float32Array, dx);
    const straight = await grad((x) => clip.clipByValue(x, -1, 1.5, { outside: 'straight-through' })).data() as Float32Array;
    found.straight = differ(straight, g).bits;

    // In a chain of other operations, with pending work before and after.
    const chained = tf.grad((x: tf.Tensor) => tf.sum(tf.mul(clip.clipByValue(tf.mul(x, 2), 0, 10), 3)))(tf.tensor1d([-1, 2, 7, 4.5, 0.25]));
    found.chained = [...await chained.data()];

    // Bounds that are tensors and learn.
    const [gx, gmax] = tf.grads((x: tf.Tensor, max: tf.Tensor) => clip.clipByValue(x, 0, max, 'torch'))([tf.tensor2d([[1, 5], [7, -2]]), tf.tensor1d([3, 4])]);
    found.learned = [[...await gx!.data()], [...await gmax!.data()]];

    // Integers, and odd lengths that are parts of larger expressions.
    found.integers = [...await clip.clipByValue(tf.tensor1d([-5, 3, 9], 'int32'), -1, 4).data()];
    found.empty = [...await clip.clipByValue(tf.tensor1d([]), -1, 4).data()];

    // A global norm.
    const gradients = [tf.tensor1d([3, 0, 0]), tf.tensor2d([[0], [4]])];
    const clipped = clip.clipByGlobalNorm(gradients, { maxNorm: 1 });
    found.norm = await Promise.all([...clipped, ...gradients].map(async (tensor) => [...await tensor.data()].map((v) => Number(v.toFixed(6)))));

    // Nothing is left behind.
    const before = tf.memory();
    tf.tidy(() => tf.grad((x: tf.Tensor) => clip.clipByValue(x, -1, 1))(x, upstream)).dispose();
    const after = tf.memory();
    found.leaked = after.numTensors - before.numTensors;

    try {
        clip.clipByValue(tf.tensor1d([true], 'bool'), 0, 1);
    } catch (error) {
        found.refused = error instanceof ClipError && error.code;
    }
    return found;
}

async function tfjsTimes(sizes: readonly number[]) {
    await tf.setBackend('webgpu');
    const clip = await TfClip.create();
    const backend = tf.backend() as WebGPUBackend;
    const rows = [];
    for (const size of sizes) {
        const x = tf.tensor1d(Float32Array.from({ length: size }, (_, n) => Math.sin(n) * 3));
        const g = tf.onesLike(x);
        backend.uploadToGPU(x.dataId);
        const repeats = Math.max(1, Math.min(50, (1 << 22) / size));
        const run = (work: () => tf.Tensor) => async () => {
            for (let n = 0; n < repeats; n++) work().dispose();
            backend.ensureCommandEncoderReady();
            backend.endComputePassEncoder();
            backend.submitQueue();
            await backend.queue.onSubmittedWorkDone();
        };
        const grad = (clip: (x: tf.Tensor) => tf.Tensor) => () => tf.tidy(() => tf.grad(clip)(x, g));
        const forward = await inTurn(15, run(() => clip.clipByValue(x, -1, 1)), run(() => tf.clipByValue(x, -1, 1)));
        const both = await inTurn(15, run(grad((x) => clip.clipByValue(x, -1, 1))), run(grad((x) => tf.clipByValue(x, -1, 1))));
        rows.push({
            size, forward: forward.map((time) => time / repeats), gradient: both.map((time) => time / repeats),
        });
        tf.dispose([x, g]);
    }
    return rows;
}

async function session(ort: Ort, model: Uint8Array) {
    ort.env.wasm.wasmPaths = '/onnxruntime/';
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = 'error';
    return ort.InferenceSession.create(model, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
}

async function ort() {
    const ort: Ort = await import('onnxruntime-web/webgpu');
    const found: Record<string, unknown> = {};
    found.before = await OrtClip.create(ort).then(() => 'created', (error: ClipError) => error.code);
    const theirs = await session(ort, clipModel(-1, 1.5));
    const clip = await OrtClip.create(ort);
    const cpu = await Clip.create({ on: 'cpu' });
    const data = values(100_003);
    const x = new ort.Tensor('float32', data, [data.length]);

    // A tensor on the CPU stays there.
    const host = await clip.clip(x, { min: -1, max: 1.5 });
    found.host = [host.location, differ(host.data as Float32Array, await cpu.clip(data, { min: -1, max: 1.5 })).bits];

    // The output of a session, in its buffer.
    const { y } = await theirs.run({ x }) as { y: typeof x };
    const narrower = await clip.clip(y, { min: -0.5, max: 0.5 });
    const g = new ort.Tensor('float32', new Float32Array(data.length).fill(2), [data.length]);
    const gx = await clip.clipBackward(y, g, { min: -0.5, max: 0.5 });
    found.gpu = [y.location, narrower.location, narrower.dims, gx.location];

    // And back into a session. To get data is to move it, so that comes last.
    const again = await (await theirs.run({ x: narrower })).y!.getData() as Float32Array;
    const ofTheirs = await y.getData() as Float32Array;
    found.theirs = differ(ofTheirs, host.data as Float32Array);
    const clipped = await narrower.getData() as Float32Array;
    found.wrong = differ(clipped, await cpu.clip(ofTheirs, { min: -0.5, max: 0.5 })).bits;
    found.again = again.every((value, n) => value === clipped[n] || Number.isNaN(clipped[n]));
    const expected = await cpu.clipBackward(ofTheirs, g.data as Float32Array, { min: -0.5, max: 0.5 });
    found.gradient = differ(await gx.getData() as Float32Array, expected).bits;
    const [tall] = [new ort.Tensor('int64', BigInt64Array.of(-5n, 2n ** 62n), [2])];
    found.int64 = [...(await clip.clip(tall, { min: 0, max: 2n ** 61n })).data as BigInt64Array].map(String);
    found.norm = await clip.clipByGlobalNorm([new ort.Tensor('float32', Float32Array.of(3, 4), [2])], { maxNorm: 1 });
    found.refused = await clip.clip(new ort.Tensor('bool', [true], [1]), {}).then(() => 'clipped', (error: ClipError) => error.code);
    return found;
}

async function ortTimes(sizes: readonly number[]) {
    const ort: Ort = await import('onnxruntime-web/webgpu');
    const theirs = await session(ort, clipModel(-1, 1));
    const clip = await OrtClip.create(ort);
    const device = clip.on.device!;
    const rows = [];
    for (const size of sizes) {
        const data = Float32Array.from({ length: size }, (_, n) => Math.sin(n) * 3);
        const { y: x } = await theirs.run({ x: new ort.Tensor('float32', data, [size]) }) as { y: import('onnxruntime-web').Tensor };
        const repeats = Math.max(1, Math.min(20, (1 << 22) / size));
        const run = (work: () => Promise<{ dispose(): void }>) => async () => {
            for (let n = 0; n < repeats; n++) (await work()).dispose();
            await device.queue.onSubmittedWorkDone();
        };
        const times = await inTurn(15, run(() => clip.clip(x, { min: -1, max: 1 })), run(async () => (await theirs.run({ x })).y!));
        rows.push({ size, forward: times.map((time) => time / repeats) });
    }
    return rows;
}

Object.assign(globalThis, { peers: { tfjs, tfjsTimes, ort, ortTimes } });
