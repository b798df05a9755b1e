import { ClipError } from '../errors.js';
import type { Slice } from '../operation.js';
import { type Resolved, type ResolvedGpu, type ResolvedHost, bytesOfArray, isGpu } from '../operands.js';
import type { Executor, Loaded, Place } from './executor.js';
import { READ_USAGE, TENSOR_USAGE } from './flags.js';
import type { Pool } from './pool.js';

type Recording = (encoder: GPUCommandEncoder) => void;

/** The operands of one call: bindings, copies before and after, buffers to read, and buffers to return. */
export class Session {
    readonly places: Place[] = [];
    /** Readback copies, with the destinations of their bytes. */
    readonly staged: { readonly to: ResolvedHost; readonly buffer: GPUBuffer }[] = [];
    readonly #slices = new Map<Resolved, Slice>();
    readonly #bound: ResolvedGpu[] = [];
    readonly #borrowed: GPUBuffer[] = [];
    readonly #before: Recording[] = [];
    readonly #after: Recording[] = [];

    constructor(readonly executor: Executor, readonly pool: Pool) {}

    /** A buffer from the pool, until the call is recorded. */
    borrow(bytes: number): Slice {
        const buffer = this.pool.take(bytes, TENSOR_USAGE);
        this.#borrowed.push(buffer);
        return this.#place({ buffer, offset: 0 }, bytes);
    }

    #place(place: Place, bytes: number): Slice {
        const operand = this.places.push(place) - 1;
        // A kernel binds at least one block.
        return { operand, offset: 0, bytes: Math.max(wholeBlocks(bytes), 16) };
    }

    /** Whether a kernel can use a tensor without a copy: a range bound for writing must not be bound twice. */
    #isDirect(tensor: ResolvedGpu, isWritten: boolean): boolean {
        const end = ({ offset, bytes }: ResolvedGpu): number => offset + Math.max(wholeBlocks(bytes), 16);
        const overlaps = (other: ResolvedGpu): boolean =>
            other.buffer === tensor.buffer && other.offset < end(tensor) && tensor.offset < end(other);
        return isAligned(this.executor.device, tensor, isWritten) && !this.#bound.some(overlaps);
    }

    /** An operand with its elements, which may be overwritten. */
    input(tensor: Resolved, isWritten = false): Slice {
        return this.#slice(tensor, isWritten, (buffer) => {
            if (!isGpu(tensor)) return upload(this.executor.device, buffer, tensor);
            this.#copy(this.#before, { buffer: tensor.buffer, offset: tensor.offset }, { buffer, offset: 0 }, tensor);
        });
    }

    /** An operand that receives elements. */
    output(tensor: Resolved): Slice {
        const slice = this.#slice(tensor, true, () => {});
        const from = this.places[slice.operand]!;
        if (!isGpu(tensor)) {
            const buffer = this.pool.take(tensor.bytes, READ_USAGE);
            this.#copy(this.#after, from, { buffer, offset: 0 }, tensor);
            this.staged.push({ to: tensor, buffer });
        } else if (from.buffer !== tensor.buffer) {
            if (wholeWords(tensor.bytes) > tensor.size) {
                throw new ClipError('operand', `a part of ${tensor.size} bytes cannot be written: give it a size that is a multiple of 4, of which the rest `
                    + 'may be written too');
            }
            this.#copy(this.#after, from, { buffer: tensor.buffer, offset: tensor.offset }, tensor);
        }
        return slice;
    }

    /** An operand without a copy, or a temporary buffer, which `fill` fills with the elements. */
    #slice(tensor: Resolved, isWritten: boolean, fill: (buffer: GPUBuffer) => void): Slice {
        const known = this.#slices.get(tensor);
        if (known) return known;
        let slice;
        if (isGpu(tensor) && this.#isDirect(tensor, isWritten)) {
            this.#bound.push(tensor);
            slice = this.#place(tensor, tensor.bytes);
        } else {
            slice = this.borrow(tensor.bytes);
            fill(this.places[slice.operand]!.buffer);
        }
        this.#slices.set(tensor, slice);
        return slice;
    }

    /** Copies the elements of an operand to another, instead of a kernel. */
    move(from: Resolved, to: Resolved): void {
        const [source, target] = [this.input(from), this.output(to)].map(({ operand }) => this.places[operand]!) as [Place, Place];
        if (source.buffer !== target.buffer) return this.#copy(this.#before, source, target, from);
        // WebGPU cannot copy within one buffer.
        const between = this.places[this.borrow(from.bytes).operand]!;
        this.#copy(this.#before, source, between, from);
        this.#copy(this.#before, between, target, from);
    }

    #copy(list: Recording[], from: Place, to: Place, { bytes }: Resolved): void {
        const words = wholeWords(bytes);
        for (const { buffer, offset } of [from, to]) {
            if (offset + words > buffer.size) {
                throw new ClipError('operand', `a buffer of ${buffer.size} bytes cannot be copied: give it a size that is a multiple of 4`);
            }
        }
        if (words > 0) list.push((encoder) => encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, words));
    }

    /** Whether copies are recorded in addition to the kernels. */
    get copies(): boolean {
        return this.#before.length + this.#after.length > 0;
    }

    /** Records copies and kernels. */
    record(encoder: GPUCommandEncoder, loaded: Loaded | undefined): void {
        const places = [...this.places];
        for (const bytes of loaded?.plan.scratch ?? []) {
            const buffer = this.pool.take(bytes, TENSOR_USAGE);
            this.#borrowed.push(buffer);
            places.push({ buffer, offset: 0 });
        }
        for (const copy of this.#before) copy(encoder);
        if (loaded) this.executor.record(encoder, loaded, places);
        for (const copy of this.#after) copy(encoder);
    }

    /** Returns buffers to the pool: later submissions run after the work that was submitted, or recorded, with them. */
    close(isSubmitted: boolean): void {
        this.#borrowed.splice(0).forEach((buffer) => this.pool.give(buffer, isSubmitted));
    }

    /** Destroys buffers that were not returned, after a failure: they may be invalid. */
    abandon(): void {
        [...this.#borrowed, ...this.staged.map(({ buffer }) => buffer)].forEach((buffer) => buffer.destroy());
    }
}

function wholeBlocks(bytes: number): number {
    return Math.ceil(bytes / 16) * 16;
}

function wholeWords(bytes: number): number {
    return Math.ceil(bytes / 4) * 4;
}

/** Whether a tensor begins and ends where kernels can: reads may extend beyond it. */
export function isAligned({ limits }: GPUDevice, { buffer, offset, size, bytes }: ResolvedGpu, isWritten: boolean): boolean {
    const room = isWritten ? size : buffer.size - offset;
    return offset % limits.minStorageBufferOffsetAlignment === 0 && Math.max(wholeBlocks(bytes), 16) <= room;
}

function upload({ queue }: GPUDevice, buffer: GPUBuffer, { data }: ResolvedHost): void {
    // Shared memory is copied: not every engine accepts it.
    const bytes = data.buffer instanceof ArrayBuffer ? bytesOfArray(data) : bytesOfArray(data).slice();
    const words = bytes.byteLength - (bytes.byteLength % 4);
    if (words > 0) queue.writeBuffer(buffer, 0, bytes, 0, words);
    if (words < bytes.byteLength) {
        const rest = new Uint8Array(4);
        rest.set(bytes.subarray(words));
        queue.writeBuffer(buffer, words, rest);
    }
}
