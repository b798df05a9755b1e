// Bundles the page into page/dist: static files, without a request to anywhere else.
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const page = join(dirname(dirname(fileURLToPath(import.meta.url))), 'page');

export async function buildPage() {
    const dist = join(page, 'dist');
    rmSync(dist, { recursive: true, force: true });
    mkdirSync(dist, { recursive: true });
    for (const name of ['index.html', 'style.css']) cpSync(join(page, name), join(dist, name));
    await build({
        entryPoints: [join(page, 'main.ts')], outdir: dist, bundle: true, splitting: true, minify: true, format: 'esm', target: 'es2022',
    });
    return dist;
}
