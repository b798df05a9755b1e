// The page and what tests it, built and served.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { buildPage } from '../../scripts/page.mjs';
import { serve } from '../../scripts/serve.mjs';

const web = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export async function site() {
    const tests = join(web, 'build/tests');
    mkdirSync(tests, { recursive: true });
    await build({
        entryPoints: [join(web, 'tests/browser/peers.ts')], outdir: tests, bundle: true, splitting: true, format: 'esm', target: 'es2022',
        logLevel: 'error',
    });
    writeFileSync(join(tests, 'index.html'), '<!doctype html><title>peers</title><script type="module" src="peers.js"></script>');
    const server = await serve({ '': await buildPage(), tests, onnxruntime: join(web, 'node_modules/onnxruntime-web/dist') });
    return { url: `http://localhost:${server.address().port}/`, close: () => server.close() };
}
