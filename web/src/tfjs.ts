/**
 * Clipping of TensorFlow.js tensors on its WebGPU backend: in its own buffers and command encoder, without copies, and with gradients.
 *
 * ```ts
 * import * as tf from '@tensorflow/tfjs-core';
 * import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
 * import '@tensorflow/tfjs-backend-webgpu';
 * import { TfClip } from 'wgclip/tfjs';
 *
 * await tf.setBackend('webgpu');
 * const clip = await TfClip.create();
 * const y = clip.clipByValue(x, 0, 1);
 * const dx = tf.grad((x) => tf.sum(clip.clipByValue(x, 0, 1)))(x);
 * ```
 * @packageDocumentation
 */

import type { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import { Clip } from './clip.js';
import type { Op } from './core.js';
import type { ElementType } from './elements.js';
import { ClipError } from './errors.js';
import { GpuBackend } from './gpu/backend.js';
import type { ResolvedBound } from './operation.js';
import type { ResolvedGpu } from './operands.js';
import type { NormLimit, Rule, RulePreset } from './rules.js';

/** A bound: a number, or a tensor that broadcasts to x and has a gradient. */
export type TfBound = number | tf.Tensor | undefined;

/** The needed parts of the backend's command interface, which its types do not export. */
type Commands = { readonly commandEncoder: GPUCommandEncoder };

/** Clips tensors of the WebGPU backend of TensorFlow.js. */
export class TfClip {
    private constructor(readonly backend: WebGPUBackend, readonly gpu: GpuBackend) {}

    /** Uses the WebGPU backend, which must be the current one. */
    static async create(): Promise<TfClip> {
        await tf.ready();
        const backend = tf.backend() as WebGPUBackend;
        if (tf.getBackend() !== 'webgpu' || !backend.device) {
            throw new ClipError('no-webgpu', `the backend of TensorFlow.js is '${tf.getBackend()}': call await tf.setBackend('webgpu') before`);
        }
        const clip = await Clip.on(backend.device);
        return new TfClip(backend, clip.backend as GpuBackend);
    }

    /**
     * `min(max(x, min), max)`, with the exact bits of x or of a bound. Differentiable in x and in bounds that are tensors, by default with the
     * rule of `tf.clipByValue`.
     */
    clipByValue<T extends tf.Tensor>(x: T, min: TfBound, max: TfBound, rule: RulePreset | Rule = 'tfjs'): T {
        const number = this.gpu.core.rule(rule);
        [min, max] = [min ?? undefined, max ?? undefined];
        const bounds = [min, max].filter((bound): bound is tf.Tensor => typeof bound === 'object');
        const between = (x: tf.Tensor, tensors: tf.Tensor[]): [ResolvedBound, ResolvedBound] => {
            let used = 0;
            const one = (bound: TfBound): ResolvedBound => typeof bound === 'object' ? this.#operand(tensors[used++]!, x) : bound;
            return [one(min), one(max)];
        };
        const op = tf.customGrad((...args) => {
            const [save, inputs] = [args[args.length - 1] as tf.GradSaveFunc, args.slice(0, -1) as tf.Tensor[]];
            const [x, ...tensors] = inputs as [tf.Tensor, ...tf.Tensor[]];
            save(inputs);
            const from = this.#operand(x);
            const value = this.#run('clip', 0, from, [from], between(x, tensors), [x])[0]!;
            const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]): tf.Tensor | tf.Tensor[] => {
                const [x, ...tensors] = saved as [tf.Tensor, ...tf.Tensor[]];
                const [from, g] = [this.#operand(x), this.#operand(dy)];
                if (tensors.length === 0) {
                    if (this.gpu.core.isIdentity(number)) return dy.clone();
                    return this.#run('clip_backward', number, from, [from, g], between(x, tensors), [x])[0]!;
                }
                return this.#withBounds(number, x, dy, from, g, [min, max], tensors, between(x, tensors));
            };
            return { value, gradFunc };
        });
        return op(x, ...bounds) as T;
    }

    #withBounds(
        rule: number, x: tf.Tensor, dy: tf.Tensor, from: ResolvedGpu, g: ResolvedGpu, sides: [TfBound, TfBound], tensors: tf.Tensor[],
        bounds: [ResolvedBound, ResolvedBound],
    ): tf.Tensor[] {
        const identity = this.gpu.core.isIdentity(rule);
        let used = 0;
        const like = sides.map((side) => typeof side === 'object' ? tensors[used++] : undefined);
        const made = this.#run('clip_backward_bounds', rule, from, [from, g], bounds, [identity ? undefined : x, ...like]);
        return [made[0] ?? dy.clone(), ...made.slice(1).filter((gradient) => gradient !== undefined)];
    }

    /**
     * Scales gradients so that their common norm is at most a limit, as new tensors. The norm is not read back: it stays on the device.
     * A norm that is NaN or infinite follows `nonfinite`; with the error policy the gradients are kept unchanged.
     */
    clipByGlobalNorm<T extends tf.Tensor>(gradients: readonly T[], limit: NormLimit): T[] {
        if (!Array.isArray(gradients)) throw new ClipError('operand', 'give a list of tensors: [dw, db]');
        return tf.tidy(() => {
            const copies = gradients.map((gradient) => this.#copy(gradient));
            const norm = this.gpu.core.limit(limit);
            this.gpu.recordGlobalNorm(this.#encoder(), norm, copies.map((copy) => this.#operand(copy)));
            return copies as T[];
        });
    }

    #copy(x: tf.Tensor): tf.Tensor {
        const [from, [to, copy]] = [this.#operand(x), this.#output(x)];
        this.gpu.recordCopy(this.#encoder(), from, to);
        return copy;
    }

    /** The backend's command encoder. */
    #encoder(): GPUCommandEncoder {
        this.backend.ensureCommandEncoderReady();
        this.backend.endComputePassEncoder();
        return (this.backend as unknown as Commands).commandEncoder;
    }

    #run(
        op: Op, rule: number, x: ResolvedGpu, inputs: ResolvedGpu[], bounds: [ResolvedBound, ResolvedBound], like: (tf.Tensor | undefined)[],
    ): (tf.Tensor | undefined)[] {
        const made = like.map((tensor) => tensor && this.#output(tensor));
        if (x.length > 0) {
            this.gpu.record(this.#encoder(), { op, rule, x, inputs, broadcast: bounds, outputs: made.map((output) => output?.[0]) });
        }
        return made.map((output) => output?.[1]);
    }

    #type(tensor: tf.Tensor): ElementType {
        if (tensor.dtype === 'float32' || tensor.dtype === 'int32') return tensor.dtype;
        throw new ClipError('operand', `a tensor of ${tensor.dtype} cannot be clipped: cast it to float32 or int32`);
    }

    /** The buffer of a tensor. */
    #operand(tensor: tf.Tensor, like?: tf.Tensor): ResolvedGpu {
        const type = this.#type(tensor);
        if (like && tensor.dtype !== like.dtype) {
            throw new ClipError('shape', `a bound holds ${tensor.dtype}, but x ${like.dtype}: cast it`);
        }
        const { shape, size: length } = tensor;
        const bytes = 4 * length;
        // An empty tensor has no buffer.
        if (length === 0) return { buffer: undefined as never, offset: 0, size: 0, type, shape, length, bytes };
        this.backend.uploadToGPU(tensor.dataId);
        const buffer = this.backend.tensorMap.get(tensor.dataId).resource as GPUBuffer;
        return { buffer, offset: 0, size: buffer.size, type, shape, length, bytes };
    }

    /** A new tensor, in a buffer from the backend's own pool. The buffer has exactly the tensor's size, as the backend assumes. */
    #output({ shape, dtype, size }: tf.Tensor): [ResolvedGpu, tf.Tensor] {
        // An empty one has no buffer.
        const made = size > 0 ? undefined : dtype === 'int32' ? new Int32Array(0) : new Float32Array(0);
        const tensor = tf.engine().makeTensorFromTensorInfo(this.backend.makeTensorInfo(shape, dtype, made));
        return [this.#operand(tensor), tensor];
    }
}
