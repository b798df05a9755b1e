// TensorFlow.js and ONNX Runtime Web in Chromium, beside the package.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { launch } from './chromium.mjs';
import { site } from './site.mjs';

const { url, close } = await site();
const browser = await launch();
after(async () => {
    await browser.close();
    close();
});

async function open() {
    const page = await browser.newPage();
    const errors = [];
    page.on('pageerror', (error) => errors.push(error.message));
    await page.goto(`${url}tests/`);
    await page.waitForFunction(() => globalThis.peers !== undefined);
    return { page, errors };
}

test('TensorFlow.js', { timeout: 120_000 }, async () => {
    const { page, errors } = await open();
    const found = await page.evaluate(() => globalThis.peers.tfjs());
    console.log(`tf.clipByValue beside ours: ${JSON.stringify(found.theirs)} of 100,003; its gradient: ${JSON.stringify(found.theirGradients)}`);
    assert.equal(found.wrong, 0, 'values that differ from the reference path');
    assert.equal(found.wrongGradients, 0);
    assert.equal(found.straight, 0);
    assert.deepEqual(found.chained, [0, 6, 0, 6, 6]);
    assert.deepEqual(found.learned, [[1, 0, 0, 0], [1, 1]]);
    assert.deepEqual(found.integers, [-1, 3, 4]);
    assert.deepEqual(found.empty, []);
    assert.deepEqual(found.norm, [[0.6, 0, 0], [0, 0.8], [3, 0, 0], [0, 4]]);
    assert.equal(found.leaked, 0, 'tensors that were left');
    assert.equal(found.refused, 'operand');
    assert.deepEqual(errors, []);
});

test('ONNX Runtime Web', { timeout: 120_000 }, async () => {
    const { page, errors } = await open();
    const found = await page.evaluate(() => globalThis.peers.ort());
    console.log(`ONNX Runtime's Clip beside ours: ${JSON.stringify(found.theirs)} of 100,003`);
    assert.equal(found.before, 'no-webgpu');
    assert.deepEqual(found.host, ['cpu', 0]);
    assert.deepEqual(found.gpu, ['gpu-buffer', 'gpu-buffer', [100_003], 'cpu']);
    assert.equal(found.wrong, 0, 'values that differ from the reference path');
    assert.equal(found.again, true);
    assert.equal(found.gradient, 0);
    assert.deepEqual(found.int64, ['0', String(2n ** 61n)]);
    assert.equal(found.norm, 5);
    assert.equal(found.refused, 'operand');
    assert.deepEqual(errors, []);
});
