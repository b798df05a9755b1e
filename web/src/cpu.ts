import type { Core } from './core.js';
import { type Resolved, type ResolvedHost, bytesOfArray, isGpu } from './operands.js';
import { ClipError } from './errors.js';
import { type Backend, type Operation, type SoftmaxOperation, operationWords, shapeWords } from './operation.js';

/** Arrays in the module's memory, for one call. */
class Session {
    readonly #handles = new Map<Resolved, number>();

    constructor(readonly core: Core) {}

    /** Allocates memory for a tensor, and returns its handle. */
    room(tensor: Resolved): number {
        const known = this.#handles.get(tensor);
        if (known !== undefined) return known;
        const handle = this.core.allocate(tensor.bytes);
        this.#handles.set(tensor, handle);
        return handle;
    }

    /** The same, with a copy of its elements. */
    put(tensor: Resolved): number {
        const known = this.#handles.get(tensor);
        if (known !== undefined) return known;
        const { data, bytes } = inMemory(tensor);
        const handle = this.room(tensor);
        this.core.view(handle, bytes).set(bytesOfArray(data));
        return handle;
    }

    /** Copies the elements of a handle back to the tensor. */
    get(tensor: Resolved): void {
        const { data, bytes } = inMemory(tensor);
        bytesOfArray(data).set(this.core.view(this.room(tensor), bytes));
    }

    close(): void {
        for (const handle of this.#handles.values()) this.core.release(handle);
    }
}

function inMemory(operand: Resolved): ResolvedHost {
    if (!isGpu(operand)) return operand;
    throw new ClipError('operand', 'this Clip has no GPU device, so buffers are out of its reach: give typed arrays, or use Clip.on(device)');
}

/** The CPU path: the module's own operations, on copies in its memory. */
export class CpuBackend implements Backend {
    constructor(readonly core: Core) {}

    #session<T>(work: (session: Session) => T): T {
        const session = new Session(this.core);
        try {
            return work(session);
        } finally {
            session.close();
        }
    }

    async run(operation: Operation): Promise<void> {
        const { inputs, outputs } = operation;
        this.#session((session) => {
            const { core } = this;
            const words = operationWords(core, operation, (tensor) => ({ operand: session.put(tensor), offset: 0, bytes: tensor.bytes }));
            const taken = inputs.map((input) => session.put(input));
            const made = outputs.map((output) => (output ? session.room(inMemory(output)) : 0));
            core.words('cpuOp', [...words, ...taken, ...made]);
            for (const output of outputs) if (output) session.get(output);
        });
    }

    maskBytes({ length }: Resolved): number {
        return 8 * Math.ceil(length / 64);
    }

    async copy(from: Resolved, to: Resolved): Promise<void> {
        bytesOfArray(inMemory(to).data).set(bytesOfArray(inMemory(from).data));
    }

    async globalNorm(limit: readonly number[], list: readonly Resolved[]): Promise<{ norm: number; failed: boolean }> {
        return this.#session((session) => {
            const tensors = list.flatMap((tensor) => [this.core.element(tensor.type), tensor.length, session.put(tensor)]);
            const [norm = NaN, failed] = this.core.words('cpuGlobalNorm', [...limit, list.length, ...tensors]);
            list.forEach((tensor) => session.get(tensor));
            return { norm, failed: failed === 1 };
        });
    }

    async softmax({ inputs, axes, output }: SoftmaxOperation): Promise<void> {
        this.#session((session) => {
            const handles = [...inputs.map((input) => session.put(input)), session.room(inMemory(output))];
            const words = [inputs.length - 1, this.core.element(output.type), ...shapeWords(output.shape), axes.length, ...axes];
            this.core.words('cpuSoftmax', [...words, ...handles]);
            session.get(output);
        });
    }
}
