import type { Core } from '../core.js';
import { ClipError } from '../errors.js';
import {
    type Backend, type Operation, type Slice, type SoftmaxOperation, isTensor, operationWords, shapeWords, sliceWords,
} from '../operation.js';
import { type Resolved, type ResolvedGpu, type ResolvedHost, type TensorInfo, bytesOfArray, isGpu } from '../operands.js';
import { Executor, type Loaded } from './executor.js';
import { MAP_MODE_READ, TENSOR_USAGE } from './flags.js';
import { Pool } from './pool.js';
import { Session, isAligned } from './session.js';

/** A GPU device, with its compiled kernels. */
export class GpuBackend implements Backend {
    readonly executor: Executor;
    readonly #pool: Pool;
    /** Callbacks of calls that wait for the device, for when it is lost. */
    readonly #waiting = new Set<(loss: ClipError) => void>();
    #loss: ClipError | undefined;
    /** The results of creating buffers for the next call. */
    #created: Promise<GPUError | null>[] = [];

    constructor(readonly core: Core, readonly device: GPUDevice) {
        this.executor = new Executor(core, device);
        this.#pool = new Pool(device);
        void device.lost.then(({ reason, message }) => {
            const loss = new ClipError('lost', `the GPU device was lost (${message || reason}): its buffers are gone, so upload again to another device`);
            this.#loss = loss;
            this.#waiting.forEach((tell) => tell(loss));
        });
    }

    get isLost(): boolean {
        return this.#loss !== undefined;
    }

    /** Waits for work of the device, or rejects if the device is lost. */
    #orLost<T>(work: Promise<T>): Promise<T> {
        // `Promise.race` with `device.lost` would keep every call in memory.
        return new Promise<T>((resolve, reject) => {
            this.#waiting.add(reject);
            work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
        });
    }

    /** The error behind a rejected promise of the device: it is lost, which it will report, or an internal error. */
    async #refused(cause: unknown): Promise<ClipError> {
        const later = new Promise((resolve) => setTimeout(resolve, 1000));
        await Promise.race([later, this.device.lost]);
        return this.#loss ?? new ClipError('internal', `the device failed (${String(cause)})`, { cause });
    }

    /** Runs code that creates, records and submits, and rejects with the errors that the device reports. */
    async #checked<T>(work: () => T): Promise<T> {
        const created = this.#created.splice(0);
        if (this.#loss) throw this.#loss;
        const { device } = this;
        FILTERS.forEach((filter) => device.pushErrorScope(filter));
        let done: { readonly value: T } | { readonly error: unknown };
        try {
            done = { value: work() };
        } catch (error) {
            done = { error };
        }
        // Scopes pop in reverse order.
        const scopes = Promise.allSettled([...FILTERS.map(() => device.popErrorScope()).reverse(), ...created]);
        const results = await this.#orLost(scopes);
        if (this.#loss) throw this.#loss;
        if ('error' in done) throw asClipError(done.error);
        const errors = new Map<Filter, GPUError>();
        for (const [n, result] of results.entries()) {
            if (result.status === 'rejected') throw await this.#refused(result.reason);
            if (result.value) errors.set(FILTERS[n] ?? 'out-of-memory', result.value);
        }
        // Errors that follow from out-of-memory are not the operands' fault.
        const filter = [...FILTERS].reverse().find((filter) => errors.has(filter));
        if (filter) {
            // Objects created meanwhile, also by other calls, may be invalid.
            this.#pool.clear();
            this.executor.forget();
            throw ofDevice(filter, errors.get(filter)!);
        }
        return done.value;
    }

    /** Records with a session, submits, and reads results for the page's memory. Nothing is written there before everything is read. */
    async #submit(work: (session: Session) => Loaded | undefined): Promise<void> {
        const session = new Session(this.executor, this.#pool);
        try {
            await this.#checked(() => {
                const loaded = work(session);
                const encoder = this.device.createCommandEncoder({ label: 'wgclip' });
                session.record(encoder, loaded);
                this.device.queue.submit([encoder.finish()]);
                session.close(true);
            });
            await this.#read(session.staged);
        } catch (error) {
            session.abandon();
            throw error;
        }
    }

    async #read(staged: Session['staged']): Promise<void> {
        const mapped = staged.map(({ buffer }) => buffer.mapAsync(MAP_MODE_READ));
        const results = await this.#orLost(Promise.allSettled(mapped));
        for (const result of results) if (result.status === 'rejected') throw await this.#refused(result.reason);
        if (staged.some(({ to }) => to.data.byteLength !== to.bytes)) {
            throw new ClipError('operand', 'an array was transferred or resized while it was to be written: keep it until the promise resolves');
        }
        for (const { to, buffer } of staged) {
            bytesOfArray(to.data).set(new Uint8Array(buffer.getMappedRange(), 0, to.bytes));
            buffer.unmap();
            this.#pool.give(buffer, true);
        }
    }

    #load(session: Session, operation: Operation): Loaded {
        const { executor } = this;
        const { inputs, outputs } = operation;
        const words = operationWords(this.core, operation, (tensor) => session.input(tensor));
        const taken = inputs.flatMap((input) => sliceWords(session.input(input, outputs.includes(input))));
        const made = outputs.flatMap((output) => (output ? [1, ...sliceWords(session.output(output))] : [0]));
        return executor.load('planOp', [...executor.limits, ...words, session.places.length, ...taken, ...made]);
    }

    #loadNorm(session: Session, limit: readonly number[], list: readonly Resolved[], scaling: Slice): Loaded {
        const words = list.flatMap((tensor) => {
            session.input(tensor, true);
            return [this.core.element(tensor.type), tensor.length, ...sliceWords(session.output(tensor))];
        });
        const request = [...this.executor.limits, ...limit, session.places.length, list.length, ...words, ...sliceWords(scaling)];
        return this.executor.load('planGlobalNorm', request);
    }

    async run(operation: Operation): Promise<void> {
        return this.#submit((session) => this.#load(session, operation));
    }

    maskBytes({ type, bytes }: Resolved): number {
        return this.core.words('planMask', [this.core.element(type), bytes])[0] ?? 0;
    }

    async copy(from: Resolved, to: Resolved): Promise<void> {
        return this.#submit((session) => void session.move(from, to));
    }

    async globalNorm(limit: readonly number[], list: readonly Resolved[]): Promise<{ norm: number; failed: boolean }> {
        if (list.some(({ type }) => type === 'float64')) {
            throw new ClipError('unsupported', 'norms of float64 are not taken on a GPU: use Clip.create({ on: \'cpu\' })');
        }
        const scaling: ResolvedHost = { data: new Float32Array(4), type: 'float32', shape: [4], length: 4, bytes: 16 };
        await this.#submit((session) => this.#loadNorm(session, limit, list, session.output(scaling)));
        const [norm, , , failed] = scaling.data as Float32Array;
        return { norm: norm ?? NaN, failed: failed !== 0 };
    }

    async softmax({ inputs, axes, output }: SoftmaxOperation): Promise<void> {
        const { type, shape } = output;
        const kept = shape.map((length, axis) => (axes.includes(axis) ? 1 : length));
        return this.#submit((session) => {
            const words = [inputs.length - 1, this.core.element(type), ...shapeWords(shape), ...shapeWords(kept)];
            const slices = [...inputs.map((input) => session.input(input)), session.output(output)].flatMap(sliceWords);
            return this.executor.load('planSoftmax', [...this.executor.limits, ...words, session.places.length, ...slices]);
        });
    }

    /** Records work over buffers with a caller's encoder, which the caller submits. The device reports errors to the caller. */
    #record(encoder: GPUCommandEncoder, work: (session: Session) => Loaded | undefined): void {
        const session = new Session(this.executor, this.#pool);
        try {
            session.record(encoder, work(session));
        } finally {
            session.close(false);
        }
    }

    record(encoder: GPUCommandEncoder, operation: Operation): void {
        this.#record(encoder, (session) => this.#load(session, operation));
    }

    recordCopy(encoder: GPUCommandEncoder, from: Resolved, to: Resolved): void {
        this.#record(encoder, (session) => void session.move(from, to));
    }

    /** Leaves the norm on the device, unread. */
    recordGlobalNorm(encoder: GPUCommandEncoder, limit: readonly number[], list: readonly Resolved[]): void {
        this.#record(encoder, (session) => this.#loadNorm(session, limit, list, session.borrow(16)));
    }

    /** An operation with fixed bindings to the caller's buffers. */
    async prepare(operation: Operation): Promise<(pass: GPUComputePassEncoder) => void> {
        const { inputs, broadcast, outputs } = operation;
        for (const tensor of [...inputs, ...broadcast, ...outputs]) {
            if (isTensor(tensor) && !(isGpu(tensor) && isAligned(this.device, tensor, outputs.includes(tensor)))) {
                throw new ClipError('operand', 'a prepared operation takes buffers where they are: each at an offset that is a multiple of '
                    + `${this.device.limits.minStorageBufferOffsetAlignment}, with a size of whole blocks of 16 bytes`);
            }
        }
        const session = new Session(this.executor, this.#pool);
        const loaded = await this.#checked(() => this.#load(session, operation));
        if (session.copies) throw new ClipError('operand', 'a prepared operation takes buffers where they are: two operands overlap');
        await this.#orLost(this.executor.compile(loaded.plan));
        return this.#checked(() => {
            const scratch = loaded.plan.scratch.map((size) => ({
                buffer: this.device.createBuffer({ label: 'wgclip scratch', size, usage: TENSOR_USAGE }), offset: 0,
            }));
            return this.executor.bind(loaded, [...session.places, ...scratch]);
        });
    }

    /** A new tensor. An out-of-memory error is reported when its call ends. */
    tensor(like: TensorInfo): ResolvedGpu {
        return this.#create(like, (size) => this.device.createBuffer({ label: 'wgclip tensor', size, usage: TENSOR_USAGE }));
    }

    /** The same in a buffer that may be reused, and a function that returns the buffer. */
    borrow(like: TensorInfo): [ResolvedGpu, () => void] {
        const tensor = this.#create(like, (size) => this.#pool.take(size, TENSOR_USAGE));
        return [tensor, () => this.#pool.give(tensor.buffer, true)];
    }

    #create({ type, shape, length, bytes }: TensorInfo, create: (size: number) => GPUBuffer): ResolvedGpu {
        const size = Math.max(Math.ceil(bytes / 16) * 16, 16);
        const { maxBufferSize } = this.device.limits;
        if (size > maxBufferSize) {
            throw new ClipError('unsupported', `a buffer of ${size} bytes is larger than this device allows (${maxBufferSize}): clip smaller parts, `
                + 'or ask for a device with its adapter\'s limits');
        }
        this.device.pushErrorScope('out-of-memory');
        const buffer = create(size);
        const error = this.device.popErrorScope();
        error.catch(() => {});
        this.#created.push(error);
        return { buffer, offset: 0, size, type, shape, length, bytes };
    }

    /** Destroys a tensor that is not needed. */
    drop(tensor: Resolved | undefined): void {
        if (tensor && isGpu(tensor)) tensor.buffer.destroy();
    }

    freeBuffers(): void {
        this.#pool.clear();
    }
}

/** The errors that a device may report, with their codes for the caller. */
const FILTERS = ['validation', 'internal', 'out-of-memory'] as const;

type Filter = (typeof FILTERS)[number];

const REPORTS = {
    validation: ['operand', 'the device refused an operand: buffers have to be of this device, not mapped and not destroyed'],
    internal: ['internal', 'the device failed'],
    'out-of-memory': ['out-of-memory', 'the GPU has no memory left: destroy tensors, or clip smaller parts'],
} as const;

/** The error that an engine throws for foreign objects as operands. */
function asClipError(error: unknown): unknown {
    if (error instanceof ClipError) return error;
    return new ClipError('operand', `the device refused an operand (${String(error)})`, { cause: error });
}

function ofDevice(filter: Filter, { message }: GPUError): ClipError {
    const [code, advice] = REPORTS[filter];
    return new ClipError(code, `${advice} (${message})`);
}
