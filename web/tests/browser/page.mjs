// The page in Chromium: each control, a file, the check, a lost device, no WebGPU, a phone.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch } from './chromium.mjs';
import { site } from './site.mjs';

const limit = { timeout: 60_000 };
const shots = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'build/screenshots');
mkdirSync(shots, { recursive: true });

const { url, close } = await site();
const [browser, without] = await Promise.all([launch(), launch({ webgpu: false })]);
after(async () => {
    await Promise.all([browser.close(), without.close()]);
    close();
});

async function open({ browser: of = browser, ...options } = {}) {
    const context = await of.newContext({ acceptDownloads: true, permissions: ['clipboard-read', 'clipboard-write'], ...options });
    const page = await context.newPage();
    const [errors, requests] = [[], []];
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(url);
    await page.waitForFunction(() => document.getElementById('summary').textContent !== '');
    return { page, errors, requests, text: (id) => page.textContent(`#${id}`) };
}

/** Sets a control as a user does, and waits for what it changes. */
async function set(page, id, value) {
    const before = await page.evaluate(() => ['summary', 'after', 'gradient'].map((id) => document.getElementById(id).outerHTML).join());
    const input = page.locator(`#${id}`);
    if (typeof value === 'boolean') await input.setChecked(value);
    else if (await input.evaluate((element) => element.tagName === 'SELECT')) await input.selectOption(value);
    else await input.fill(String(value));
    await page.waitForFunction((before) =>
        ['summary', 'after', 'gradient'].map((id) => document.getElementById(id).outerHTML).join() !== before, before, { timeout: 10_000 });
}

/** The bars of a picture that have a height, by their place. */
function bars(page, id) {
    return page.$$eval(`#${id} rect`, (rects) => rects.map((rect) => Number(rect.getAttribute('height')) > 0.5 ? 1 : 0));
}

test('bounds and rules are shown as they are set', limit, async () => {
    const { page, errors, requests, text } = await open({ viewport: { width: 800, height: 1030 } });
    assert.match(await text('device'), /WebGPU/);
    assert.match(await text('summary'), /^35\.\d % of the values were clipped; 64\.\d % of the gradient passes\.$/);
    // A bar for each eighth from -4: those of -1 and 1.5 are the outermost that are left.
    const left = await bars(page, 'after');
    assert.deepEqual([left.indexOf(1), left.lastIndexOf(1)], [24, 44]);
    assert.deepEqual(await bars(page, 'gradient'), left);
    await page.screenshot({ path: join(shots, 'page.png') });

    await set(page, 'min', 0);
    assert.equal(await text('min-value'), '0');
    assert.equal((await bars(page, 'after')).indexOf(1), 32);
    await set(page, 'max', 2);
    assert.equal((await bars(page, 'after')).lastIndexOf(1), 48);

    // At the bound itself no gradient reaches x.
    await set(page, 'ties', 'exclusive');
    const exclusive = await bars(page, 'gradient');
    assert.deepEqual([exclusive.indexOf(1), exclusive.lastIndexOf(1)], [33, 47]);
    await set(page, 'ties', 'half');
    assert.equal(await page.$$eval('#gradient rect', (rects) => rects[32].getAttribute('height') / rects[40].getAttribute('height')), 0.5);
    await set(page, 'preset', 'lax');
    assert.deepEqual(await Promise.all(['ties', 'nan', 'outside'].map((id) => page.inputValue(`#${id}`))), ['exclusive', 'zero', 'masked']);
    await set(page, 'outside', 'straight-through');
    assert.equal(await page.inputValue('#preset'), '');
    assert.match(await text('summary'), /100\.0 % of the gradient/);
    await set(page, 'outside', 'toward');
    const toward = await bars(page, 'gradient');
    // The step of a gradient of +1 is downward: back, from above.
    assert.deepEqual([toward[10], toward[60]], [0, 1]);
    await set(page, 'sign', '-1');
    const other = await bars(page, 'gradient');
    assert.deepEqual([other[10], other[60]], [1, 0]);

    await set(page, 'has-min', false);
    assert.equal(await text('min-value'), 'none');
    assert.ok(await page.isDisabled('#min'));
    assert.equal((await bars(page, 'after'))[2], 1);
    await set(page, 'has-min', true);
    await set(page, 'min', 3);
    assert.match(await text('summary'), /lower bound is above the upper one/);
    assert.deepEqual(errors, []);
    assert.deepEqual(requests.filter((request) => !request.startsWith(url)), [], 'requests to elsewhere');
});

test('everything is reached by the keyboard, and has a name', limit, async () => {
    const { page } = await open();
    const reached = [];
    for (let n = 0; n < 15; n++) {
        await page.keyboard.press('Tab');
        reached.push(await page.evaluate(() => document.activeElement.id));
    }
    const wanted = ['min', 'max', 'has-min', 'has-max', 'preset', 'outside', 'ties', 'nan', 'sign', 'file', 'check', 'check-full', 'bench'];
    assert.deepEqual(reached.slice(0, wanted.length), wanted);
    await page.focus('#min');
    await page.keyboard.press('ArrowRight');
    await page.waitForFunction(() => document.getElementById('min-value').textContent === '-0.75');
    const unnamed = await page.$$eval('input, select, button', (all) =>
        all.filter((control) => !control.labels?.length && !control.textContent.trim()).map(({ id }) => id));
    assert.deepEqual(unnamed, []);
    const pictures = await page.$$eval('svg', (all) => all.map((svg) => [svg.getAttribute('role'), svg.getAttribute('aria-label')]));
    for (const [role, label] of pictures) assert.ok(role === 'img' && /\d/.test(label), label);
});

function npy(descr, shape, data) {
    const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`.padEnd(117) + '\n';
    const head = Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), Buffer.from([header.length & 255, header.length >> 8]), Buffer.from(header)]);
    return Buffer.concat([head, Buffer.from(data.buffer)]);
}

function safetensors(tensors) {
    let at = 0;
    const header = Object.fromEntries(tensors.map(([name, dtype, data]) => {
        const start = at;
        at += data.byteLength;
        return [name, { dtype, shape: [data.length], data_offsets: [start, at] }];
    }));
    const text = Buffer.from(JSON.stringify({ __metadata__: { made: 'here' }, ...header }));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    return Buffer.concat([length, text, ...tensors.map(([, , data]) => Buffer.from(data.buffer))]);
}

async function clipped(page, name, buffer) {
    await page.setInputFiles('#file', { name, mimeType: 'application/octet-stream', buffer });
    await page.waitForFunction((name) => {
        const text = document.getElementById('file-status').textContent;
        return text.startsWith(name) && !text.startsWith('Reading');
    }, name);
    if (!await page.isVisible('#save')) return undefined;
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
    return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

test('files are clipped and saved, and what is no such file is told', limit, async () => {
    const { page, errors, text } = await open();
    const data = Float32Array.of(-5, 0.25, NaN, 7, Infinity);
    const file = npy('<f4', [5], data);
    const saved = await clipped(page, 'x.npy', file);
    assert.equal(saved.name, 'x.clipped.npy');
    assert.deepEqual(saved.bytes, npy('<f4', [5], Float32Array.of(-1, 0.25, NaN, 1.5, 1.5)));
    assert.equal(await text('file-status'), 'x.npy: one tensor, 3 of 5 values clipped.');

    const several = safetensors([
        ['a', 'BF16', Uint16Array.of(0x4120, 0x3f80)], ['b', 'I32', Int32Array.of(-3, 9)], ['c', 'F64', Float64Array.of(0.5, -9)],
        ['d', 'BOOL', Uint8Array.of(1, 0)], ['e', 'U8', Uint8Array.of(0, 9)],
    ]);
    await set(page, 'max', 2.5);
    const model = await clipped(page, 'model.safetensors', several);
    assert.deepEqual(model.bytes, safetensors([
        ['a', 'BF16', Uint16Array.of(0x4020, 0x3f80)], ['b', 'I32', Int32Array.of(-1, 2)], ['c', 'F64', Float64Array.of(0.5, -1)],
        ['d', 'BOOL', Uint8Array.of(1, 0)], ['e', 'U8', Uint8Array.of(0, 2)],
    ]));
    assert.match(await text('file-status'), /^model\.safetensors: 4 tensors, 5 of 8 values clipped\. d is left as it is: BOOL/);
    await set(page, 'max', -2);
    await clipped(page, 'model.safetensors', several);
    assert.match(await text('file-status'), /e is left as it is: .*outside the range of uint8/);

    for (const [name, bytes, reason] of [
        ['a.txt', Buffer.from('hello'), /no \.npy and no/], ['cut.npy', file.subarray(0, 60), /ends within its header/],
        ['short.npy', file.subarray(0, 140), /takes others/], ['cut.safetensors', several.subarray(0, 20), /ends within/],
        ['big.npy', npy('>f4', [5], data), /little-endian/],
    ]) {
        assert.equal(await clipped(page, name, bytes), undefined, name);
        assert.match(await text('file-status'), reason);
    }
    // Dropped, as a mouse does.
    await page.evaluate((bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], 'dropped.npy'));
        document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }, [...file]);
    await page.waitForFunction(() => document.getElementById('file-status').textContent.startsWith('dropped.npy: one tensor'));
    assert.deepEqual(errors, []);
});

test('the check of this browser finds no mismatch', { timeout: 600_000 }, async () => {
    const { page, errors, text } = await open();
    await page.click('#check');
    assert.ok(await page.isVisible('#check-stop'));
    // Of a float the methods in eight forms, the operations by name of any type and those of floats, and the norm. In Dawn the table has
    // run already: here one type is enough, or all with WGCLIP_TEST_ALL_TYPES=1.
    const ofFloat = 8 + 2 + 11 + 1;
    const all = process.env.WGCLIP_TEST_ALL_TYPES === '1';
    if (!all) {
        await page.waitForFunction((rows) => document.querySelectorAll('#check-table tbody tr').length > rows, ofFloat, { timeout: 580_000 });
        await page.click('#check-stop');
    }
    await page.waitForFunction(() => /cases.*\(/.test(document.getElementById('check-status').textContent), undefined, { timeout: 580_000 });
    const status = await text('check-status');
    console.log(`the page in Chromium: ${status}`);
    assert.match(status, all ? /^[\d,]+ cases, 0 mismatches \(done\)\.$/ : /^[\d,]+ cases, 0 mismatches \(stopped\)\.$/);
    const rows = await page.$$eval('#check-table tbody tr', (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    if (all) assert.equal(rows.length, 14 * (8 + 2) + 5 * (11 + 1));
    assert.ok(rows.length > ofFloat, `${rows.length} rows`);
    assert.ok(rows.every(([, , cases]) => Number(cases.replaceAll(',', '')) > 100), 'cases in every row');
    await page.click('#check-copy');
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /^wgclip check, [\d,]+ cases, 0 mismatches/);
    assert.equal(copied.split('\n').length, 4 + rows.length);
    await page.screenshot({ path: join(shots, 'check.png') });

    await page.click('#check');
    await page.click('#check-stop');
    await page.waitForFunction(() => document.getElementById('check-status').textContent.includes('(stopped)'));
    assert.deepEqual(errors, []);
});

test('the bench fills its table', { timeout: 120_000 }, async () => {
    const { page, errors } = await open();
    await page.click('#bench');
    await page.waitForFunction(() => document.getElementById('bench-status').textContent.startsWith('Done'), undefined, { timeout: 110_000 });
    const rows = await page.$$eval('#bench-table tbody tr', (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    assert.deepEqual(rows.map(([elements]) => elements), ['4,096', '1,048,576', '16,777,216']);
    for (const [, ratio] of rows) assert.ok(Number(ratio) > 0, ratio);
    console.log(`clip beside a copy in Chromium: ${rows.map(([elements, ratio]) => `${elements}: ${ratio}`).join('; ')}`);
    assert.deepEqual(errors, []);
});

test('a lost device is followed by another', limit, async () => {
    const { page, errors, text } = await open();
    await page.evaluate(async () => {
        const { device } = globalThis.wgclip.clip;
        device.destroy();
        await device.lost;
    });
    await set(page, 'max', 3);
    assert.match(await text('summary'), /% of the values were clipped/);
    assert.match(await text('device'), /WebGPU/);
    assert.deepEqual(errors, []);
});

test('without WebGPU the CPU does it, and the page says so', { timeout: 300_000 }, async () => {
    const { page, errors, text } = await open({ browser: without });
    assert.match(await text('device'), /no WebGPU, so the CPU does it/);
    assert.match(await text('summary'), /^35\.\d % of the values were clipped; 64\.\d % of the gradient passes\.$/);
    await set(page, 'min', 0.5);
    assert.equal((await bars(page, 'after')).indexOf(1), 36);
    assert.ok(await page.isDisabled('#bench'));
    await page.click('#check');
    await page.waitForFunction(() => /cases.*\(/.test(document.getElementById('check-status').textContent), undefined, { timeout: 280_000 });
    assert.match(await text('check-status'), /^[\d,]+ cases, 0 mismatches \(done\)\.$/);
    assert.deepEqual(errors, []);
});

test('a phone has it all in its width', limit, async () => {
    const { page } = await open({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: 'dark' });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${width} wide on 360`);
    const beyond = await page.$$eval('main *', (all) => all.filter((element) => element.getBoundingClientRect().right > 360).map(({ id, tagName }) => id || tagName));
    assert.deepEqual(beyond, []);
    await page.screenshot({ path: join(shots, 'phone-top.png') });
    await page.evaluate(() => document.querySelector('label[for=sign]').scrollIntoView());
    await page.screenshot({ path: join(shots, 'phone.png') });
});
