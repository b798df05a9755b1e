import { ClipError } from './errors.js';
import { type Mask, checkedMask } from './mask.js';
import type { Backend, Operation } from './operation.js';
import { type GpuTensor, type Operand, type Resolved, type TensorInfo, checkAlike, resolve } from './operands.js';
import { alias, gradientOf, pair, resolveBounds } from './results.js';
import type { Bounds, RuledBounds } from './rules.js';

/** The operands of a prepared operation: all of them buffers, used without copies. Omitted gradients of bounds are not computed. */
export type PreparedOperands =
    | ({ readonly op: 'clip'; readonly x: GpuTensor; readonly y: GpuTensor } & Bounds)
    | ({ readonly op: 'clipBackward'; readonly x: GpuTensor; readonly g: GpuTensor; readonly gx: GpuTensor } & RuledBounds)
    | ({
        readonly op: 'clipBackwardBounds'; readonly x: GpuTensor; readonly g: GpuTensor; readonly gx?: GpuTensor; readonly gmin?: GpuTensor;
        readonly gmax?: GpuTensor;
    } & RuledBounds)
    | ({ readonly op: 'clipWithMask'; readonly x: GpuTensor; readonly y: GpuTensor; readonly mask: Mask } & RuledBounds)
    | { readonly op: 'maskBackward'; readonly mask: Mask; readonly g: GpuTensor; readonly gx: GpuTensor };

/** An operation to prepare. */
export function operation({ core }: Backend, operands: PreparedOperands): Operation {
    const output = (name: string, out: Operand, like: TensorInfo, inputs: readonly Resolved[]): Resolved => {
        const tensor = resolve(name, out);
        checkAlike(name, tensor, 'what it is for', like);
        return alias(tensor, inputs);
    };
    if (operands.op === 'maskBackward') {
        const [{ bits, of }, g] = [checkedMask(operands.mask), resolve('g', operands.g)];
        checkAlike('g', g, 'the tensor of the mask', of);
        return { op: 'mask_backward', rule: 0, x: g, inputs: [bits, g], broadcast: [], outputs: [output('gx', operands.gx, g, [g])] };
    }
    const x = resolve('x', operands.x);
    const bounds = resolveBounds(x, operands);
    if (operands.op === 'clip') return { op: 'clip', rule: 0, x, inputs: [x], broadcast: bounds, outputs: [output('y', operands.y, x, [x])] };
    const rule = core.rule(operands.rule);
    if (operands.op === 'clipWithMask') {
        const { bits, of } = checkedMask(operands.mask);
        checkAlike('x', x, 'the tensor of the mask', of);
        return { op: 'clip_with_mask', rule, x, inputs: [x], broadcast: bounds, outputs: [output('y', operands.y, x, []), bits] };
    }
    if (operands.op !== 'clipBackward' && operands.op !== 'clipBackwardBounds') {
        throw new ClipError('operand', `'${String((operands as { op: unknown }).op)}' cannot be prepared: there are clip, clipBackward, clipBackwardBounds, `
            + 'clipWithMask and maskBackward');
    }
    const [, g] = pair(operands.x, operands.g);
    const inputs = [x, g];
    const gx = operands.gx && output('gx', operands.gx, g, operands.op === 'clipBackward' ? [g] : []);
    if (gx && core.isIdentity(rule)) {
        throw new ClipError('rule', 'a straight-through gradient is the upstream gradient itself: leave gx out');
    }
    if (operands.op === 'clipBackward') return { op: 'clip_backward', rule, x, inputs, broadcast: bounds, outputs: [gx] };
    const ofBounds = (['gmin', 'gmax'] as const).map((name, n) => {
        const [out, bound] = [operands[name], bounds[n]];
        if (out !== undefined && bound === undefined) throw new ClipError('bounds', `${name} is the gradient of a bound that is absent: leave it out`);
        return out !== undefined && bound !== undefined ? output(name, out, gradientOf(bound, g), []) : undefined;
    });
    return { op: 'clip_backward_bounds', rule, x, inputs, broadcast: bounds, outputs: [gx, ...ofBounds] };
}
