import type { Operand } from './operands.js';

/** A bound: a number for all elements, or a tensor that broadcasts to x by numpy's rules. */
export type Bound = number | bigint | Operand;

/** The bounds of a clip. An omitted bound is truly absent: infinities pass. */
export interface Bounds {
    readonly min?: Bound | undefined;
    readonly max?: Bound | undefined;
    /**
     * How numeric bounds are rounded to the element type: to nearest (the default), or inward, so
     * that no result exceeds the requested bounds.
     */
    readonly rounding?: 'nearest' | 'inward' | undefined;
}

/** The rule of a framework, by name. */
export type RulePreset = 'torch' | 'torch-2.13' | 'hardtanh' | 'burn' | 'tensorflow' | 'tfjs' | 'jax' | 'lax';

/** The backward rule. */
export interface Rule {
    /** The gradient outside the bounds: 0 (the default), all of it, or only the part that descends back to the interval. */
    readonly outside?: 'masked' | 'straight-through' | 'toward';
    /** Where x equals a bound, the gradient goes to x (the default), to the bound, or half to each. */
    readonly ties?: 'inclusive' | 'exclusive' | 'half';
    /** Where x is NaN: the gradient passes (the default), or is 0. */
    readonly nan?: 'pass' | 'zero';
}

/** Bounds and a rule, for gradients. */
export interface RuledBounds extends Bounds {
    readonly rule?: RulePreset | Rule | undefined;
}

/** The limit of a norm. */
export interface NormLimit {
    /** The maximum norm: 0 or more. */
    readonly maxNorm: number;
    /** Which norm: `'l2'` by default. */
    readonly kind?: 'l1' | 'l2' | 'max';
    /** Added to the norm before the limit is divided by it: 0 by default, or a framework's value. */
    readonly eps?: number | 'torch' | 'tensorflow' | 'optax';
    /** The policy for elements whose norm is NaN or infinite: by default, IEEE 754 arithmetic. */
    readonly nonfinite?: 'propagate' | 'zero' | 'skip' | 'error';
}
