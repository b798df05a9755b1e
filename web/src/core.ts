import { type ElementType, libraryName, translated } from './elements.js';
import { ClipError } from './errors.js';
import type { NormLimit, Rule, RulePreset } from './rules.js';

/** The exports of the module: see wasm/src/abi.rs. */
interface Exports {
    readonly memory: WebAssembly.Memory;
    allocate(bytes: number): number;
    address(handle: number): number;
    release(handle: number): void;
    call(fn: number, request: number, words: number): number;
    response(): number;
    response_words(): number;
    text(): number;
    text_bytes(): number;
}

/** The functions of the module: those of `FUNCTIONS` in wasm/src/abi.rs that this module includes. */
export type Call =
    | 'names' | 'checkBounds' | 'source' | 'planOp' | 'planGlobalNorm' | 'planSoftmax' | 'planMask' | 'cpuOp' | 'cpuGlobalNorm' | 'cpuSoftmax' | 'checkStart' | 'checkNext'
    | 'checkCompare';

/** The names that requests refer to by number. */
interface Names {
    calls: Call[];
    elements: string[];
    ops: OpRow[];
    kinds: string[];
    nonfinite: string[];
    outside: string[];
    ties: string[];
    nan: string[];
    presets: Record<string, number>;
    eps: Record<string, number>;
}

/** An operation, by its library name. */
export type Op = string;

/** A row of the library's list of operations. */
export interface OpRow {
    readonly name: Op;
    /** Inputs that do not broadcast: `x`, `g`, `mask`. */
    readonly inputs: readonly string[];
    /** Inputs that broadcast to x: `lo`, `hi`. */
    readonly broadcast: readonly string[];
    /** Numbers, the same for all elements. */
    readonly params: readonly string[];
    readonly outputs: readonly string[];
    /** For each output, the broadcast input of which it is the gradient, or empty. */
    readonly gradientOf: readonly string[];
    /** Whether its output may be of another type. */
    readonly converts: boolean;
    /** Whether x or the output are codes, with broadcast inputs of float32, or of float64 where the floats are float64. */
    readonly codes: boolean;
    /** Whether it supports only floats, or only integers as codes. */
    readonly floats: boolean;
    /** Whether it supports float64, on the CPU at least. */
    readonly float64: boolean;
}

/** Maximum words of a request: shapes of many axes, lists of many tensors. */
const REQUEST_WORDS = 512;

/** The wasm module of the library: geometry, rules, kernels and the CPU path, from one source for all platforms. */
export class Core {
    readonly #module: WebAssembly.Module;
    #exports: Exports;
    #request = 0;
    #capacity = 0;
    /** Until the names are known there is only one function, which returns them. */
    readonly names: Names = { calls: ['names'] } as unknown as Names;

    private constructor(module: WebAssembly.Module, instance: WebAssembly.Instance) {
        this.#module = module;
        this.#exports = instance.exports as unknown as Exports;
        this.names = JSON.parse(this.text('names', []));
    }

    /** Compiles and instantiates the module's bytes. */
    static async of(bytes: BufferSource): Promise<Core> {
        const module = await WebAssembly.compile(bytes);
        return new Core(module, await WebAssembly.instantiate(module));
    }

    #run(fn: Call, words: readonly number[]): void {
        if (words.length > this.#capacity) {
            const capacity = Math.max(words.length, REQUEST_WORDS);
            const request = this.allocate(8 * capacity);
            this.#exports.release(this.#request);
            [this.#request, this.#capacity] = [request, capacity];
        }
        new Float64Array(this.memory, this.#exports.address(this.#request), words.length).set(words);
        let code;
        try {
            code = this.#exports.call(this.names.calls.indexOf(fn), this.#request, words.length);
        } catch (error) {
            // A trap leaves the module in an undefined state: instantiate it again.
            this.#exports = new WebAssembly.Instance(this.#module).exports as unknown as Exports;
            this.#capacity = 0;
            this.#request = 0;
            throw new ClipError('out-of-memory', 'the CPU path ran out of memory: clip smaller parts', { cause: error });
        }
        if (code !== 0) throw ClipError.ofModule(code, translated(this.#text()));
    }

    #text(): string {
        const bytes = new Uint8Array(this.memory, this.#exports.text(), this.#exports.text_bytes());
        return new TextDecoder().decode(bytes.slice());
    }

    /** Calls a function that responds with words. They are valid until the next call. */
    words(fn: Call, request: readonly number[]): Float64Array {
        this.#run(fn, request);
        return new Float64Array(this.memory, this.#exports.response(), this.#exports.response_words());
    }

    /** Calls a function that responds with a text. */
    text(fn: Call, request: readonly number[]): string {
        this.#run(fn, request);
        return this.#text();
    }

    /** The text of the last call, if it was one that responds with words and a text. */
    lastText(): string {
        return this.#text();
    }

    /** The module's current memory: it moves when it grows. */
    get memory(): ArrayBuffer {
        return this.#exports.memory.buffer as ArrayBuffer;
    }

    /** Allocates a buffer in the module's memory, and returns its handle. */
    allocate(bytes: number): number {
        const handle = this.#exports.allocate(bytes);
        if (handle === 0) {
            throw new ClipError('out-of-memory', `no memory for ${bytes} bytes on the CPU: clip smaller parts`);
        }
        return handle;
    }

    /** A view of the first bytes of such a buffer, valid until the next call. */
    view(handle: number, bytes: number): Uint8Array {
        return new Uint8Array(this.memory, this.#exports.address(handle), bytes);
    }

    release(handle: number): void {
        this.#exports.release(handle);
    }

    element(type: ElementType): number {
        return this.names.elements.indexOf(libraryName(type));
    }

    op(op: Op): number {
        return this.names.ops.findIndex(({ name }) => name === op);
    }

    #numbered(code: 'rule' | 'limit', list: readonly string[], what: string, name: string): number {
        const number = list.indexOf(name);
        if (number >= 0) return number;
        throw new ClipError(code, `${what} is not '${String(name)}': there are ${list.join(', ')}`);
    }

    rule(rule: RulePreset | Rule = {}): number {
        const { presets, outside, ties, nan } = this.names;
        if (typeof rule === 'string') {
            const preset = Object.hasOwn(presets, rule) ? presets[rule] : undefined;
            if (preset !== undefined) return preset;
            throw new ClipError('rule', `no rule is called '${rule}': there are ${Object.keys(presets).join(', ')}`);
        }
        if (typeof rule !== 'object' || rule === null) throw new ClipError('rule', 'a rule is the name of a preset, or { outside, ties, nan }');
        const numbers = [
            this.#numbered('rule', outside, 'outside', rule.outside ?? 'masked'),
            this.#numbered('rule', ties, 'ties', rule.ties ?? 'inclusive'),
            this.#numbered('rule', nan, 'nan', rule.nan ?? 'pass'),
        ] as const;
        return (numbers[0] * ties.length + numbers[1]) * nan.length + numbers[2];
    }

    /** The settings of a rule, by its number. */
    choices(rule: number): Required<Rule> {
        const { outside, ties, nan } = this.names;
        const rest = Math.floor(rule / nan.length);
        return { outside: outside[Math.floor(rest / ties.length)], ties: ties[rest % ties.length], nan: nan[rule % nan.length] } as Required<Rule>;
    }

    /** Whether the gradient of a rule is the upstream gradient itself. */
    isIdentity(rule: number): boolean {
        return this.choices(rule).outside === 'straight-through';
    }

    limit(limit: NormLimit): number[] {
        if (typeof limit !== 'object' || limit === null) throw new ClipError('limit', 'a limit is { maxNorm, kind, eps, nonfinite }, of which maxNorm is needed');
        const { maxNorm, kind = 'l2', eps = 0, nonfinite = 'propagate' } = limit;
        const { kinds, nonfinite: policies } = this.names;
        const added = typeof eps === 'string' ? this.names.eps[eps] : eps;
        if (typeof maxNorm !== 'number' || typeof added !== 'number') {
            throw new ClipError('limit', `invalid limit ${String(maxNorm)} (eps ${String(eps)}): give numbers, or as eps one of `
                + Object.keys(this.names.eps).join(', '));
        }
        return [maxNorm, this.#numbered('limit', kinds, 'kind', kind), added, this.#numbered('limit', policies, 'nonfinite', nonfinite)];
    }

    /** Checks bounds for elements of a type and shape, as operations do, for calls that run none. */
    checkBounds(type: ElementType, shape: readonly number[], words: readonly number[]): void {
        this.words('checkBounds', [this.element(type), shape.length, ...shape, ...words]);
    }
}
