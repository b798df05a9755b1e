/**
 * Tensor clipping on the page's own GPU, forward and backward, the same bits on every device.
 *
 * ```ts
 * import { Clip } from 'wgclip';
 *
 * const clip = await Clip.create();
 * const y = await clip.clip(Float32Array.of(-2, 0.5, 7), { min: 0, max: 1 });  // 0, 0.5, 1
 * ```
 * @packageDocumentation
 */

export { Clip, type CreateOptions, type Gradients, type Host, type Into, type Masked, type Prepared } from './clip.js';
export { type Arrays, ELEMENT_TYPES, type ElementType, type TypedArray } from './elements.js';
export type { OpRow } from './core.js';
export { ClipError, type ClipErrorCode } from './errors.js';
export type { NamedOperands, NamedOutputs } from './list.js';
export type { Mask } from './mask.js';
export type { GpuTensor, HostTensor, Operand } from './operands.js';
export type { PreparedOperands } from './prepare.js';
export type { MadeGpu } from './results.js';
export type { Bound, Bounds, NormLimit, Rule, RulePreset, RuledBounds } from './rules.js';
