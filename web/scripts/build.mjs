// Builds the package: the wasm modules of the library, and TypeScript. With `--check` what tests the conformance of a device, too.
//
// It needs Rust with the target wasm32-unknown-unknown (`rustup target add wasm32-unknown-unknown`), or Debian's packages rustc-web,
// rust-web-src and lld.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build as bundle } from 'esbuild';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const TARGET = 'wasm32-unknown-unknown';

/** How cargo is called here: with the target of rustup, or Debian's compiler and the sources of its standard library. */
function toolchain() {
    const sysroot = (rustc) => execFileSync(rustc, ['--print', 'sysroot'], { encoding: 'utf8' }).trim();
    try {
        if (existsSync(join(sysroot('rustc'), 'lib/rustlib', TARGET))) return { args: [], env: {} };
    } catch { /* There may be no rustc on the path. */ }
    const debian = '/usr/bin/rustc';
    if (existsSync(debian) && existsSync(join(sysroot(debian), 'lib/rustlib/src/rust/library/std'))) {
        return {
            args: ['-Zbuild-std=std,panic_abort'],
            env: { RUSTC: debian, RUSTC_BOOTSTRAP: '1', CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: 'wasm-ld' },
        };
    }
    console.error(`build: no Rust for ${TARGET}: run 'rustup target add ${TARGET}', or on Debian 'apt install rustc-web rust-web-src lld'`);
    process.exit(1);
}

/** Builds the module of some features, unless it is newer than all that it is made of. */
function wasm(name, features, { args, env }) {
    const made = join(web, 'build', `${name}.wasm`);
    if (existsSync(made) && statSync(made).mtimeMs > newest()) return made;
    const folder = join(web, 'wasm/target');
    execFileSync('cargo', [
        'build', '--release', '--locked', '--quiet', '--manifest-path', join(web, 'wasm/Cargo.toml'), '--target', TARGET,
        '--target-dir', folder, '--features', features, ...args,
    ], { stdio: 'inherit', env: { ...process.env, RUSTFLAGS: '-C target-feature=+simd128', ...env } });
    mkdirSync(dirname(made), { recursive: true });
    cpSync(join(folder, TARGET, 'release/wgclip_web.wasm'), made);
    return made;
}

/** When a source of the modules was last changed. */
function newest() {
    const root = dirname(web);
    const of = (path) => !existsSync(path) ? 0 : statSync(path).isDirectory()
        ? Math.max(...readdirSync(path).map((name) => of(join(path, name)))) : statSync(path).mtimeMs;
    return Math.max(...['src', 'shaders', 'conformance/src', 'Cargo.toml', 'web/wasm/src', 'web/wasm/Cargo.toml', 'web/wasm/Cargo.lock']
        .map((path) => of(join(root, path))));
}

/** A module as text in TypeScript: base64 of gzip, which a transfer that is compressed again hardly lengthens. */
function embed(path, folder, name) {
    const packed = gzipSync(readFileSync(path), { level: 9 });
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${name}.ts`), `export default "${packed.toString('base64')}" as string;\n`);
}

const tools = toolchain();
const check = process.argv.includes('--check');
embed(wasm('plan', 'plan', tools), join(web, 'src/wasm'), 'plan');
embed(wasm('cpu', 'cpu', tools), join(web, 'src/wasm'), 'cpu');
if (check) embed(wasm('check', 'check', tools), join(web, 'page/wasm'), 'check');
const dist = join(web, 'dist');
rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '-p', join(web, 'tsconfig.json')], { stdio: 'inherit' });
if (check) {
    // The check with the package in one file, for tests in Node.js.
    await bundle({ entryPoints: [join(web, 'page/testing.ts')], outfile: join(web, 'build/testing.js'), bundle: true, format: 'esm' });
}
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) cpSync(join(dirname(web), name), join(web, name));
