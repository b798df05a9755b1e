import { ClipError } from './errors.js';
import { GpuBackend } from './gpu/backend.js';
import type { Backend } from './operation.js';
import { type Resolved, isGpu } from './operands.js';

/** One bit for each element of a tensor: whether its gradient passes. */
export class Mask {
    /** @internal */
    constructor(readonly bits: Resolved, readonly of: Resolved, readonly backend: Backend) {}

    /** Frees its buffer. */
    destroy(): void {
        if (isGpu(this.bits)) this.bits.buffer.destroy();
    }
}

/** The memory for the bits of a mask. */
export function maskBits(backend: Backend, of: Resolved): Resolved {
    const bytes = backend.maskBytes(of);
    const like = { type: 'uint8', shape: [bytes], length: bytes, bytes } as const;
    return backend instanceof GpuBackend ? backend.tensor(like) : { ...like, data: new Uint8Array(bytes) };
}

export function checkedMask(mask: Mask): Mask {
    if (mask instanceof Mask) return mask;
    throw new ClipError('operand', 'the mask is none: give that of clipWithMask');
}
