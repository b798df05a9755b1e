import type { Core } from '../core.js';
import type { Slice } from '../operation.js';

/** A kernel to dispatch, over slices of operands in whole blocks of 16 bytes. */
interface Step {
    readonly kernel: number;
    readonly workgroups: readonly [number, number];
    readonly bindings: readonly Slice[];
    readonly params: Uint32Array<ArrayBuffer>;
}

/** The plan of an operation: kernels over its operands and over scratch, which is numbered after them. */
export interface Plan {
    /** Bytes of each slice of scratch. */
    readonly scratch: readonly number[];
    readonly steps: readonly Step[];
}

/** The device properties that plans depend on. */
export function limitWords({ limits, adapterInfo }: GPUDevice): number[] {
    // Newer than the types; software rasterisers prefer fewer and longer invocations.
    const { isFallbackAdapter } = (adapterInfo ?? {}) as { isFallbackAdapter?: boolean };
    return [
        isFallbackAdapter ? 1 : 0,
        limits.maxStorageBufferBindingSize,
        limits.minStorageBufferOffsetAlignment,
        limits.maxComputeWorkgroupsPerDimension,
        limits.maxStorageBuffersPerShaderStage,
    ];
}

/** The requests that plans are created for. */
export type PlanCall = 'planOp' | 'planGlobalNorm' | 'planSoftmax';

/** Creates a plan for a request. */
export function plan(core: Core, call: PlanCall, request: readonly number[]): Plan {
    const words = core.words(call, request);
    let at = 0;
    const next = (): number => words[at++] ?? 0;
    const list = <T>(item: () => T): T[] => Array.from({ length: next() }, item);
    const scratch = list(next);
    const steps = list((): Step => {
        const kernel = next();
        const workgroups = [next(), next()] as const;
        const bindings = list(() => ({ operand: next(), offset: next(), bytes: next() }));
        const params = Uint32Array.from(list(next));
        return { kernel, workgroups, bindings, params };
    });
    return { scratch, steps };
}
