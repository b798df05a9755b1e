import type { Operand } from './operands.js';

/** A bound: a number for all elements, or a tensor that broadcasts to x by numpy's rules. */
export type Bound = number | bigint | Operand;

/** What elements are clipped to. A bound that is left out is truly absent: infinities pass. */
export interface Bounds {
    readonly min?: Bound | undefined;
    readonly max?: Bound | undefined;
    /**
     * How bounds that are numbers are rounded to the elements' type: to the nearest (the default), or to the nearest that is not beyond the number, so
     * that no result lies outside of what was asked.
     */
    readonly rounding?: 'nearest' | 'inward' | undefined;
}

/** What a framework does, by its name. */
export type RulePreset = 'torch' | 'torch-2.13' | 'hardtanh' | 'burn' | 'tensorflow' | 'tfjs' | 'jax' | 'lax';

/** The backward rule. */
export interface Rule {
    /** The gradient outside the bounds: 0 (the default), all of it, or what descends back to the interval. */
    readonly outside?: 'masked' | 'straight-through' | 'toward';
    /** Where x equals a bound, who receives the gradient: x (the default), the bound, or each half. */
    readonly ties?: 'inclusive' | 'exclusive' | 'half';
    /** Where x is NaN: the gradient passes (the default), or is 0. */
    readonly nan?: 'pass' | 'zero';
}

/** Bounds and a rule, for gradients. */
export interface RuledBounds extends Bounds {
    readonly rule?: RulePreset | Rule | undefined;
}

/** What a norm is limited to. */
export interface NormLimit {
    /** The limit of the norm: 0 or more. */
    readonly maxNorm: number;
    /** Which norm: `'l2'` by default. */
    readonly kind?: 'l1' | 'l2' | 'max';
    /** What is added to the norm before the limit is divided by it: 0 by default, or a framework's. */
    readonly eps?: number | 'torch' | 'tensorflow' | 'optax';
    /** What becomes of elements whose norm is NaN or infinite: what IEEE 754 gives, by default. */
    readonly nonfinite?: 'propagate' | 'zero' | 'skip' | 'error';
}
