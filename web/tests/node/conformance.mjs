// The conformance table of every operation, in Dawn and in the CPU path, which is compiled for wasm alone. A GPU's plans are those
// of the native library, which is tested with every type: there one of each size and class is enough, or all with
// WGCLIP_TEST_ALL_TYPES=1. WGCLIP_TEST_FULL=1 runs the whole table.
import './dawn.mjs';
import assert from 'node:assert/strict';
import { test } from 'node:test';

const { Check, Clip, ELEMENT_TYPES } = await import('../../build/testing.js');

const full = process.env.WGCLIP_TEST_FULL === '1';
const all = process.env.WGCLIP_TEST_ALL_TYPES === '1';
const TYPES = { cpu: ELEMENT_TYPES, gpu: all ? ELEMENT_TYPES : ['float32', 'bfloat16', 'uint8', 'uint64'] };
const METHODS = ['clip', 'clip_backward', 'clip_backward_bounds', 'clip_with_mask', 'mask_backward'];
const seed = Number(process.env.WGCLIP_TEST_SEED ?? Date.now() % 2 ** 32);
const check = await Check.load();

for (const on of ['cpu', 'gpu']) {
    const clip = await Clip.create({ on });
    for (const type of TYPES[on]) {
        test(`${type} on the ${on}`, { timeout: 600_000 }, async () => {
            const start = performance.now();
            const rows = await check.run(clip, { types: [type], full, seed });
            const hasFloats = type.includes('float') && !(on === 'gpu' && type === 'float64');
            // Five operations have methods, in eight forms. The others are run by their names, but for those whose output has another type;
            // floats have the norm.
            const others = clip.operations.filter(({ name, converts }) => !METHODS.includes(name) && !converts);
            const expected = 8 + others.filter(({ floats, float64 }) => (hasFloats || !floats) && (float64 || type !== 'float64')).length + Number(hasFloats);
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
