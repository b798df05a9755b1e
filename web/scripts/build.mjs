// Builds the package: the wasm modules of the library, and TypeScript.
//
//   --page     the module of the page's check, too
//   --check    that, and what tests the conformance of a device in Node.js
//   --testing  one module for all, little optimised: for tests of what it does, not of its size or speed
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build as bundle } from 'esbuild';
import { TARGET, cargo } from './cargo.mjs';

const web = dirname(dirname(fileURLToPath(import.meta.url)));

/** When a source of the modules was last changed. */
function newest() {
    const of = (path) => !existsSync(path) ? 0 : statSync(path).isDirectory()
        ? Math.max(...readdirSync(path).map((name) => of(join(path, name)))) : statSync(path).mtimeMs;
    const sources = ['src', 'shaders', 'conformance/src', 'Cargo.toml', 'web/wasm/src', 'web/wasm/Cargo.toml', 'web/wasm/Cargo.lock'];
    return Math.max(...sources.map((path) => of(join(dirname(web), path))));
}

/** Builds the module with some features, unless it is newer than all that it is made of. */
function wasm(features, profile) {
    const made = join(web, 'build', `${profile}-${features.replaceAll(',', '-')}.wasm`);
    if (existsSync(made) && statSync(made).mtimeMs > newest()) return made;
    const folder = join(web, 'wasm/target');
    cargo([
        'build', '--profile', profile, '--locked', '--quiet', '--manifest-path', join(web, 'wasm/Cargo.toml'), '--target-dir', folder,
        '--features', features,
    ]);
    mkdirSync(dirname(made), { recursive: true });
    cpSync(join(folder, TARGET, profile, 'wgclip_web.wasm'), made);
    return made;
}

const testing = process.argv.includes('--testing');

/** The module with a feature as text in TypeScript: base64 of gzip, which a transfer that is compressed again hardly lengthens. */
function embed(feature, folder) {
    const module = testing ? wasm('plan,cpu,check', 'testing') : wasm(feature, 'release');
    const packed = gzipSync(readFileSync(module), { level: testing ? 1 : 9 });
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${feature}.ts`), `export default "${packed.toString('base64')}" as string;\n`);
}

const check = process.argv.includes('--check');
embed('plan', join(web, 'src/wasm'));
embed('cpu', join(web, 'src/wasm'));
if (check || process.argv.includes('--page')) embed('check', join(web, 'page/wasm'));
rmSync(join(web, 'dist'), { recursive: true, force: true });
execFileSync(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '-p', join(web, 'tsconfig.json')], { stdio: 'inherit' });
if (check) {
    // The check with the package in one file, for tests in Node.js.
    await bundle({ entryPoints: [join(web, 'page/testing.ts')], outfile: join(web, 'build/testing.js'), bundle: true, format: 'esm' });
}
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) cpSync(join(dirname(web), name), join(web, name));
