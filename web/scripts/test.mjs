// Runs the tests: types, then in Node.js on Dawn, then in Chromium. It says what it needs where that is missing.
//
//   --release  with the modules as the package has them: every type on both paths, what it works beside, and the package under Vite.
//              Without it one module is built for all, little optimised.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const chromium = process.env.CHROMIUM ?? '/usr/bin/chromium';
if (!existsSync(chromium)) {
    console.error(`test: no Chromium at ${chromium}: install Debian's package chromium (its SwiftShader is the GPU of Dawn, too), or name one by CHROMIUM`);
    process.exit(1);
}

/** What takes longer hangs. */
const LIMIT_MS = 15 * 60 * 1000;

function run(...command) {
    console.log(`> node ${command.join(' ')}`);
    const { status, error } = spawnSync(process.execPath, command, { cwd: web, stdio: 'inherit', timeout: LIMIT_MS });
    if (error) console.error(`test: ${error.message}`);
    if (status !== 0) process.exit(status ?? 1);
}

const release = process.argv.includes('--release');
if (release) process.env.WGCLIP_TEST_ALL_TYPES = '1';
run('scripts/build.mjs', '--check', ...(release ? [] : ['--testing']));
run(join('node_modules/typescript/bin/tsc'), '-p', 'tsconfig.page.json');
// One file after the other: each has the machine to itself.
const files = ['node/api', 'node/conformance', 'node/mutations', 'browser/page'];
if (release) files.push('browser/peers', 'browser/package');
for (const file of files) {
    run('--test', '--test-reporter=spec', `tests/${file}.mjs`);
}
