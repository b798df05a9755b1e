import { Core } from './core.js';

/**
 * A module's bytes from text: base64 of gzip, so that no bundler has to know of an asset.
 * @internal
 */
export async function unpack(text: string): Promise<ArrayBuffer> {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Response(stream).arrayBuffer();
}

let plan: Promise<Core> | undefined;
let cpu: Promise<Core> | undefined;

/** Plans and kernels: what a page with a GPU device loads, once. */
export function loadPlan(): Promise<Core> {
    return plan ??= import('./wasm/plan.js').then(async ({ default: text }) => Core.of(await unpack(text)));
}

/** The CPU path: what a page without one loads, once. */
export function loadCpu(): Promise<Core> {
    return cpu ??= import('./wasm/cpu.js').then(async ({ default: text }) => Core.of(await unpack(text)));
}
