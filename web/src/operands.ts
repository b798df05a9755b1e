import { type ElementType, type TypedArray, bytesOf, checkedType, typeOfArray } from './elements.js';
import { ClipError } from './errors.js';
import { TENSOR_USAGE } from './gpu/flags.js';

/** Elements in the page's memory, with a type if the array does not determine it, and a shape if bounds broadcast. */
export interface HostTensor<A extends TypedArray = TypedArray> {
    readonly data: A;
    /** The type of `data`'s bits, if it is not the array's own: `'bfloat16'` in a `Uint16Array`. */
    readonly type?: ElementType;
    /** One dimension by default. */
    readonly shape?: readonly number[];
}

/** Elements in a buffer of the page's GPU device, which is neither copied nor destroyed. */
export interface GpuTensor {
    /** With the usages `STORAGE`, `COPY_SRC` and `COPY_DST`. */
    readonly buffer: GPUBuffer;
    /** Offset of the first element in bytes: a multiple of 4, 0 by default. */
    readonly offset?: number;
    /**
     * Bytes that may be written: those of `shape` by default, or without a shape all to the buffer's end. Kernels work on whole blocks of 16
     * bytes. If elements end within a block, the rest of it is also written if it is within `size`; otherwise elements are copied.
     */
    readonly size?: number;
    readonly type: ElementType;
    /** One dimension by default, with all elements that fit in `size`. */
    readonly shape?: readonly number[];
}

/** A tensor to clip. */
export type Operand = TypedArray | HostTensor | GpuTensor;

/** An operand with all defaults filled in. */
export type Resolved = ResolvedHost | ResolvedGpu;

/** The properties of a tensor, wherever it is stored. */
export interface TensorInfo {
    readonly type: ElementType;
    readonly shape: readonly number[];
    /** Number of elements. */
    readonly length: number;
    /** Their bytes. */
    readonly bytes: number;
}

export interface ResolvedHost extends TensorInfo {
    readonly data: TypedArray;
}

export interface ResolvedGpu extends TensorInfo {
    readonly buffer: GPUBuffer;
    readonly offset: number;
    /** Bytes that may be written. */
    readonly size: number;
}

/** Bytes of an array. */
export function bytesOfArray({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array<ArrayBuffer> {
    return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
}

export function isGpu(operand: Resolved): operand is ResolvedGpu {
    return 'buffer' in operand;
}

export function lengthOf(shape: readonly number[]): number {
    return shape.reduce((length, dim) => length * dim, 1);
}

function isArray(value: unknown): value is TypedArray {
    return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

/** Checks an operand and fills in its defaults. `name` is for messages, `type` the default type of its bits. */
export function resolve(name: string, operand: Operand, type?: ElementType): Resolved {
    if (isArray(operand)) return host(name, { data: operand }, type);
    if (typeof operand === 'object' && operand !== null) {
        if ('data' in operand && isArray(operand.data)) return host(name, operand, type);
        if ('buffer' in operand && typeof operand.buffer === 'object' && operand.buffer !== null) return gpu(name, operand);
    }
    throw new ClipError('operand', `${name} is no tensor: give a typed array, { data, type, shape } or { buffer, offset, size, type, shape }`);
}

/** A shape, or one dimension with all elements that fit. */
function shaped(name: string, shape: readonly number[] | undefined, room: number): readonly number[] {
    if (shape === undefined) return [room];
    // Array holes are not dimensions.
    const dims = Array.isArray(shape) ? Array.from(shape as readonly unknown[]) : [];
    const whole = Array.isArray(shape) && dims.every((dim): dim is number => Number.isSafeInteger(dim) && (dim as number) >= 0);
    if (!whole || lengthOf(dims) > room) {
        throw new ClipError('shape', `${name} has room for ${room} elements, but the shape [${String(shape)}]: make them agree`);
    }
    return dims;
}

function host(name: string, { data, type, shape }: HostTensor, assumed?: ElementType): ResolvedHost {
    const held = typeOfArray(data);
    const bits = type === undefined ? undefined : checkedType(name, type);
    // The bits of a type may be in an array of unsigned integers of its size.
    const taken = bits ?? (assumed !== undefined && held.startsWith('uint') && bytesOf(assumed) === data.BYTES_PER_ELEMENT ? assumed : held);
    if (bytesOf(taken) !== data.BYTES_PER_ELEMENT) {
        throw new ClipError('operand', `${name} is said to hold ${taken}, but its elements have ${data.BYTES_PER_ELEMENT} bytes`);
    }
    const dims = shaped(name, shape, data.length);
    const length = lengthOf(dims);
    if (length !== data.length) {
        throw new ClipError('shape', `${name} holds ${data.length} elements, but the shape [${dims}] has ${length}: make them agree`);
    }
    return { data, type: taken, shape: dims, length, bytes: data.byteLength };
}

function gpu(name: string, { buffer, offset = 0, size, type, shape }: GpuTensor): ResolvedGpu {
    const taken = checkedType(name, type);
    const left = buffer.size - offset;
    const given = size ?? left;
    if (typeof buffer.usage !== 'number' || !Number.isSafeInteger(offset) || !Number.isSafeInteger(given) || offset < 0 || given < 0 || offset % 4 !== 0
        || given > left) {
        throw new ClipError('operand', `${name} is at bytes ${offset} to ${offset + given} of a buffer of ${buffer.size}: give a GPUBuffer, an offset that is `
            + 'a multiple of 4, and a size within the buffer');
    }
    if ((buffer.usage & TENSOR_USAGE) !== TENSOR_USAGE) {
        throw new ClipError('operand', `the buffer of ${name} lacks a usage: create it with STORAGE, COPY_SRC and COPY_DST`);
    }
    const dims = shaped(name, shape, Math.floor(given / bytesOf(taken)));
    const length = lengthOf(dims);
    const bytes = length * bytesOf(taken);
    // Memory beyond a shape belongs to others, except for the rest of the buffer's last word, where no tensor can begin.
    const own = size !== undefined || shape === undefined || left - bytes < 4 ? given : bytes;
    return { buffer, offset, size: own, type: taken, shape: dims, length, bytes };
}

/** Both operands, of one type and length. */
export function checkAlike(name: string, operand: Resolved, otherName: string, other: TensorInfo): void {
    if (operand.type !== other.type) {
        throw new ClipError('shape', `${name} holds ${operand.type}, but ${otherName} ${other.type}: all operands need one type`);
    }
    if (operand.length !== other.length) {
        throw new ClipError('shape', `${name} has ${operand.length} elements, but ${otherName} ${other.length}: make them agree`);
    }
}
