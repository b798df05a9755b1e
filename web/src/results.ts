import { type TypedArray, arrayLike, bytesOf } from './elements.js';
import { ClipError } from './errors.js';
import { GpuBackend } from './gpu/backend.js';
import { type Backend, InwardBound, type ResolvedBound, broadcastWords, isTensor } from './operation.js';
import { type GpuTensor, type Operand, type Resolved, type TensorInfo, checkAlike, isGpu, lengthOf, resolve } from './operands.js';
import type { Bound, Bounds } from './rules.js';

/** A new tensor in a buffer, with all defaults filled in. */
export type MadeGpu = Required<GpuTensor>;

export function pair(x: Operand, g: Operand): [Resolved, Resolved] {
    const [from, upstream] = [resolve('x', x), resolve('g', g)];
    checkAlike('g', upstream, 'x', from);
    return [from, upstream];
}

export function resolveBounds(x: Resolved, bounds: Bounds): [ResolvedBound, ResolvedBound] {
    if (typeof bounds !== 'object' || bounds === null) throw new ClipError('bounds', 'bounds are { min, max }, of which either may be left out');
    const { min, max, rounding = 'nearest' } = bounds;
    if (rounding !== 'nearest' && rounding !== 'inward') {
        throw new ClipError('bounds', `${String(rounding)} is no rounding of bounds: give 'nearest' or 'inward'`);
    }
    const one = (name: string, bound: Bound | undefined): ResolvedBound => {
        const resolved = resolveBroadcast(x, name, bound);
        return rounding === 'inward' && (typeof resolved === 'number' || typeof resolved === 'bigint') ? new InwardBound(resolved) : resolved;
    };
    return [one('min', min), one('max', max)];
}

/** Resolves a broadcast input of a type: that of x, if no other is given. */
export function resolveBroadcast(x: Resolved, name: string, bound: Bound | undefined, type = x.type): undefined | number | bigint | Resolved {
    if (bound === undefined || bound === null) return undefined;
    if (typeof bound === 'number' || typeof bound === 'bigint') return bound;
    if (typeof bound !== 'object') throw new ClipError('bounds', `${name} is no bound: give a number, or a tensor`);
    const tensor = resolve(name, bound, type);
    if (tensor.type === type) return tensor;
    const instead = type === x.type ? 'all operands need one type' : `give ${type}`;
    throw new ClipError('shape', `${name} holds ${tensor.type}, but x ${x.type}: ${instead}`);
}

/** The properties of a bound's gradient: one element, or the bound's own shape. */
export function gradientOf(bound: Exclude<ResolvedBound, undefined>, g: Resolved): TensorInfo {
    const shape = isTensor(bound) ? bound.shape : [];
    const length = lengthOf(shape);
    return { type: g.type, shape, length, bytes: bytesOf(g.type) * length };
}

/** Replaces a caller's operand by one of the inputs, if it refers to the same elements. */
export function alias(tensor: Resolved, inputs: readonly Resolved[]): Resolved {
    const same = (input: Resolved): boolean => {
        if (isGpu(input) !== isGpu(tensor) || input.bytes !== tensor.bytes) return false;
        if (isGpu(input) && isGpu(tensor)) return input.buffer === tensor.buffer && input.offset === tensor.offset;
        if (isGpu(input) || isGpu(tensor)) return false;
        return input.data.buffer === tensor.data.buffer && input.data.byteOffset === tensor.data.byteOffset;
    };
    return inputs.find(same) ?? tensor;
}

/** The output for a result: the caller's, or a new one like an operand. */
export function output(
    backend: Backend, out: Operand | undefined, like: Resolved, operand: Operand, inputs: readonly Resolved[],
): Resolved {
    if (out === undefined) return makeLike(backend, like, operand);
    const tensor = resolve('out', out, like.type);
    checkAlike('out', tensor, 'the input', like);
    return alias(tensor, inputs);
}

/** A new tensor of a type and shape, in the same location as an operand. */
export function makeLike(backend: Backend, like: TensorInfo, operand: Operand): Resolved {
    const { type, shape, length, bytes } = like;
    const array = ArrayBuffer.isView(operand) ? operand : 'data' in operand ? operand.data : undefined;
    if (array) {
        return { data: arrayLike(array, length), type, shape, length, bytes };
    }
    if (backend instanceof GpuBackend) return backend.tensor({ type, shape, length, bytes });
    throw new ClipError('operand', 'this Clip has no GPU device, so buffers are out of its reach: give typed arrays, or use Clip.on(device)');
}

/** A tensor as returned to the caller. */
export function given(tensor: Resolved): TypedArray | MadeGpu {
    if (!isGpu(tensor)) return tensor.data;
    const { buffer, offset, size, type, shape } = tensor;
    return { buffer, offset, size, type, shape };
}

/** Checks the bounds of x, before anything is allocated. */
export function check({ core }: Backend, { type, shape }: Resolved, bounds: readonly ResolvedBound[]): void {
    const nowhere = { operand: 0, offset: 0, bytes: 0 };
    core.checkBounds(type, shape, broadcastWords(bounds, () => nowhere));
}

/** Keeps the new tensors if the work succeeds, otherwise drops them. */
export async function kept<T>(backend: Backend, made: readonly (Resolved | undefined)[], work: () => Promise<T>): Promise<T> {
    try {
        return await work();
    } catch (error) {
        if (backend instanceof GpuBackend) made.forEach((tensor) => backend.drop(tensor));
        throw error;
    }
}
