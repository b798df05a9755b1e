import { Clip, ClipError, type Rule, type RulePreset, type RuledBounds } from '../src/index.js';
import { type Measured, measure } from './bench.js';
import { Check, type Row } from './check.js';
import { contentsOf, elementsOf } from './files.js';
import { counts, draw, means } from './histogram.js';

function $<E extends Element = HTMLElement>(id: string): E {
    return document.getElementById(id) as unknown as E;
}

const [min, max] = [$<HTMLInputElement>('min'), $<HTMLInputElement>('max')];
const [hasMin, hasMax] = [$<HTMLInputElement>('has-min'), $<HTMLInputElement>('has-max')];
const preset = $<HTMLSelectElement>('preset');
const choices = ['outside', 'ties', 'nan'].map((id) => $<HTMLSelectElement>(id));

/** Values like the output of a layer: a bell curve with long tails, in steps of 1/8 so that some lie at the bounds, and a NaN. */
function sample(length: number): Float32Array {
    let state = 2463534242;
    const random = (): number => {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        return (state >>> 0) / 2 ** 32;
    };
    const values = Float32Array.from({ length }, () => {
        const bell = Math.sqrt(-2 * Math.log(random() + 1e-12)) * Math.cos(2 * Math.PI * random());
        return Math.round(bell * 1.4 * 8) / 8;
    });
    values[length - 1] = NaN;
    return values;
}

const values = sample(1 << 16);
let clip: Clip;

function bounds(): RuledBounds {
    const [outside, ties, nan] = choices.map((choice) => choice.value);
    return {
        min: hasMin.checked ? min.valueAsNumber : undefined,
        max: hasMax.checked ? max.valueAsNumber : undefined,
        rule: { outside, ties, nan } as Rule,
    };
}

function percent(part: number, whole: number): string {
    return `${((100 * part) / whole).toFixed(1)} %`;
}

async function show(): Promise<void> {
    const { min: lo, max: hi, rule } = bounds() as { min?: number; max?: number; rule: Rule };
    const upstream = new Float32Array(values.length).fill(Number($<HTMLSelectElement>('sign').value));
    const [y, gx] = await Promise.all([
        clip.clip(values, { min: lo, max: hi }), clip.clipBackward(values, upstream, { min: lo, max: hi, rule }),
    ]);
    const limits = [lo, hi];
    const before = counts(values);
    const full = Math.max(...before);
    const changed = values.reduce((sum, value, n) => sum + Number(value !== y[n] && !Number.isNaN(value)), 0);
    const passed = gx.reduce((sum, gradient) => sum + Math.abs(gradient), 0);
    const says = `${percent(changed, values.length)} of the values were clipped; ${percent(passed, values.length)} of the gradient passes.`;
    $('summary').textContent = lo !== undefined && hi !== undefined && lo > hi
        ? `${says} The lower bound is above the upper one, so every value becomes the upper bound.` : says;
    draw($('before'), { bars: before, full, bounds: limits, kind: 'bar', label: `Values before clipping, ${percent(changed, values.length)} beyond the bounds` });
    const after = counts(y);
    draw($('after'), { bars: after, full, all: values.length, bounds: limits, kind: 'bar', label: `Values after clipping to ${lo ?? 'no lower bound'} and ${hi ?? 'no upper bound'}` });
    draw($('gradient'), {
        bars: means(values, gx), full: 1, bounds: limits, kind: 'grad', label: `Gradient by value: ${percent(passed, values.length)} of it passes`,
    });
}

/** The redraw in progress: one drawing at a time, and the last one wins. */
let isShowing = false;
let isStale = false;

async function update(): Promise<void> {
    $('min-value').textContent = hasMin.checked ? min.value : 'none';
    $('max-value').textContent = hasMax.checked ? max.value : 'none';
    [min.disabled, max.disabled] = [!hasMin.checked, !hasMax.checked];
    isStale = true;
    if (isShowing) return;
    isShowing = true;
    try {
        while (isStale) {
            isStale = false;
            await show().catch(retry);
        }
    } finally {
        isShowing = false;
    }
}

/** Replaces a lost device by a new one, and shows other errors. */
async function retry(error: unknown): Promise<void> {
    if (!(error instanceof ClipError && error.code === 'lost')) {
        $('summary').textContent = String(error instanceof Error ? error.message : error);
        return;
    }
    $('summary').textContent = 'The GPU device was lost. Trying another one…';
    await show().catch((again: unknown) => ($('summary').textContent = String(again)));
    describeDevice();
}

function describeDevice(): void {
    const { device } = clip;
    const info = device?.adapterInfo;
    const name = [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(' ');
    $('device').textContent = device
        ? `On your GPU by WebGPU${name ? ` (${name})` : ''}.`
        : 'This browser has no WebGPU, so the CPU does it: the same bits, only slower.';
    $<HTMLButtonElement>('bench').disabled = !device;
    if (!device) $('bench-status').textContent = 'There is no GPU to measure.';
}

/** The whole numbers between the same bounds. */
function inward({ min, max }: RuledBounds): RuledBounds {
    return { min: min === undefined ? undefined : Math.ceil(Number(min)), max: max === undefined ? undefined : Math.floor(Number(max)) };
}

async function clipFile(file: File): Promise<void> {
    const status = $('file-status');
    const save = $<HTMLAnchorElement>('save');
    save.hidden = true;
    status.textContent = `Reading ${file.name}…`;
    try {
        const data = await file.arrayBuffer();
        const clipped = new Uint8Array(data.slice(0));
        const limits = bounds();
        const { tensors, others: left } = contentsOf(file.name, data);
        let [changed, elements] = [0, 0];
        for (const tensor of tensors) {
            const before = elementsOf(data, tensor);
            try {
                const after = await clip.clip({ data: before, type: tensor.type }, tensor.type.includes('float') ? limits : inward(limits));
                for (let n = 0; n < before.length; n++) changed += Number(before[n] !== after[n]);
                elements += before.length;
                clipped.set(new Uint8Array(after.buffer), tensor.offset);
            } catch (error) {
                if (!(error instanceof ClipError && error.code === 'bounds')) throw error;
                left.push(`${tensor.name || file.name} is left as it is: ${error.message}`);
            }
        }
        URL.revokeObjectURL(save.href);
        save.href = URL.createObjectURL(new Blob([clipped]));
        save.download = file.name.replace(/(\.\w+)$/, '.clipped$1');
        save.textContent = `Save ${save.download}`;
        save.hidden = false;
        const count = tensors.length === 1 ? 'one tensor' : `${tensors.length} tensors`;
        status.textContent = [`${file.name}: ${count}, ${changed.toLocaleString('en')} of ${elements.toLocaleString('en')} values clipped.`, ...left].join(' ');
    } catch (error) {
        status.textContent = `${file.name} was not clipped: ${error instanceof Error ? error.message : error}`;
    }
}

function row(cells: readonly (string | number)[], isBad = false): HTMLTableRowElement {
    const made = document.createElement('tr');
    made.classList.toggle('bad', isBad);
    made.append(...cells.map((cell) => {
        const td = document.createElement('td');
        td.textContent = typeof cell === 'number' ? cell.toLocaleString('en') : cell;
        return td;
    }));
    return made;
}

function tableBody(id: string): HTMLElement {
    $(id).hidden = false;
    const body = $(id).querySelector('tbody')!;
    body.replaceChildren();
    return body;
}

async function runCheck(): Promise<void> {
    const [button, stop, copy] = ['check', 'check-stop', 'check-copy'].map((id) => $<HTMLButtonElement>(id)) as
        [HTMLButtonElement, HTMLButtonElement, HTMLButtonElement];
    const [status, progress, body] = [$('check-status'), $<HTMLProgressElement>('check-progress'), tableBody('check-table')];
    const abort = new AbortController();
    stop.onclick = () => abort.abort();
    [button.disabled, stop.hidden, copy.hidden, progress.hidden, progress.value] = [true, false, true, false, 0];
    status.textContent = 'Checking…';
    const rows: Row[] = [];
    const seed = Date.now() % 2 ** 32;
    let ended = 'done';
    try {
        const check = await Check.load();
        await check.run(clip, {
            full: $<HTMLInputElement>('check-full').checked, seed, signal: abort.signal,
            progress: (found, done) => {
                rows.push(found);
                progress.value = done;
                body.append(row([found.type, found.operation, found.cases, found.mismatches], found.mismatches > 0));
            },
        });
    } catch (error) {
        ended = abort.signal.aborted ? 'stopped' : `stopped: ${error instanceof Error ? error.message : error}`;
    }
    const [cases, mismatches] = [rows.reduce((sum, { cases }) => sum + cases, 0), rows.reduce((sum, { mismatches }) => sum + mismatches, 0)];
    const result = `${cases.toLocaleString('en')} cases, ${mismatches} mismatches (${ended}).`;
    status.textContent = result;
    [button.disabled, stop.hidden, copy.hidden, progress.hidden] = [false, true, false, true];
    copy.onclick = async () => {
        const lines = rows.map((row) => `${row.type} ${row.operation}: ${row.cases} cases, ${row.mismatches} mismatches ${row.first}`.trim());
        await navigator.clipboard.writeText([`wgclip check, ${result}`, navigator.userAgent, $('device').textContent, `seed ${seed}`, ...lines].join('\n'));
        copy.textContent = 'Copied';
        setTimeout(() => (copy.textContent = 'Copy the result'), 2000);
    };
}

async function runBench(): Promise<void> {
    const button = $<HTMLButtonElement>('bench');
    const [status, body] = [$('bench-status'), tableBody('bench-table')];
    button.disabled = true;
    status.textContent = 'Measuring…';
    const time = (ms: number): string => ms < 1 ? `${(1000 * ms).toFixed(0)} µs` : `${ms.toFixed(2)} ms`;
    try {
        await measure(clip, ({ elements, clip, copy }: Measured) =>
            body.append(row([elements.toLocaleString('en'), (clip / copy).toFixed(2), time(clip), time(copy)])));
        status.textContent = 'Done. A ratio of 1 is a copy.';
    } catch (error) {
        status.textContent = `It could not be measured: ${error instanceof Error ? error.message : error}`;
    } finally {
        button.disabled = false;
    }
}

function listen(): void {
    for (const input of [min, max, hasMin, hasMax, $<HTMLSelectElement>('sign')]) input.addEventListener('input', () => void update());
    preset.addEventListener('input', () => {
        const chosen = preset.value === '' ? undefined : clip.choices(preset.value as RulePreset);
        if (chosen) for (const choice of choices) choice.value = chosen[choice.id as keyof Rule];
        void update();
    });
    for (const choice of choices) {
        choice.addEventListener('input', () => {
            preset.value = '';
            void update();
        });
    }
    const [file, drop] = [$<HTMLInputElement>('file'), $('drop')];
    file.addEventListener('change', () => void (file.files?.[0] && clipFile(file.files[0])));
    for (const name of ['dragover', 'dragleave', 'drop'] as const) {
        drop.addEventListener(name, (event) => {
            event.preventDefault();
            drop.classList.toggle('over', name === 'dragover');
            const dropped = name === 'drop' ? event.dataTransfer?.files[0] : undefined;
            if (dropped) void clipFile(dropped);
        });
    }
    globalThis.addEventListener('resize', () => void update());
    $('check').addEventListener('click', () => void runCheck());
    $('bench').addEventListener('click', () => void runBench());
}

try {
    clip = await Clip.create();
    listen();
    describeDevice();
    await update();
} catch (error) {
    $('device').textContent = `Clipping does not run in this browser: ${error instanceof Error ? error.message : error}`;
}
// For tests, and for experiments in the console.
Object.assign(globalThis, { wgclip: { get clip() { return clip; }, Clip, ClipError } });
