import type { Core, Op } from './core.js';
import type { Resolved } from './operands.js';

/** A bound that is not to be rounded beyond its number. */
export class InwardBound {
    constructor(readonly value: number | bigint) {}
}

/** A bound that is checked: absent, a number, or a tensor. */
export type ResolvedBound = undefined | number | bigint | InwardBound | Resolved;

/** Whether a bound is a tensor. */
export function isTensor(bound: ResolvedBound): bound is Resolved {
    return typeof bound === 'object' && !(bound instanceof InwardBound);
}

/** An operation with its operands. An output that is one of the inputs, the very object, is overwritten in place. */
export interface Operation {
    readonly op: Op;
    readonly rule: number;
    /** The operand whose type and shape are those of the work. */
    readonly x: Resolved;
    readonly inputs: readonly Resolved[];
    /** What broadcasts to x, in the order of the list. */
    readonly broadcast: readonly ResolvedBound[];
    readonly params?: readonly number[];
    /** Those that are not needed are left open. */
    readonly outputs: readonly (Resolved | undefined)[];
}

/** What runs operations: a GPU device, or the CPU. */
export interface Backend {
    readonly core: Core;
    run(operation: Operation): Promise<void>;
    /** Bytes of the mask of a tensor's elements. */
    maskBytes(x: Resolved): number;
    /** The elements of one tensor become those of another. */
    copy(from: Resolved, to: Resolved): Promise<void>;
    /** Clips tensors by their common norm, in place. Resolves to the norm, and whether it is an error, so that nothing was clipped. */
    globalNorm(limit: readonly number[], list: readonly Resolved[]): Promise<{ norm: number; failed: boolean }>;
}

/** A bound as words of a request. */
type BoundWords = readonly number[];

const ABSENT: BoundWords = [0];

/** A part of an operand: its number, and bytes. */
export interface Slice {
    readonly operand: number;
    readonly offset: number;
    readonly bytes: number;
}

export function sliceWords({ operand, offset, bytes }: Slice): number[] {
    return [operand, offset, bytes];
}

export function shapeWords(shape: readonly number[]): number[] {
    return [shape.length, ...shape];
}

function valueWords(value: number | bigint): BoundWords {
    if (typeof value === 'number') return [1, value];
    const negative = value < 0n ? 1 : 0;
    const magnitude = negative ? -value : value;
    if (magnitude >> 96n) return [3, negative];
    return [2, negative, ...[64n, 32n, 0n].map((shift) => Number((magnitude >> shift) & 0xffff_ffffn))];
}

/** What an operation takes besides its inputs and outputs, as words of a request. */
export function operationWords(core: Core, { op, rule, x, broadcast, params = [], outputs }: Operation, slice: (tensor: Resolved) => Slice): number[] {
    const to = outputs[0]?.type ?? x.type;
    return [
        core.op(op), core.element(x.type), core.element(to), rule, ...shapeWords(x.shape), ...broadcastWords(broadcast, slice), params.length, ...params,
    ];
}

/** What broadcasts, with what its tensors are to the request. */
export function broadcastWords(broadcast: readonly ResolvedBound[], slice: (tensor: Resolved) => Slice): number[] {
    return [broadcast.length, ...broadcast.flatMap((input) => boundWords(input, slice))];
}

/** A bound, with what its tensor is to the request. */
function boundWords(bound: ResolvedBound, slice: (tensor: Resolved) => Slice): BoundWords {
    if (bound === undefined) return ABSENT;
    if (bound instanceof InwardBound) return [5, ...valueWords(bound.value)];
    if (!isTensor(bound)) return valueWords(bound);
    return [4, ...sliceWords(slice(bound)), ...shapeWords(bound.shape)];
}
