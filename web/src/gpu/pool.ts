/** Bytes that are kept for the next call at the most. */
const MAX_KEPT = 256 * 1024 * 1024;

/** Buffers of whole blocks that calls use and give back, by size and usage. */
export class Pool {
    readonly #free = new Map<string, GPUBuffer[]>();
    /** Those that somebody's encoder has, who may submit it at any time: they are left to the garbage collector. */
    readonly #recorded = new WeakSet<GPUBuffer>();
    #kept = 0;

    constructor(readonly device: GPUDevice) {}

    take(bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
        const size = Math.max(Math.ceil(bytes / 16) * 16, 16);
        const free = this.#free.get(`${size} ${usage}`)?.pop();
        if (free) {
            this.#kept -= size;
            return free;
        }
        return this.device.createBuffer({ label: 'wgclip', size, usage });
    }

    /** Takes a buffer back, of which all uses were submitted, or else are recorded. What comes next is done after them. */
    give(buffer: GPUBuffer, isSubmitted: boolean): void {
        const { size, usage } = buffer;
        if (!isSubmitted) this.#recorded.add(buffer);
        if (this.#kept + size > MAX_KEPT) return this.#destroy(buffer);
        const key = `${size} ${usage}`;
        const list = this.#free.get(key);
        if (list) list.push(buffer);
        else this.#free.set(key, [buffer]);
        this.#kept += size;
    }

    #destroy(buffer: GPUBuffer): void {
        if (!this.#recorded.has(buffer)) buffer.destroy();
    }

    clear(): void {
        for (const list of this.#free.values()) list.forEach((buffer) => this.#destroy(buffer));
        this.#free.clear();
        this.#kept = 0;
    }
}
