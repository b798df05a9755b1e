// WebGPU in Node.js: Dawn, on SwiftShader.
import { existsSync } from 'node:fs';

/** Debian's chromium brings SwiftShader. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (!process.env.VK_DRIVER_FILES && existsSync(SWIFTSHADER)) process.env.VK_DRIVER_FILES = SWIFTSHADER;
// Mesa's device selection layer complains where no desktop session runs.
process.env.NODEVICE_SELECT ??= '1';

const { create, globals } = await import('webgpu');
Object.assign(globalThis, globals);
// Kept: its adapters live as long as it does.
globalThis.dawn = create([]);
Object.defineProperty(globalThis, 'navigator', { value: { gpu: globalThis.dawn }, configurable: true });

if (!await globalThis.dawn.requestAdapter()) {
    throw new Error('no WebGPU adapter: Dawn needs a Vulkan driver; Debian\'s package chromium brings SwiftShader');
}
