// The conformance table of every type and operation, in Dawn and in the CPU path. `--full` runs all of it.
import './dawn.mjs';
import assert from 'node:assert/strict';
import { test } from 'node:test';

const { Check, Clip, ELEMENT_TYPES } = await import('../../build/testing.js');

const full = process.env.WGCLIP_TEST_FULL === '1';
const seed = Number(process.env.WGCLIP_TEST_SEED ?? Date.now() % 2 ** 32);
const check = await Check.load();

for (const on of ['cpu', 'gpu']) {
    const clip = await Clip.create({ on });
    for (const type of ELEMENT_TYPES) {
        test(`${type} on the ${on}`, { timeout: 600_000 }, async () => {
            const start = performance.now();
            const rows = await check.run(clip, { types: [type], full, seed });
            const expected = 8 + (type.includes('float') && !(on === 'gpu' && type === 'float64') ? 1 : 0);
            assert.equal(rows.length, expected, 'operations that were run');
            const cases = rows.reduce((sum, row) => sum + row.cases, 0);
            console.log(`${type} on the ${on}: ${cases} cases, seed ${seed}, ${((performance.now() - start) / 1000).toFixed(1)} s`);
            for (const { operation, cases, mismatches, first } of rows) {
                assert.equal(mismatches, 0, `${operation}: ${first}`);
                assert.ok(cases > 100, `${operation}: ${cases} cases`);
            }
        });
    }
}
