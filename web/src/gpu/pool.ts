/** Maximum bytes kept for the next call. */
const MAX_KEPT = 256 * 1024 * 1024;

/** Buffers of whole blocks that calls use and return, by size and usage. */
export class Pool {
    readonly #free = new Map<string, GPUBuffer[]>();
    /** Buffers used in a caller's encoder, which may be submitted at any time: they are left to the garbage collector. */
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

    /** Takes back a buffer whose uses were all submitted, or else recorded. Later uses run after them. */
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
