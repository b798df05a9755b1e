// A page in headless Chromium, on SwiftShader.
import { chromium } from 'playwright-core';

/** The GPU is a software one, everywhere the same. */
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** Opens Chromium: `CHROMIUM` names it where it is not Debian's. */
export async function launch({ webgpu = true } = {}) {
    const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
    const args = ['--no-sandbox', ...(webgpu ? WEBGPU : ['--disable-features=WebGPU', '--disable-gpu'])];
    try {
        return await chromium.launch({ executablePath, args });
    } catch (error) {
        throw new Error(`no Chromium at ${executablePath}: install Debian's package chromium, or name another by CHROMIUM`, { cause: error });
    }
}
