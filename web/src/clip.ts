import { CpuBackend } from './cpu.js';
import type { OpRow } from './core.js';
import { type Arrays, type ElementType, type TypedArray, asArray } from './elements.js';
import { ClipError } from './errors.js';
import { GpuBackend } from './gpu/backend.js';
import { Mask, checkedMask, maskBits } from './mask.js';
import { loadCpu, loadPlan } from './modules.js';
import type { Backend } from './operation.js';
import { type GpuTensor, type HostTensor, type Operand, checkAlike, resolve } from './operands.js';
import { type NamedOperands, type NamedOutputs, listed } from './list.js';
import { type PreparedOperands, operation } from './prepare.js';
import { type MadeGpu, check, given, gradientOf, kept, makeLike, output, pair, resolveBounds } from './results.js';
import type { Bounds, NormLimit, Rule, RulePreset, RuledBounds } from './rules.js';

/** The output of an operation. */
export interface Into<X> {
    /** An operand with x's type and number of elements; x or the gradient itself works in place. By default a new one. */
    readonly out?: X | undefined;
}

/** The gradients of x and its bounds. The gradient of a scalar bound has one element; an absent bound has no gradient. */
export interface Gradients<Y> {
    readonly x: Y;
    readonly min: Y | undefined;
    readonly max: Y | undefined;
}

/** The clipped tensor, and the mask for its backward pass. */
export interface Masked<Y> {
    readonly y: Y;
    readonly mask: Mask;
}

/** An array of elements, optionally with its type and shape. */
export type Host<A extends TypedArray> = A | HostTensor<A>;

/** A prepared operation: records its kernels in the page's own pass. */
export type Prepared = (pass: GPUComputePassEncoder) => void;

/** How a Clip is created. */
export interface CreateOptions {
    /** Options for requesting the adapter. */
    readonly adapter?: GPURequestAdapterOptions;
    /** `'cpu'` uses no GPU; `'gpu'` fails without one; by default the CPU is the fallback. */
    readonly on?: 'gpu' | 'cpu';
}

/**
 * Clips tensors, on a GPU device or on the CPU, with the same bits.
 *
 * If an operation fails, it rejects with a {@link ClipError} and changes nothing. On a GPU it resolves when the device has accepted the work (buffers)
 * or when the result has been read (arrays). Work is recorded at the call, in call order.
 */
export class Clip {
    #backend: Backend;
    #opening: Promise<Backend> | undefined;
    readonly #open: () => Promise<Backend>;

    private constructor(backend: Backend, open: () => Promise<Backend>) {
        this.#backend = backend;
        this.#open = open;
    }

    /** Uses the page's own device. Once it is lost, every call fails. */
    static async on(device: GPUDevice): Promise<Clip> {
        if (typeof (device as Partial<GPUDevice> | undefined)?.createBuffer !== 'function') throw new ClipError('operand', 'Clip.on takes a GPUDevice');
        const backend = new GpuBackend(await loadPlan(), device);
        return new Clip(backend, async () => backend);
    }

    /** Opens its own device, with the limits of its adapter, and reopens it if it is lost; or uses the CPU. */
    static async create({ adapter: options, on }: CreateOptions = {}): Promise<Clip> {
        const open = async (): Promise<Backend> => {
            if (on === 'cpu') return new CpuBackend(await loadCpu());
            try {
                return new GpuBackend(await loadPlan(), await openDevice(options));
            } catch (error) {
                if (on === 'gpu') throw error;
                return new CpuBackend(await loadCpu());
            }
        };
        return new Clip(await open(), open);
    }

    /** Its device, if it has one. */
    get device(): GPUDevice | undefined {
        return this.#backend instanceof GpuBackend ? this.#backend.device : undefined;
    }

    /** Whether it clips on a GPU. */
    get isOnGpu(): boolean {
        return this.#backend instanceof GpuBackend;
    }

    /** The settings of a framework's rule. */
    choices(rule: RulePreset | Rule): Required<Rule> {
        const { core } = this.#backend;
        return core.choices(core.rule(rule));
    }

    /** @internal */
    get backend(): Backend {
        return this.#backend;
    }

    /** Runs work immediately, or on a new device if its own was lost. */
    async #with<T>(work: (backend: Backend) => Promise<T>): Promise<T> {
        const backend = this.#backend;
        if (!(backend instanceof GpuBackend && backend.isLost)) return work(backend);
        // All calls that find the device lost share one new device.
        this.#opening ??= this.#open().then((opened) => (this.#backend = opened)).finally(() => (this.#opening = undefined));
        return work(await this.#opening);
    }

    /** The elements of a tensor in a buffer, as an array (of raw bits if JavaScript has no array of the type). */
    read<T extends ElementType>(tensor: GpuTensor & { readonly type: T }): Promise<Arrays[T]>;
    async read(tensor: GpuTensor): Promise<TypedArray> {
        const from = resolve('the tensor', tensor);
        const { type, shape, length, bytes } = from;
        const data = asArray(new ArrayBuffer(bytes), type);
        await this.#with((backend) => backend.copy(from, { data, type, shape, length, bytes }));
        return data;
    }

    /** `min(max(x, min), max)`, with the exact bits of x or of a bound. */
    clip<A extends TypedArray>(x: Host<A>, bounds: Bounds, into?: Into<Host<A>>): Promise<A>;
    clip(x: GpuTensor, bounds: Bounds, into?: Into<GpuTensor>): Promise<MadeGpu>;
    clip(x: Operand, bounds: Bounds, into?: Into<Operand>): Promise<TypedArray | MadeGpu>;
    async clip(x: Operand, bounds: Bounds, into?: Into<Operand>): Promise<TypedArray | MadeGpu> {
        const out = into?.out;
        const from = resolve('x', x);
        const sides = resolveBounds(from, bounds);
        return this.#with((backend) => {
            check(backend, from, sides);
            const y = output(backend, out, from, x, [from]);
            return kept(backend, out ? [] : [y], async () => {
                await backend.run({ op: 'clip', rule: 0, x: from, inputs: [from], broadcast: sides, outputs: [y] });
                return given(y);
            });
        });
    }

    /** The same, in place. */
    clipInPlace<A extends TypedArray>(x: Host<A>, bounds: Bounds): Promise<A>;
    clipInPlace(x: GpuTensor, bounds: Bounds): Promise<MadeGpu>;
    clipInPlace(x: Operand, bounds: Bounds): Promise<TypedArray | MadeGpu>;
    async clipInPlace(x: Operand, bounds: Bounds): Promise<TypedArray | MadeGpu> {
        return this.clip(x, bounds, { out: x });
    }

    /** The gradient of x, for the upstream gradient g. */
    clipBackward<A extends TypedArray>(x: Operand, g: Host<A>, bounds: RuledBounds, into?: Into<Host<A>>): Promise<A>;
    clipBackward(x: Operand, g: GpuTensor, bounds: RuledBounds, into?: Into<GpuTensor>): Promise<MadeGpu>;
    clipBackward(x: Operand, g: Operand, bounds: RuledBounds, into?: Into<Operand>): Promise<TypedArray | MadeGpu>;
    async clipBackward(x: Operand, g: Operand, bounds: RuledBounds, into?: Into<Operand>): Promise<TypedArray | MadeGpu> {
        const out = into?.out;
        const [from, upstream] = pair(x, g);
        const sides = resolveBounds(from, bounds);
        return this.#with((backend) => {
            const rule = backend.core.rule(bounds.rule);
            check(backend, from, sides);
            const gx = output(backend, out, upstream, g, [upstream]);
            return kept(backend, out ? [] : [gx], async () => {
                if (!backend.core.isIdentity(rule)) {
                    await backend.run({ op: 'clip_backward', rule, x: from, inputs: [from, upstream], broadcast: sides, outputs: [gx] });
                } else if (gx !== upstream) {
                    await backend.copy(upstream, gx);
                }
                return given(gx);
            });
        });
    }

    /** The gradients of x and its bounds, for the upstream gradient g. Those of bounds are exact sums over the elements that they broadcast to. */
    clipBackwardBounds<A extends TypedArray>(x: Operand, g: Host<A>, bounds: RuledBounds): Promise<Gradients<A>>;
    clipBackwardBounds(x: Operand, g: GpuTensor, bounds: RuledBounds): Promise<Gradients<MadeGpu>>;
    clipBackwardBounds(x: Operand, g: Operand, bounds: RuledBounds): Promise<Gradients<TypedArray | MadeGpu>>;
    async clipBackwardBounds(x: Operand, g: Operand, bounds: RuledBounds): Promise<Gradients<TypedArray | MadeGpu>> {
        const [from, upstream] = pair(x, g);
        const sides = resolveBounds(from, bounds);
        return this.#with((backend) => {
            const rule = backend.core.rule(bounds.rule);
            check(backend, from, sides);
            const like = [upstream, ...sides.map((side) => (side === undefined ? undefined : gradientOf(side, upstream)))];
            const made = like.map((tensor) => tensor && makeLike(backend, tensor, g));
            const identity = backend.core.isIdentity(rule);
            const outputs = identity ? [undefined, made[1], made[2]] : made;
            return kept(backend, made, async () => {
                const work = [];
                if (identity) work.push(backend.copy(upstream, made[0]!));
                if (outputs.some((output) => output !== undefined)) {
                    work.push(backend.run({ op: 'clip_backward_bounds', rule, x: from, inputs: [from, upstream], broadcast: sides, outputs }));
                }
                await Promise.all(work);
                const [gx, min, max] = made.map((tensor) => tensor && given(tensor));
                return { x: gx!, min, max };
            });
        });
    }

    /** Clips, and keeps one bit per element for the backward pass. Not for rules that one bit cannot represent. */
    clipWithMask<A extends TypedArray>(x: Host<A>, bounds: RuledBounds, into?: Into<Host<A>>): Promise<Masked<A>>;
    clipWithMask(x: GpuTensor, bounds: RuledBounds, into?: Into<GpuTensor>): Promise<Masked<MadeGpu>>;
    clipWithMask(x: Operand, bounds: RuledBounds, into?: Into<Operand>): Promise<Masked<TypedArray | MadeGpu>>;
    async clipWithMask(x: Operand, bounds: RuledBounds, into?: Into<Operand>): Promise<Masked<TypedArray | MadeGpu>> {
        const out = into?.out;
        const from = resolve('x', x);
        const sides = resolveBounds(from, bounds);
        return this.#with(async (backend) => {
            const rule = backend.core.rule(bounds.rule);
            check(backend, from, sides);
            const y = output(backend, out, from, x, []);
            const bits = maskBits(backend, from);
            return kept(backend, out ? [bits] : [y, bits], async () => {
                await backend.run({ op: 'clip_with_mask', rule, x: from, inputs: [from], broadcast: sides, outputs: [y, bits] });
                return { y: given(y), mask: new Mask(bits, from, backend) };
            });
        });
    }

    /** The gradient of x by a mask: g where its bit is set, else 0. */
    maskBackward<A extends TypedArray>(mask: Mask, g: Host<A>, into?: Into<Host<A>>): Promise<A>;
    maskBackward(mask: Mask, g: GpuTensor, into?: Into<GpuTensor>): Promise<MadeGpu>;
    maskBackward(mask: Mask, g: Operand, into?: Into<Operand>): Promise<TypedArray | MadeGpu>;
    async maskBackward(mask: Mask, g: Operand, into?: Into<Operand>): Promise<TypedArray | MadeGpu> {
        const out = into?.out;
        const upstream = resolve('g', g);
        const { backend, bits, of } = checkedMask(mask);
        checkAlike('g', upstream, 'the tensor of the mask', of);
        const gx = output(backend, out, upstream, g, [upstream]);
        return kept(backend, out ? [] : [gx], async () => {
            await backend.run({
                op: 'mask_backward', rule: 0, x: upstream, inputs: [bits, upstream], broadcast: [], outputs: [gx],
            });
            return given(gx);
        });
    }

    /**
     * Scales float tensors, in place, so that their common norm is at most a limit. Resolves to their previous norm, exact and rounded
     * once: the same on every device and in any order.
     */
    async clipByGlobalNorm(tensors: readonly Operand[], limit: NormLimit): Promise<number> {
        if (!Array.isArray(tensors)) throw new ClipError('operand', 'give a list of tensors: [w, b]');
        const list = tensors.map((tensor, n) => resolve(`tensor ${n}`, tensor));
        const { norm, failed } = await this.#with(async (backend) => backend.globalNorm(backend.core.limit(limit), list));
        if (failed) {
            throw new ClipError('nonfinite', `the norm is ${norm}, so nothing was clipped by it: look for the source of such elements, or choose what else `
                + 'becomes of them', { cause: norm });
        }
        return norm;
    }

    /**
     * `exp(x)` divided by its sum along axes (by default the last one), for floats of up to 32 bits: an exact sum and quotients that are rounded once, so the same
     * bits on every device. `-Infinity` gives 0; a slice with NaN or Infinity gives NaN.
     */
    softmax<A extends TypedArray>(x: Host<A>, axes?: readonly number[]): Promise<A>;
    softmax(x: GpuTensor, axes?: readonly number[]): Promise<MadeGpu>;
    softmax(x: Operand, axes?: readonly number[]): Promise<TypedArray | MadeGpu>;
    async softmax(x: Operand, axes: readonly number[] = [-1]): Promise<TypedArray | MadeGpu> {
        const from = resolve('x', x);
        const along = axesOf(from.shape, axes);
        return this.#with((backend) => {
            const y = makeLike(backend, from, x);
            return kept(backend, [y], async () => {
                await backend.softmax({ inputs: [from], axes: along, output: y });
                return given(y);
            });
        });
    }

    /** The gradient of x from the result `y = softmax(x, axes)`, for the upstream gradient g. */
    softmaxBackward<A extends TypedArray>(y: Operand, g: Host<A>, axes?: readonly number[]): Promise<A>;
    softmaxBackward(y: Operand, g: GpuTensor, axes?: readonly number[]): Promise<MadeGpu>;
    softmaxBackward(y: Operand, g: Operand, axes?: readonly number[]): Promise<TypedArray | MadeGpu>;
    async softmaxBackward(y: Operand, g: Operand, axes: readonly number[] = [-1]): Promise<TypedArray | MadeGpu> {
        const [from, upstream] = pair(y, g);
        const along = axesOf(from.shape, axes);
        return this.#with((backend) => {
            const gx = makeLike(backend, upstream, g);
            return kept(backend, [gx], async () => {
                await backend.softmax({ inputs: [from, upstream], axes: along, output: gx });
                return given(gx);
            });
        });
    }

    /**
     * Runs an operation of the library's list by name, with its operands by name as listed by {@link operations}: for operations without their own
     * method here. Resolves to its outputs by name.
     *
     * ```ts
     * const { y } = await clip.run('affine', { x: Float32Array.of(1, 2), scale: 2, offset: 0.5 });  // 2.5, 4.5
     * ```
     */
    async run(name: string, operands: NamedOperands): Promise<NamedOutputs> {
        return this.#with(async (backend) => {
            const { operation, given } = listed(backend, name, operands);
            return kept(backend, operation.outputs, async () => {
                await backend.run(operation);
                return given();
            });
        });
    }

    /** The library's list of operations. */
    get operations(): readonly OpRow[] {
        return this.#backend.core.names.ops;
    }

    /** Prepares an operation over fixed buffers, which can be recorded in the page's own pass any number of times. It is compiled when this resolves. */
    async prepare(operands: PreparedOperands): Promise<Prepared> {
        return this.#with(async (backend) => {
            if (!(backend instanceof GpuBackend)) throw new ClipError('no-webgpu', 'there is no GPU device to prepare an operation on');
            return backend.prepare(operation(backend, operands));
        });
    }

    /** Allocates the mask of a tensor in a buffer, for a prepared operation. */
    async maskFor(x: GpuTensor): Promise<Mask> {
        const of = resolve('x', x);
        return this.#with(async (backend) => new Mask(maskBits(backend, of), of, backend));
    }

    /** Frees the buffers that are kept for later calls. */
    freeBuffers(): void {
        if (this.#backend instanceof GpuBackend) this.#backend.freeBuffers();
    }
}

/** Axes of a shape, counted from 0. */
function axesOf(shape: readonly number[], axes: readonly number[]): number[] {
    const along = axes.map((axis) => (axis < 0 ? axis + shape.length : axis));
    if (along.some((axis, n) => !(Number.isInteger(axis) && axis >= 0 && axis < shape.length) || along.indexOf(axis) !== n)) {
        throw new ClipError('shape', `a tensor of shape [${shape.join(', ')}] has no axes [${axes.join(', ')}]: name each once, from 0, or from the end by -1`);
    }
    return along;
}

async function openDevice(options?: GPURequestAdapterOptions): Promise<GPUDevice> {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter(options);
    if (!adapter) throw new ClipError('no-webgpu', 'there is no WebGPU adapter: use a browser that has one, or the CPU');
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
    try {
        return await adapter.requestDevice({ label: 'wgclip', requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
    } catch (cause) {
        throw new ClipError('no-webgpu', `the WebGPU adapter gave no device (${String(cause)}): try again, or use the CPU`, { cause });
    }
}
