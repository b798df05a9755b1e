/**
 * The kind of error:
 * - `bounds`: a bound is NaN, not whole, or out of the type's range; or the gradient of an absent one was requested;
 * - `shape`: operands do not match, or bounds do not broadcast;
 * - `rule`: no such rule, or one that the operation has no kernel for;
 * - `limit`: an invalid limit of a norm;
 * - `nonfinite`: a norm is NaN or infinite, and the policy makes that an error; nothing was clipped;
 * - `unsupported`: not supported by the device or for the type;
 * - `out-of-memory`: not enough memory; nothing visible to the caller was changed;
 * - `internal`: a bug in this package;
 * - `operand`: the kind, type, size or usage of an operand is unsuitable;
 * - `lost`: the device was lost, before or during the call. A `Clip` that opened its own device opens another at the next call;
 * - `no-webgpu`: there is no WebGPU, or no adapter.
 */
export type ClipErrorCode = (typeof CODES)[number] | 'operand' | 'lost' | 'no-webgpu';

/** Those of the wasm module, from 1, in the order of `code` in wasm/src/abi.rs. */
const CODES = [
    'bounds', 'shape', 'rule', 'limit', 'nonfinite', 'unsupported', 'out-of-memory', 'internal',
] as const;

/** The error class of this package, with a code for programs and a message that says what to do. */
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
