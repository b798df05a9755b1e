/** Bytes that are kept for the next call at the most. */
const MAX_KEPT = 256 * 1024 * 1024;

/** Buffers of whole blocks that calls use and give back, by size and usage. */
export class Pool {
    readonly #free = new Map<string, GPUBuffer[]>();
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

    /** Takes a buffer back: what comes next is done after what it was used for. One too many is destroyed, or else left to its other users. */
    give(buffer: GPUBuffer, mayDestroy: boolean): void {
        const { size, usage } = buffer;
        if (this.#kept + size > MAX_KEPT) {
            if (mayDestroy) buffer.destroy();
            return;
        }
        const key = `${size} ${usage}`;
        const list = this.#free.get(key);
        if (list) list.push(buffer);
        else this.#free.set(key, [buffer]);
        this.#kept += size;
    }

    clear(): void {
        for (const list of this.#free.values()) list.forEach((buffer) => buffer.destroy());
        this.#free.clear();
        this.#kept = 0;
    }
}
