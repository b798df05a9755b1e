// The package as a user gets it: what npm packs, its size, and a fresh project that types it strictly, bundles it with Vite and runs.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { serve } from '../../scripts/serve.mjs';
import { launch } from './chromium.mjs';

const web = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const project = mkdtempSync(join(tmpdir(), 'wgclip-package-'));
after(() => rmSync(project, { recursive: true, force: true }));

const npm = (...args) => execFileSync('npm', args, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
const [packed] = JSON.parse(npm('pack', web, '--json', '--ignore-scripts'));

test('npm packs what it should', () => {
    const names = packed.files.map(({ path }) => path);
    for (const name of ['package.json', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) assert.ok(names.includes(name), name);
    for (const entry of ['index', 'tfjs', 'ort']) assert.ok(names.includes(`dist/${entry}.js`) && names.includes(`dist/${entry}.d.ts`), entry);
    const others = names.filter((name) => !/^(dist\/[\w/]+\.(js|d\.ts)|package\.json|README\.md|LICENSE-\w+)$/.test(name));
    assert.deepEqual(others, []);
    const { dependencies } = JSON.parse(readFileSync(join(web, 'package.json'), 'utf8'));
    assert.equal(dependencies, undefined, 'runtime dependencies');
});

test('a page loads less than 150 KB', async () => {
    const outdir = join(project, 'sizes');
    await build({
        entryPoints: [join(web, 'dist/index.js')], outdir, bundle: true, splitting: true, minify: true, format: 'esm', target: 'es2022',
    });
    const sizes = Object.fromEntries(readdirSync(outdir).map((name) => [name.split('-')[0].replace('.js', ''), gzipSync(readFileSync(join(outdir, name)), { level: 9 }).length]));
    const kb = (bytes) => `${(bytes / 1000).toFixed(0)} KB`;
    const [gpu, cpu] = [sizes.index + sizes.plan, sizes.index + sizes.cpu];
    console.log(`gzipped: JavaScript ${kb(sizes.index)}, with the plans and kernels for a GPU ${kb(gpu)}, or with the CPU path ${kb(cpu)}`);
    assert.ok(gpu < 150_000 && cpu < 150_000);
});

test('a fresh project types it strictly and runs it under Vite', { timeout: 120_000 }, async () => {
    writeFileSync(join(project, 'package.json'), '{ "name": "fresh", "type": "module", "private": true }');
    npm('install', join(project, packed.filename), '--offline', '--no-audit', '--no-fund', '--ignore-scripts', '--omit=peer', '--silent');
    writeFileSync(join(project, 'main.ts'), `
import { Clip, ClipError, type GpuTensor } from 'wgclip';
const clip = await Clip.create();
const y: Float32Array = await clip.clip(Float32Array.of(-2, 0.5, 7), { min: 0, max: 1 });
const half: Uint16Array = await clip.clip({ data: Uint16Array.of(0x4900), type: 'bfloat16' }, { max: 6 });
const bounded: (x: GpuTensor) => Promise<GpuTensor> = (x) => clip.clip(x, { min: -1 });
// @ts-expect-error: a rule that there is not.
const wrong = clip.clipBackward(y, y, { rule: 'pytorch' }).catch((error: ClipError) => error.code);
document.title = JSON.stringify([[...y], half.length, typeof bounded, await wrong, clip.isOnGpu]);
`);
    writeFileSync(join(project, 'index.html'), '<!doctype html><script type="module" src="main.ts"></script>');
    const tools = join(web, 'node_modules');
    execFileSync(process.execPath, [
        join(tools, 'typescript/bin/tsc'), '--strict', '--noEmit', '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler',
        '--lib', 'es2022,dom', 'main.ts',
    ], { cwd: project, stdio: 'inherit' });
    const run = async (url) => {
        const browser = await launch();
        try {
            const page = await browser.newPage();
            await page.goto(url);
            await page.waitForFunction(() => document.title.startsWith('['));
            assert.deepEqual(JSON.parse(await page.title()), [[0, 0.5, 1], 1, 'function', 'rule', true]);
        } finally {
            await browser.close();
        }
    };
    // Vite is one of this package's tools; the project finds it as if it were its own.
    const { build: bundle, createServer } = await import('vite');
    const options = { root: project, logLevel: 'error', configFile: false, build: { target: 'es2022' } };
    await bundle(options);
    const server = await serve({ '': join(project, 'dist') });
    await run(`http://localhost:${server.address().port}/`).finally(() => server.close());
    // And its development server, which bundles dependencies in a way of its own.
    const dev = await createServer({ ...options, server: { port: 0 } });
    await dev.listen();
    await run(dev.resolvedUrls.local[0]).finally(() => dev.close());
});
