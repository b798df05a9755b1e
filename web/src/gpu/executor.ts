import type { Core } from '../core.js';
import { STAGE_COMPUTE, USAGE } from './flags.js';
import { type Plan, type PlanCall, limitWords, plan } from './plans.js';

/** Stride in bytes between the parameters of steps in their buffer: uniforms begin at multiples of 256 bytes. */
function strideOf(steps: Plan['steps']): number {
    return Math.ceil((4 * Math.max(...steps.map(({ params }) => params.length))) / 256) * 256;
}

/** Maximum number of cached plans: a repeated operation plans once. */
const MAX_PLANS = 256;

/** A plan with its parameters on the device. */
export interface Loaded {
    readonly plan: Plan;
    readonly params: GPUBuffer | undefined;
}

/** A part of a buffer used as an operand. */
export interface Place {
    readonly buffer: GPUBuffer;
    readonly offset: number;
}

/** Executes plans on a device, in any pass. */
export class Executor {
    /** The first words of every request. */
    readonly limits: readonly number[];
    readonly #plans = new Map<string, Loaded>();
    readonly #pipelines = new Map<number, GPUComputePipeline>();
    readonly #layouts = new Map<number, [GPUBindGroupLayout, GPUPipelineLayout]>();

    constructor(readonly core: Core, readonly device: GPUDevice) {
        this.limits = limitWords(device);
    }

    /** The plan of a request, created if it is new. */
    load(call: PlanCall, request: readonly number[]): Loaded {
        const key = `${call}:${request.join()}`;
        const known = this.#plans.get(key);
        if (known) return known;
        const made = plan(this.core, call, request);
        const loaded = { plan: made, params: this.#upload(made) };
        if (this.#plans.size >= MAX_PLANS) {
            // The first is the oldest. Recorded work may still use its parameters, so they are left to the garbage collector.
            const [oldest] = this.#plans.keys();
            if (oldest !== undefined) this.#plans.delete(oldest);
        }
        this.#plans.set(key, loaded);
        return loaded;
    }

    #upload({ steps }: Plan): GPUBuffer | undefined {
        if (steps.length === 0) return undefined;
        const stride = strideOf(steps);
        const buffer = this.device.createBuffer({
            label: 'wgclip params', size: stride * steps.length, usage: USAGE.UNIFORM, mappedAtCreation: true,
        });
        const mapped = new Uint32Array(buffer.getMappedRange());
        steps.forEach(({ params }, n) => mapped.set(params, (n * stride) / 4));
        buffer.unmap();
        return buffer;
    }

    #layout(bindings: number): [GPUBindGroupLayout, GPUPipelineLayout] {
        const known = this.#layouts.get(bindings);
        if (known) return known;
        const visibility = STAGE_COMPUTE;
        const entries: GPUBindGroupLayoutEntry[] = [{ binding: 0, visibility, buffer: { type: 'uniform' } }];
        for (let binding = 1; binding <= bindings; binding++) entries.push({ binding, visibility, buffer: { type: 'storage' } });
        const group = this.device.createBindGroupLayout({ entries });
        const made: [GPUBindGroupLayout, GPUPipelineLayout] =
            [group, this.device.createPipelineLayout({ bindGroupLayouts: [group] })];
        this.#layouts.set(bindings, made);
        return made;
    }

    #descriptor(kernel: number, bindings: number): GPUComputePipelineDescriptor {
        const code = this.core.text('source', [kernel]);
        const module = this.device.createShaderModule({ label: `wgclip kernel ${kernel}`, code });
        return { layout: this.#layout(bindings)[1], compute: { module, entryPoint: 'main' } };
    }

    #pipeline(kernel: number, bindings: number): GPUComputePipeline {
        const known = this.#pipelines.get(kernel);
        if (known) return known;
        // Not the asynchronous call: later recordings must not overtake this.
        const made = this.device.createComputePipeline(this.#descriptor(kernel, bindings));
        this.#pipelines.set(kernel, made);
        return made;
    }

    /** Compiles the kernels of a plan asynchronously. */
    async compile({ steps }: Plan): Promise<void> {
        const missing = new Map(steps.filter(({ kernel }) => !this.#pipelines.has(kernel))
            .map(({ kernel, bindings }) => [kernel, bindings.length]));
        await Promise.all([...missing].map(async ([kernel, bindings]) => {
            const made = await this.device.createComputePipelineAsync(this.#descriptor(kernel, bindings));
            if (!this.#pipelines.has(kernel)) this.#pipelines.set(kernel, made);
        }));
    }

    /** Records the steps of a plan in their own pass. */
    record(encoder: GPUCommandEncoder, loaded: Loaded, places: readonly Place[]): void {
        const steps = this.bind(loaded, places);
        const pass = encoder.beginComputePass({ label: 'wgclip' });
        steps(pass);
        pass.end();
    }

    /** Binds the steps of a plan to operands and scratch, to be recorded in a pass any number of times. */
    bind({ plan, params }: Loaded, places: readonly Place[]): (pass: GPUComputePassEncoder) => void {
        if (!params) return () => {};
        const stride = strideOf(plan.steps);
        const bound = plan.steps.map(({ kernel, bindings, workgroups }, n) => {
            const pipeline = this.#pipeline(kernel, bindings.length);
            const entries: GPUBindGroupEntry[] =
                [{ binding: 0, resource: { buffer: params, offset: n * stride, size: stride } }];
            bindings.forEach(({ operand, offset, bytes }, index) => {
                const place = places[operand]!;
                entries.push({
                    binding: index + 1, resource: { buffer: place.buffer, offset: place.offset + offset, size: bytes },
                });
            });
            const group = this.device.createBindGroup({ layout: this.#layout(bindings.length)[0], entries });
            return { pipeline, group, workgroups };
        });
        return (pass) => {
            for (const { pipeline, group, workgroups } of bound) {
                pass.setPipeline(pipeline);
                pass.setBindGroup(0, group);
                pass.dispatchWorkgroups(...workgroups);
            }
        };
    }

    /** Forgets all created objects, some of which the device may have refused. */
    forget(): void {
        this.#pipelines.clear();
        this.#layouts.clear();
        this.#plans.clear();
    }
}
