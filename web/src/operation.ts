import type { Core, Op } from './core.js';
import type { Resolved } from './operands.js';

/** A bound that must be rounded inward. */
export class InwardBound {
    constructor(readonly value: number | bigint) {}
}

/** A checked bound: absent, a number, or a tensor. */
export type ResolvedBound = undefined | number | bigint | InwardBound | Resolved;

/** Whether a bound is a tensor. */
export function isTensor(bound: ResolvedBound): bound is Resolved {
    return typeof bound === 'object' && !(bound instanceof InwardBound);
}

/** An operation with its operands. An output that is the same object as one of the inputs is overwritten in place. */
export interface Operation {
    readonly op: Op;
    readonly rule: number;
    /** The operand that determines type and shape. */
    readonly x: Resolved;
    readonly inputs: readonly Resolved[];
    /** The broadcast inputs, in the order of the list. */
    readonly broadcast: readonly ResolvedBound[];
    readonly params?: readonly number[];
    /** Outputs that are not needed are undefined. */
    readonly outputs: readonly (Resolved | undefined)[];
}

/** A softmax along axes, counted from 0, or its gradient. */
export interface SoftmaxOperation {
    /** x; or the result and the upstream gradient. */
    readonly inputs: readonly [Resolved] | readonly [Resolved, Resolved];
    readonly axes: readonly number[];
    readonly output: Resolved;
}

/** An engine that runs operations: a GPU device, or the CPU. */
export interface Backend {
    readonly core: Core;
    run(operation: Operation): Promise<void>;
    /** Bytes of the mask of a tensor's elements. */
    maskBytes(x: Resolved): number;
    /** Copies the elements of one tensor to another. */
    copy(from: Resolved, to: Resolved): Promise<void>;
    /** Clips tensors by their common norm, in place. Resolves to the norm, and whether it is an error, in which case nothing was clipped. */
    globalNorm(limit: readonly number[], list: readonly Resolved[]): Promise<{ norm: number; failed: boolean }>;
    softmax(operation: SoftmaxOperation): Promise<void>;
}

/** A bound as words of a request. */
type BoundWords = readonly number[];

const ABSENT: BoundWords = [0];

/** A part of an operand: its index, and bytes. */
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

/** The arguments of an operation other than its inputs and outputs, as words of a request. */
export function operationWords(core: Core, { op, rule, x, broadcast, params = [], outputs }: Operation, slice: (tensor: Resolved) => Slice): number[] {
    const to = outputs[0]?.type ?? x.type;
    return [
        core.op(op), core.element(x.type), core.element(to), rule, ...shapeWords(x.shape), ...broadcastWords(broadcast, slice), params.length, ...params,
    ];
}

/** Broadcast inputs as words, with the slices of their tensors in the request. */
export function broadcastWords(broadcast: readonly ResolvedBound[], slice: (tensor: Resolved) => Slice): number[] {
    return [broadcast.length, ...broadcast.flatMap((input) => boundWords(input, slice))];
}

/** A bound as words, with the slice of its tensor in the request. */
function boundWords(bound: ResolvedBound, slice: (tensor: Resolved) => Slice): BoundWords {
    if (bound === undefined) return ABSENT;
    if (bound instanceof InwardBound) return [5, ...valueWords(bound.value)];
    if (!isTensor(bound)) return valueWords(bound);
    return [4, ...sliceWords(slice(bound)), ...shapeWords(bound.shape)];
}
