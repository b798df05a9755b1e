import { TENSOR_USAGE } from '../src/gpu/flags.js';
import type { Clip, GpuTensor } from '../src/index.js';

/** Times of a clip and a copy, in milliseconds per operation. */
export interface Measured {
    readonly elements: number;
    readonly clip: number;
    readonly copy: number;
}

const SIZES = [4096, 1 << 20, 16 << 20];
const ROUNDS = 9;

function median(times: number[]): number {
    return times.toSorted((a, b) => a - b)[times.length >> 1]!;
}

/** Measures both alternately, so that other load on the machine affects both. */
export async function measure(clip: Clip, progress: (row: Measured) => void): Promise<void> {
    const device = clip.device!;
    for (const elements of SIZES) {
        const size = 4 * elements;
        const tensor = (): GpuTensor => ({ buffer: device.createBuffer({ size, usage: TENSOR_USAGE }), type: 'float32' });
        const [x, y] = [tensor(), tensor()];
        const values = Float32Array.from({ length: elements }, (_, n) => Math.sin(n) * 3);
        device.queue.writeBuffer(x.buffer, 0, values);
        const record = await clip.prepare({ op: 'clip', x, y, min: -1, max: 1 });
        // Many short ones, so that the submission is a small part of the time.
        const repeats = Math.max(1, Math.min(64, (1 << 22) / elements));
        const timed = async (record: (encoder: GPUCommandEncoder) => void): Promise<number> => {
            const start = performance.now();
            const encoder = device.createCommandEncoder();
            for (let n = 0; n < repeats; n++) record(encoder);
            device.queue.submit([encoder.finish()]);
            await device.queue.onSubmittedWorkDone();
            return (performance.now() - start) / repeats;
        };
        const clipped = (encoder: GPUCommandEncoder): void => {
            const pass = encoder.beginComputePass();
            record(pass);
            pass.end();
        };
        const copied = (encoder: GPUCommandEncoder): void => encoder.copyBufferToBuffer(x.buffer, 0, y.buffer, 0, size);
        const times: { clip: number[]; copy: number[] } = { clip: [], copy: [] };
        for (let round = 0; round < ROUNDS; round++) {
            times.clip.push(await timed(clipped));
            times.copy.push(await timed(copied));
        }
        progress({ elements, clip: median(times.clip), copy: median(times.copy) });
        [x, y].forEach(({ buffer }) => buffer.destroy());
    }
}
