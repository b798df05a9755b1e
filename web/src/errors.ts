/**
 * What went wrong:
 * - `bounds`: a bound is NaN, not whole, or out of the type's range; or the gradient of an absent one is wanted;
 * - `shape`: operands do not fit each other, or bounds do not broadcast;
 * - `rule`: no such rule, or one that the operation has no kernel for;
 * - `limit`: an invalid limit of a norm;
 * - `nonfinite`: a norm is NaN or infinite, and that was to be an error; nothing was clipped;
 * - `unsupported`: what the device or the type cannot do;
 * - `out-of-memory`: there is no memory for it; nothing was changed that the caller can see;
 * - `internal`: a fault of this package;
 * - `operand`: an operand is of a kind, type, size or usage that does not serve;
 * - `lost`: the device was lost, before or during the call. A `Clip` that opened its device itself opens another at the next call;
 * - `no-webgpu`: there is no WebGPU, or no adapter.
 */
export type ClipErrorCode = (typeof CODES)[number] | 'operand' | 'lost' | 'no-webgpu';

/** Those of the wasm module, from 1, in the order of `code` in wasm/src/abi.rs. */
const CODES = [
    'bounds', 'shape', 'rule', 'limit', 'nonfinite', 'unsupported', 'out-of-memory', 'internal',
] as const;

/** The one error of this package, with a code to act upon and a message that says what to do. */
export class ClipError extends Error {
    override readonly name = 'ClipError';

    constructor(readonly code: ClipErrorCode, message: string, options?: ErrorOptions) {
        super(message, options);
    }

    /** @internal */
    static ofModule(code: number, message: string): ClipError {
        return new ClipError(CODES[code - 1] ?? 'internal', message);
    }
}
