// Cargo for wasm32: `node scripts/cargo.mjs clippy --manifest-path ../Cargo.toml`. It needs Rust with the target wasm32-unknown-unknown
// (`rustup target add wasm32-unknown-unknown`), or Debian's packages rustc-web, rust-web-src and lld; for clippy rust-web-clippy.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const TARGET = 'wasm32-unknown-unknown';

/** Vectors of 128 bits, which all browsers have. */
const FLAGS = '-C target-feature=+simd128';

function sysroot(rustc) {
    return execFileSync(rustc, ['--print', 'sysroot'], { encoding: 'utf8' }).trim();
}

/** The command, with the arguments and variables that it needs here. */
function toolchain(command) {
    try {
        if (existsSync(join(sysroot('rustc'), 'lib/rustlib', TARGET))) return { cargo: 'cargo', first: [command], last: [], env: {} };
    } catch { /* There may be no rustc on the path. */ }
    const debian = '/usr/bin/rustc';
    if (existsSync(debian) && existsSync('/usr/lib/rustlib/src/rust/library/std')) {
        const env = { RUSTC: debian, RUSTC_BOOTSTRAP: '1', CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: 'wasm-ld' };
        const cargo = command === 'clippy' ? '/usr/bin/cargo-clippy' : 'cargo';
        return { cargo, first: [command], last: ['-Zbuild-std=std,panic_abort'], env };
    }
    console.error(`no Rust for ${TARGET}: run 'rustup target add ${TARGET}', or on Debian 'apt install rustc-web rust-web-src lld'`);
    process.exit(1);
}

/** Runs cargo for the target; arguments after `--` go to the compiler. */
export function cargo([command, ...given]) {
    const { cargo, first, last, env } = toolchain(command);
    const end = given.indexOf('--');
    const [own, rest] = end < 0 ? [given, []] : [given.slice(0, end), given.slice(end)];
    const { status, error } = spawnSync(cargo, [...first, '--target', TARGET, ...own, ...last, ...rest], {
        stdio: 'inherit', env: { ...process.env, RUSTFLAGS: FLAGS, ...env },
    });
    if (error) throw error;
    if (status !== 0) process.exit(status ?? 1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) cargo(process.argv.slice(2));
