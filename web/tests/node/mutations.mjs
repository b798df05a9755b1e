// The tests can fail: faults planted in the kernels, as a device would make them, are found by the check. conformance.mjs sees that the
// right kernels pass.
import './dawn.mjs';
import assert from 'node:assert/strict';
import { test } from 'node:test';

const { Check, Clip } = await import('../../build/testing.js');
const check = await Check.load();

/** A Clip whose kernels have one text in place of another. */
async function mutated(find, replace) {
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const create = device.createShaderModule.bind(device);
    let planted = false;
    device.createShaderModule = (descriptor) => {
        planted ||= descriptor.code.includes(find);
        return create({ ...descriptor, code: descriptor.code.replace(find, replace) });
    };
    return { clip: await Clip.on(device), isPlanted: () => planted };
}

for (const [operation, type, find, replace] of [
    ['clip', 'float32', 'return select(raised, bounds.hi, above_hi(v, bounds));', 'return raised;'],
    ['clipInPlace', 'int16', 'y_blocks[i] = result;', 'if i > 0u { y_blocks[i] = result; }'],
    ['clipBackward', 'float32', 'gx = select(gx, zero, nan_lo | nan_hi);', ''],
    ['clipBackward in place', 'uint64', '(a.yw < b.yw) | ((a.yw == b.yw) & (a.xz < b.xz))', 'a.yw < b.yw'],
    ['clipBackwardBounds', 'bfloat16', 'glo_blocks[i] = result.glo;', 'glo_blocks[i] = result.ghi;'],
    ['clipWithMask', 'float16', 'y_blocks[i] = result.y;', ''],
    ['clipByGlobalNorm', 'float32', 'add_f32(norm, params.eps)', 'norm'],
]) {
    test(`${operation} of ${type} without "${find}"`, { timeout: 120_000 }, async () => {
        const { clip, isPlanted } = await mutated(find, replace);
        const rows = await check.run(clip, { types: [type], operations: [operation] });
        assert.ok(isPlanted(), 'the text is in no kernel any more');
        const [{ mismatches, first }] = rows;
        assert.ok(mismatches > 0, 'not caught');
        assert.match(first, /expected 0x/);
    });
}
