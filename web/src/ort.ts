/**
 * Clipping of ONNX Runtime Web tensors: those in GPU buffers without a copy, on the device of its WebGPU backend.
 *
 * ```ts
 * import * as ort from 'onnxruntime-web/webgpu';
 * import { OrtClip } from 'wgclip/ort';
 *
 * const session = await ort.InferenceSession.create(model, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
 * const clip = await OrtClip.create(ort);            // once there is a session
 * const { logits } = await session.run(feeds);
 * const clipped = await clip.clip(logits, { min: -10, max: 10 });
 * ```
 * @packageDocumentation
 */

import type * as Ort from 'onnxruntime-web';
import { Clip } from './clip.js';
import { type TypedArray, checkedType } from './elements.js';
import { ClipError } from './errors.js';
import type { GpuBackend } from './gpu/backend.js';
import { type GpuTensor, type HostTensor, type Operand, resolve } from './operands.js';
import type { Bounds, NormLimit, RuledBounds } from './rules.js';

/** The part of the module that is used. It is passed in, since each of its entry points has its own classes. */
export type OrtModule = Pick<typeof Ort, 'env' | 'Tensor'>;

/** Bounds that may also be ONNX Runtime tensors. */
export type OrtBounds<B extends Bounds = Bounds> = Omit<B, 'min' | 'max'> & {
    readonly min?: number | bigint | Ort.Tensor | undefined;
    readonly max?: number | bigint | Ort.Tensor | undefined;
};

/** Clips tensors of ONNX Runtime Web. */
export class OrtClip {
    private constructor(readonly ort: OrtModule, readonly on: Clip) {}

    /** Uses the device of ONNX Runtime's WebGPU backend, which exists once a session was created. */
    static async create(ort: OrtModule): Promise<OrtClip> {
        const device = await ort.env.webgpu?.device as GPUDevice | undefined;
        if (!device) throw new ClipError('no-webgpu', 'ONNX Runtime has no WebGPU device yet: create a session with the execution provider webgpu before');
        return new OrtClip(ort, await Clip.on(device));
    }

    /** `min(max(x, min), max)`, as a new tensor in the same location as x. */
    async clip(x: Ort.Tensor, bounds: OrtBounds): Promise<Ort.Tensor> {
        return this.#made(x, (x, out) => this.on.clip(x, resolved(bounds), { out }));
    }

    /** The gradient of x, for the upstream gradient g, in the same location as g. */
    async clipBackward(x: Ort.Tensor, g: Ort.Tensor, bounds: OrtBounds<RuledBounds>): Promise<Ort.Tensor> {
        return this.#made(g, (g, out) => this.on.clipBackward(operand(x), g, resolved(bounds), { out }));
    }

    /** Scales float tensors, in place, so that their common norm is at most a limit. Resolves to their previous norm. */
    async clipByGlobalNorm(tensors: readonly Ort.Tensor[], limit: NormLimit): Promise<number> {
        return this.on.clipByGlobalNorm(tensors.map(operand), limit);
    }

    /** A tensor like another, in the same location. Disposing of one in a buffer returns the buffer for reuse. */
    async #made(like: Ort.Tensor, run: (like: Operand, out: Operand | undefined) => Promise<unknown>): Promise<Ort.Tensor> {
        const { type, dims } = like;
        const given = operand(like);
        if (!('buffer' in given)) return new this.ort.Tensor(type, await run(given, undefined) as Float32Array, dims) as Ort.Tensor;
        const [tensor, giveBack] = (this.on.backend as GpuBackend).borrow(resolve('the tensor', given));
        try {
            await run(given, tensor);
        } catch (error) {
            giveBack();
            throw error;
        }
        return this.ort.Tensor.fromGpuBuffer(tensor.buffer as never, {
            dataType: type as Ort.Tensor.GpuBufferDataTypes, dims: [...dims], dispose: giveBack, download: () => this.on.read(tensor) as Promise<never>,
        });
    }
}

function operand(tensor: Ort.Tensor): Operand {
    const [type, shape] = [checkedType('the tensor', tensor.type), tensor.dims];
    if (tensor.location === 'gpu-buffer') return { buffer: tensor.gpuBuffer as unknown as GPUBuffer, type, shape } satisfies GpuTensor;
    return { data: tensor.data as unknown as TypedArray, type, shape } satisfies HostTensor;
}

function resolved<B extends Bounds>({ min, max, ...rest }: OrtBounds<B>): B {
    const bound = (value: number | bigint | Ort.Tensor | undefined) => typeof value === 'object' ? operand(value) : value;
    return { ...rest, min: bound(min), max: bound(max) } as unknown as B;
}
