import { Core } from './core.js';

/**
 * Decodes a module's bytes from text (base64 of gzip), so that bundlers need no asset handling.
 * @internal
 */
export async function unpack(text: string): Promise<ArrayBuffer> {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Response(stream).arrayBuffer();
}

let plan: Promise<Core> | undefined;
let cpu: Promise<Core> | undefined;

/** Plans and kernels, loaded once by a page with a GPU device. */
export function loadPlan(): Promise<Core> {
    return plan ??= import('./wasm/plan.js').then(async ({ default: text }) => Core.of(await unpack(text)));
}

/** The CPU path, loaded once by a page without one. */
export function loadCpu(): Promise<Core> {
    return cpu ??= import('./wasm/cpu.js').then(async ({ default: text }) => Core.of(await unpack(text)));
}
