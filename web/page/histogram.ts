/** The interval that histograms show, in bars of width 1/8 centred on the sample's values. */
const FROM = -4;
const TO = 4;
const STEP = 1 / 8;
const BARS = (TO - FROM) / STEP + 1;
const HEIGHT = 112;
const BASE = 92;

const SVG = 'http://www.w3.org/2000/svg';

function element(name: string, attributes: Record<string, string | number>, text = ''): SVGElement {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    made.textContent = text;
    return made;
}

/** The bar of a value, or undefined beyond the ends. */
function barOf(value: number): number | undefined {
    const bar = Math.round((value - FROM) / STEP);
    return bar >= 0 && bar < BARS ? bar : undefined;
}

/** The number of values in each bar. */
export function counts(values: Float32Array): number[] {
    const bars = new Array<number>(BARS).fill(0);
    for (const value of values) {
        const bar = barOf(value);
        if (bar !== undefined) bars[bar]! += 1;
    }
    return bars;
}

/** The mean of `of` over the values of each bar. */
export function means(values: Float32Array, of: Float32Array): number[] {
    const [sums, number] = [new Array<number>(BARS).fill(0), counts(values)];
    values.forEach((value, n) => {
        const bar = barOf(value);
        if (bar !== undefined) sums[bar]! += of[n]!;
    });
    return sums.map((sum, n) => (number[n] ? sum / number[n] : 0));
}

interface Drawing {
    readonly bars: readonly number[];
    /** The value of a bar of full height. */
    readonly full: number;
    /** The total of all bars, to label those that are higher. */
    readonly all?: number;
    readonly bounds: readonly (number | undefined)[];
    readonly kind: 'bar' | 'grad';
    readonly label: string;
}

/** Draws bars around an axis, as wide as the page allows. */
export function draw(svg: SVGElement, { bars, full, all, bounds, kind, label }: Drawing): void {
    const width = svg.clientWidth || 640;
    const place = (value: number): number => ((value - FROM + STEP / 2) / (BARS * STEP)) * width;
    svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute('aria-label', label);
    const [zero, room] = kind === 'grad' ? [BASE / 2, BASE / 2 - 4] : [BASE, BASE - 18];
    const [low, high] = bounds;
    const drawn = bars.flatMap((value, n) => {
        const height = Math.min(Math.abs(value) / full, 1.05) * room;
        const at = FROM + n * STEP;
        const beyond = (low !== undefined && at < low) || (high !== undefined && at > high);
        const bar = element('rect', {
            class: kind === 'grad' ? 'grad' : beyond ? 'bar clipped' : 'bar', x: (n * width) / BARS + 0.5, width: Math.max(width / BARS - 1, 1),
            y: value < 0 ? zero : zero - height, height,
        });
        if (all === undefined || value <= 1.05 * full) return [bar];
        const anchor = at < -3 ? 'start' : at > 3 ? 'end' : 'middle';
        const note = element('text', { x: place(at), y: 10, 'text-anchor': anchor }, `${((100 * value) / all).toFixed(0)} %`);
        return [bar, note];
    });
    const lines = bounds.filter((bound) => bound !== undefined)
        .map((bound) => element('line', { class: 'bound', x1: place(bound), x2: place(bound), y1: 12, y2: BASE }));
    const ticks = [FROM, -2, 0, 2, TO].map((value) => {
        const anchor = value === FROM ? 'start' : value === TO ? 'end' : 'middle';
        return element('text', { x: place(value), y: HEIGHT - 6, 'text-anchor': anchor }, String(value));
    });
    svg.replaceChildren(element('line', { class: 'axis', x1: 0, x2: width, y1: zero, y2: zero }), ...drawn, ...lines, ...ticks);
}
