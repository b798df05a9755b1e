import type { Clip } from '../src/clip.js';
import { Core, type OpRow } from '../src/core.js';
import { ELEMENT_TYPES, type ElementType, asUnsigned } from '../src/elements.js';
import { ClipError } from '../src/errors.js';
import { keyOf } from '../src/list.js';
import { unpack } from '../src/modules.js';
import { bytesOfArray } from '../src/operands.js';
import type { Bound, HostTensor, NormLimit, RuledBounds, TypedArray } from '../src/index.js';

/** The results for an operation on tensors of a type. */
export interface Row {
    readonly type: ElementType;
    readonly operation: string;
    readonly cases: number;
    readonly mismatches: number;
    /** The first mismatch, in words. */
    readonly first: string;
}

/** An operation of the package, with its library name. */
interface Form {
    readonly name: string;
    readonly op: string;
    readonly inPlace: boolean;
}

/** The forms of operations that have their own methods. */
const FORMS: readonly Form[] = [
    { name: 'clip', op: 'clip', inPlace: false },
    { name: 'clipInPlace', op: 'clip', inPlace: true },
    { name: 'clipBackward', op: 'clip_backward', inPlace: false },
    { name: 'clipBackward in place', op: 'clip_backward', inPlace: true },
    { name: 'clipBackwardBounds', op: 'clip_backward_bounds', inPlace: false },
    { name: 'clipWithMask', op: 'clip_with_mask', inPlace: false },
    { name: 'maskBackward', op: 'mask_backward', inPlace: false },
    { name: 'maskBackward in place', op: 'mask_backward', inPlace: true },
];

const NORM = 'clipByGlobalNorm';

/** The types whose norms a GPU supports. */
function hasNorm(type: ElementType, isOnGpu: boolean): boolean {
    return type.includes('float') && !(isOnGpu && type === 'float64');
}

export interface CheckOptions {
    /** The types to check; all by default. */
    readonly types?: readonly ElementType[];
    /** The names of the operations to check; all by default. */
    readonly operations?: readonly string[];
    /** The whole table, or a part that reaches every kernel. */
    readonly full?: boolean;
    readonly seed?: number;
    /** Called with every row, and the fraction of the work done. */
    readonly progress?: (row: Row, done: number) => void;
    readonly signal?: AbortSignal;
}

/** Whether an operation takes a rule: those with gradients do. */
function ruled({ inputs }: OpRow): boolean {
    return inputs.includes('g');
}

/** A case from the module, and a reader of its words. */
class Words {
    #at = 0;

    constructor(readonly core: Core, readonly words: Float64Array) {}

    next(): number {
        return this.words[this.#at++] ?? 0;
    }

    shape(): number[] {
        return Array.from({ length: this.next() }, () => this.next());
    }

    /** Takes the bytes of a buffer, and releases it. */
    bytes(): ArrayBuffer {
        const [handle, length] = [this.next(), this.next()];
        const copy = this.core.view(handle, length).slice();
        this.core.release(handle);
        return copy.buffer;
    }

    bound(type: ElementType): Bound | undefined {
        switch (this.next()) {
            case 1: return this.next();
            case 2: {
                const negative = this.next() !== 0;
                const magnitude = [this.next(), this.next(), this.next()].reduce((sum, word) => (sum << 32n) | BigInt(word), 0n);
                return negative ? -magnitude : magnitude;
            }
            case 4: {
                const data = asUnsigned(this.bytes(), type);
                return { data, type, shape: this.shape() };
            }
            default: return undefined;
        }
    }
}

/** The conformance table: every operation on every type, against the reference, with zero tolerance. */
export class Check {
    private constructor(readonly core: Core) {}

    static async load(): Promise<Check> {
        return new Check(await Core.of(await unpack((await import('./wasm/check.js')).default)));
    }

    async run(clip: Clip, options: CheckOptions = {}): Promise<Row[]> {
        const { types = ELEMENT_TYPES, operations, full = false, seed = 1, progress, signal } = options;
        const rows: Row[] = [];
        const all = types.flatMap((type) => [
            ...this.#forms(clip, type).map((form) => ({ type, form })),
            ...(hasNorm(type, clip.isOnGpu) ? [{ type, form: undefined }] : []),
        ]);
        const work = all.filter(({ form }) => operations?.includes(form?.name ?? NORM) ?? true);
        for (const { type, form } of work) {
            signal?.throwIfAborted();
            const row = await this.#row(clip, type, form, full, seed, signal);
            rows.push(row);
            progress?.(row, rows.length / work.length);
        }
        return rows;
    }

    /** The forms for a type; for operations without a method, that of `Clip.run`. */
    #forms(clip: Clip, type: ElementType): Form[] {
        // The output type of a conversion differs from that of the cases' results.
        const others = clip.operations.filter(({ name, converts }) => !converts && !FORMS.some(({ op }) => op === name));
        const isFor = ({ op }: Form): boolean => {
            const row = clip.operations.find(({ name }) => name === op);
            return (!row?.floats || hasNorm(type, clip.isOnGpu)) && (type !== 'float64' || row?.float64 !== false);
        };
        return [...FORMS, ...others.map(({ name }) => ({ name, op: name, inPlace: false }))].filter(isFor);
    }

    async #row(clip: Clip, type: ElementType, form: Form | undefined, full: boolean, seed: number, signal?: AbortSignal): Promise<Row> {
        const { core } = this;
        const op = form ? core.op(form.op) : core.names.ops.length;
        core.words('checkStart', [core.element(type), op, form?.inPlace ? 1 : 0, full ? 1 : 0, seed]);
        let [cases, mismatches, first] = [0, 0, ''];
        for (;;) {
            signal?.throwIfAborted();
            // The words move when memory grows.
            const words = new Words(core, core.words('checkNext', []).slice());
            if (words.next() === 0) break;
            const made = form ? await this.#operation(clip, type, form, words) : await this.#norm(clip, type, words);
            if (!made) continue;
            const handles = made.outputs.map((output) => {
                const handle = core.allocate(output.byteLength);
                core.view(handle, output.byteLength).set(bytesOfArray(output));
                return handle;
            });
            const found = core.words('checkCompare', [
                made.norm, made.failed ? 1 : 0, handles.length, ...handles.flatMap((handle, n) => [handle, made.outputs[n]!.byteLength]),
            ]);
            cases += found[0]!;
            mismatches += found[1]!;
            first ||= core.lastText();
            handles.forEach((handle) => core.release(handle));
        }
        return { type, operation: form?.name ?? NORM, cases, mismatches, first };
    }

    /** Runs a case of an operation with the package's own functions. */
    async #operation(clip: Clip, type: ElementType, { op, inPlace }: Form, words: Words) {
        const rule = this.core.choices(words.next());
        const shape = words.shape();
        const tensor = (data: TypedArray): HostTensor => ({ data, type, shape });
        const x = tensor(asUnsigned(words.bytes(), type));
        const g = tensor(asUnsigned(words.bytes(), type));
        const broadcast = Array.from({ length: words.next() }, () => words.bound(type));
        const params = Array.from({ length: words.next() }, () => words.next());
        const needs = Array.from({ length: words.next() }, () => words.next() !== 0);
        const bounds: RuledBounds = { min: broadcast[0], max: broadcast[1], rule };
        const outputs: TypedArray[] = [];
        switch (op) {
            case 'clip':
                outputs.push(inPlace ? await clip.clipInPlace(x, bounds) : await clip.clip(x, bounds));
                break;
            case 'clip_backward':
                outputs.push(await clip.clipBackward(x, g, bounds, inPlace ? { out: g } : {}));
                break;
            case 'clip_backward_bounds': {
                const made = await clip.clipBackwardBounds(x, g, bounds);
                outputs.push(made.x, ...[made.min, made.max].filter((gradient, n) => gradient !== undefined && needs[n + 1]) as TypedArray[]);
                break;
            }
            case 'clip_with_mask': {
                const { y, mask } = await clip.clipWithMask(x, bounds);
                outputs.push(y, await clip.maskBackward(mask, g));
                mask.destroy();
                break;
            }
            case 'mask_backward': {
                const { mask } = await clip.clipWithMask(x, bounds);
                outputs.push(await clip.maskBackward(mask, g, inPlace ? { out: g } : {}));
                mask.destroy();
                break;
            }
            default: {
                const row = this.core.names.ops[this.core.op(op)]!;
                const inputs = row.inputs.map((name) => [name, name === 'g' ? g : x] as const);
                const inBroadcast = row.broadcast.map((name, n) => [keyOf(name), broadcast[n]] as const);
                const inParams = row.params.map((name, n) => [name, params[n]] as const);
                const made = await clip.run(op, { ...Object.fromEntries([...inputs, ...inBroadcast, ...inParams]), ...(ruled(row) ? { rule } : {}) });
                outputs.push(...row.outputs.filter((_, n) => needs[n]).map((name) => made[name] as TypedArray));
            }
        }
        return { outputs, norm: 0, failed: false };
    }

    async #norm(clip: Clip, type: ElementType, words: Words) {
        const { kinds, nonfinite } = this.core.names;
        const limit = {
            maxNorm: words.next(), kind: kinds[words.next()], eps: words.next(), nonfinite: nonfinite[words.next()],
        } as NormLimit;
        const tensors = Array.from({ length: words.next() }, () => ({ data: asUnsigned(words.bytes(), type), type }));
        const outputs = tensors.map(({ data }) => data);
        try {
            return { outputs, norm: await clip.clipByGlobalNorm(tensors, limit), failed: false };
        } catch (error) {
            if (!(error instanceof ClipError && error.code === 'nonfinite')) throw error;
            return { outputs, norm: Number(error.cause), failed: true };
        }
    }
}
