// Times beside TensorFlow.js and ONNX Runtime Web in Chromium, of the same work on the same device, in turn. `node tests/browser/times.mjs`
import { launch } from './chromium.mjs';
import { site } from './site.mjs';

const SIZES = [4096, 1 << 20, 16 << 20];
const { url, close } = await site();
const browser = await launch();

/** A ratio above 1 is in our favour. */
function line(what, size, [ours, theirs]) {
    console.log(`${what}, ${size.toLocaleString('en')} elements: ${(theirs / ours).toFixed(2)} (${ours.toFixed(3)} ms, theirs ${theirs.toFixed(3)} ms)`);
}

try {
    const page = await browser.newPage();
    await page.goto(`${url}tests/`);
    await page.waitForFunction(() => globalThis.peers !== undefined);
    console.log(await browser.version(), await page.evaluate(async () => (await navigator.gpu.requestAdapter()).info.description));
    for (const { size, forward, gradient } of await page.evaluate((sizes) => globalThis.peers.tfjsTimes(sizes), SIZES)) {
        line('TensorFlow.js clipByValue', size, forward);
        line('TensorFlow.js clipByValue and its gradient', size, gradient);
    }
    for (const { size, forward } of await page.evaluate((sizes) => globalThis.peers.ortTimes(sizes), SIZES)) {
        line('ONNX Runtime Web Clip', size, forward);
    }
} finally {
    await browser.close();
    close();
}
