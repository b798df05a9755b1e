import { type ElementType, type TypedArray, asArray, bytesOf } from './elements.js';
import { ClipError } from './errors.js';
import { Mask, checkedMask, maskBits } from './mask.js';
import type { Backend, Operation } from './operation.js';
import { type Operand, type Resolved, checkAlike, isGpu, resolve } from './operands.js';
import { type MadeGpu, given, gradientOf, makeLike, resolveBroadcast } from './results.js';
import type { Bound, Rule, RulePreset } from './rules.js';

/**
 * The operands of an operation of the list, by name: its inputs, its broadcast inputs (`min` and `max` for `lo` and `hi`), its parameters; and the
 * rule, and the output type of a conversion.
 */
export interface NamedOperands {
    readonly rule?: RulePreset | Rule | undefined;
    readonly type?: ElementType | undefined;
    readonly mask?: Mask;
    readonly [name: string]: unknown;
}

/** The outputs of an operation of the list, by name. An absent broadcast input has no gradient. */
export type NamedOutputs = Readonly<Record<string, TypedArray | MadeGpu | Mask | undefined>>;

const KEYS: Readonly<Record<string, string>> = { lo: 'min', hi: 'max' };

/** The name of a broadcast input here. */
export function keyOf(operand: string): string {
    return KEYS[operand] ?? operand;
}

/** An operation of the list, and its outputs as returned to the caller. */
export function listed(backend: Backend, name: string, operands: NamedOperands): { readonly operation: Operation; readonly given: () => NamedOutputs } {
    const { core } = backend;
    const row = core.names.ops.find((row) => row.name === name);
    if (!row) throw new ClipError('operand', `no operation is called '${name}': there are ${core.names.ops.map(({ name }) => name).join(', ')}`);
    const known = new Set([...row.inputs, ...row.broadcast.map(keyOf), ...row.params, 'rule', ...(row.converts ? ['type'] : [])]);
    const unknown = Object.keys(operands).find((key) => operands[key] !== undefined && !known.has(key));
    if (unknown !== undefined) throw new ClipError('operand', `${name} takes no ${unknown}: it takes ${[...known].join(', ')}`);
    const mask = row.inputs.includes('mask') ? checkedMask(operands.mask as Mask) : undefined;
    const inputs = row.inputs.map((input) => (input === 'mask' ? mask!.bits : resolve(input, operands[input] as Operand)));
    const first = row.inputs.findIndex((input) => input !== 'mask');
    const x = inputs[first]!;
    const like = operands[row.inputs[first]!] as Operand;
    inputs.forEach((input, n) => row.inputs[n] !== 'mask' && checkAlike(row.inputs[n]!, input, row.inputs[first]!, x));
    if (mask) checkAlike(row.inputs[first]!, x, 'the tensor of the mask', mask.of);
    const to = row.converts ? (operands.type ?? x.type) : x.type;
    const ofCodes = x.type === 'float64' || to === 'float64' ? 'float64' : 'float32';
    const ofType = row.codes ? ofCodes : x.type;
    const broadcast = row.broadcast.map((input) => resolveBroadcast(x, keyOf(input), operands[keyOf(input)] as Bound | undefined, ofType));
    const params = row.params.map((param) => {
        const value = operands[param];
        if (typeof value !== 'number') throw new ClipError('operand', `${name} needs ${param}: give a number`);
        return value;
    });
    const made = row.outputs.map((output, n): Resolved | undefined => {
        if (output === 'mask') return maskBits(backend, x);
        const of = row.gradientOf[n] ?? '';
        const input = broadcast[row.broadcast.indexOf(of)];
        if (of !== '' && input === undefined) return undefined;
        if (of !== '' && input !== undefined) return makeLike(backend, gradientOf(input, x), like);
        const { shape, length } = x;
        const info = { type: to, shape, length, bytes: bytesOf(to) * length };
        // A conversion returns a different kind of array than x.
        return to === x.type || isGpu(x) ? makeLike(backend, info, like) : { ...info, data: asArray(new ArrayBuffer(info.bytes), to) };
    });
    const results = (): NamedOutputs => Object.fromEntries(row.outputs.map((output, n) => {
        const tensor = made[n];
        return [output, tensor && (output === 'mask' ? new Mask(tensor, x, backend) : given(tensor))];
    }));
    return { operation: { op: name, rule: core.rule(operands.rule), x, inputs, broadcast, params, outputs: made }, given: results };
}
