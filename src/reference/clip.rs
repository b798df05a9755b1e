//! A clip and its gradients: selected, never computed.

use super::exact;
use crate::{BackwardRule, Element, ElementType, NanRule, OutsideRule, TieRule, with_element};

/// Clips `x` to the bounds: `min(max(x, lo), hi)`.
///
/// | case | result |
/// |---|---|
/// | x inside, or equal to a bound | x, with its own bits (-0.0 stays -0.0 at a bound of 0.0) |
/// | x below lo, x above hi | the bound's bits |
/// | lo above hi | hi |
/// | a bound is absent | no limit: infinities stay |
/// | NaN among x, lo, hi | the first NaN of them, with its payload |
pub fn clip<T: Element>(x: T, lo: Option<T>, hi: Option<T>) -> T {
    clamp_hi(clamp_lo(x, lo), hi)
}

/// Clips `x` to the bounds as [`clip`] does, and converts the result to another float type: rounded to nearest once,
/// ties to even.
///
/// | case | result |
/// |---|---|
/// | the same type | the bits of [`clip`] |
/// | finite and beyond the range of the type | its greatest finite number, with the sign: nothing overflows |
/// | infinite | infinity; the greatest finite number where the type has no infinity |
/// | NaN | the quiet NaN of that sign, without payload |
///
/// So a result lies between the rounded bounds. Tensors and slices of integers are refused; here they are converted by
/// [`Element::from_f64`].
pub fn clip_to<T: Element, U: Element>(x: T, lo: Option<T>, hi: Option<T>) -> U {
    let clipped = clip(x, lo, hi);
    convert(T::TYPE, clipped.to_bits(), clipped.to_f64())
}

/// Converts an element, given by its bits and its number, to another float type.
fn convert<U: Element>(from: ElementType, bits: u64, number: f64) -> U {
    let layout = U::TYPE.layout();
    if from == U::TYPE {
        return U::from_bits(bits);
    }
    let sign = if bits & from.layout().sign() != 0 { layout.sign() } else { 0 };
    if number.is_nan() {
        return U::from_bits(layout.quiet_nan() | sign);
    }
    let nearest = U::from_f64(number);
    match number.is_infinite() {
        true => U::from_bits(layout.max_number() | sign),
        false if nearest.to_f64().is_finite() => nearest,
        false => U::from_bits(layout.max_finite() | sign),
    }
}

/// Returns the bits of an element in another float type, as [`clip_to`] converts it.
#[doc(hidden)]
pub fn converted_bits<T: Element>(x: T, to: ElementType) -> u64 {
    let (from, bits, number) = (T::TYPE, x.to_bits(), x.to_f64());
    with_element!(to, U => Element::to_bits(convert::<U>(from, bits, number)))
}

/// Where an element lies relative to the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Less than the lower bound.
    Below,
    /// Inside, or equal to a bound.
    Inside,
    /// Greater than the upper bound (and not less than the lower one).
    Above,
    /// NaN.
    Nan,
}

/// Returns where `x` lies.
pub fn position<T: Element>(x: T, lo: Option<T>, hi: Option<T>) -> Position {
    if x.is_nan() {
        Position::Nan
    } else if lo.is_some_and(|lo| x < lo) {
        Position::Below
    } else if hi.is_some_and(|hi| x > hi) {
        Position::Above
    } else {
        Position::Inside
    }
}

/// The gradient that reaches x, from the upstream gradient `g` of `clip(x, lo, hi)`.
///
/// With [`OutsideRule::StraightThrough`] that is `g`. Otherwise `g` flows back through `min(t, hi)` and then through
/// `t = max(x, lo)`; at each it passes, is stopped (positive zero), or is halved, as `rule` says. A NaN x receives what
/// [`BackwardRule::nan`] says; if a bound's NaN supplied the output, x receives zero.
pub fn clip_backward<T: Element>(x: T, g: T, lo: Option<T>, hi: Option<T>, rule: BackwardRule) -> T {
    if rule.outside == OutsideRule::StraightThrough {
        return g;
    }
    if x.is_nan() {
        return match rule.nan {
            NanRule::Pass => g,
            NanRule::Zero => T::ZERO,
        };
    }
    if lo.is_some_and(T::is_nan) || hi.is_some_and(T::is_nan) {
        return T::ZERO;
    }

    let t = clamp_lo(x, lo);
    let to_t = match hi {
        // The step -g moves t down, toward hi, where g is positive.
        Some(hi) if t > hi => outside_grad(g, g > T::ZERO, rule.outside),
        Some(hi) if t == hi => tie_share(g, rule.ties),
        _ => g,
    };
    match lo {
        Some(lo) if x < lo => outside_grad(to_t, to_t < T::ZERO, rule.outside),
        Some(lo) if x == lo => tie_share(to_t, rule.ties),
        _ => to_t,
    }
}

/// The gradients of the three operands of a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradients<T> {
    /// What x receives.
    pub x: T,
    /// What the lower bound receives, where x is clipped to it or ties with it.
    pub lo: T,
    /// What the upper bound receives.
    pub hi: T,
}

/// The gradients that reach x and both bounds, from the upstream gradient `g` of `clip(x, lo, hi)`.
///
/// x receives what [`clip_backward`] says. The bounds receive what the chain rule gives them ([`OutsideRule`] is only
/// about x): `g` goes to the operand that supplied the output, and a tie is shared as `rule` says. So with
/// [`OutsideRule::Masked`] and [`NanRule::Pass`] the three add up to `g`, except that [`TieRule::Half`] is off in the
/// last bit of an odd subnormal, which cannot be halved.
pub fn clip_backward_bounds<T: Element>(
    x: T,
    g: T,
    lo: Option<T>,
    hi: Option<T>,
    rule: BackwardRule,
) -> Gradients<T> {
    let gx = clip_backward(x, g, lo, hi, rule);
    let [glo, ghi] = bound_grads(x, g, lo, hi, rule.ties);
    Gradients { x: gx, lo: glo, hi: ghi }
}

fn bound_grads<T: Element>(x: T, g: T, lo: Option<T>, hi: Option<T>, ties: TieRule) -> [T; 2] {
    // The first NaN supplied the output.
    if x.is_nan() {
        return [T::ZERO, T::ZERO];
    }
    if lo.is_some_and(T::is_nan) {
        return [g, T::ZERO];
    }
    if hi.is_some_and(T::is_nan) {
        return [T::ZERO, g];
    }

    let t = clamp_lo(x, lo);
    let (to_t, to_hi) = match hi {
        Some(hi) if t > hi => (T::ZERO, g),
        Some(hi) if t == hi => (tie_share(g, ties), bound_share(g, ties)),
        _ => (g, T::ZERO),
    };
    let to_lo = match lo {
        Some(lo) if x < lo => to_t,
        Some(lo) if x == lo => bound_share(to_t, ties),
        _ => T::ZERO,
    };
    [to_lo, to_hi]
}

/// `max(x, lo)`.
fn clamp_lo<T: Element>(x: T, lo: Option<T>) -> T {
    match lo {
        _ if x.is_nan() => x,
        Some(lo) if lo.is_nan() || x < lo => lo,
        _ => x,
    }
}

/// `min(x, hi)`.
fn clamp_hi<T: Element>(x: T, hi: Option<T>) -> T {
    match hi {
        _ if x.is_nan() => x,
        Some(hi) if hi.is_nan() || x > hi => hi,
        _ => x,
    }
}

/// The gradient of an operand that is strictly beyond a bound.
fn outside_grad<T: Element>(g: T, moves_back: bool, outside: OutsideRule) -> T {
    match outside {
        OutsideRule::Masked => T::ZERO,
        OutsideRule::Toward if moves_back => g,
        OutsideRule::Toward => T::ZERO,
        OutsideRule::StraightThrough => g,
    }
}

/// The share of a tied gradient that goes to x.
fn tie_share<T: Element>(g: T, ties: TieRule) -> T {
    match ties {
        TieRule::Inclusive => g,
        TieRule::Exclusive => T::ZERO,
        TieRule::Half => half(g),
    }
}

/// Half of a value: a float's is rounded to nearest, ties to even; NaN and infinities stay. For an odd integer, the even one of the
/// two integers next to the half.
fn half<T: Element>(g: T) -> T {
    if T::TYPE.is_float() {
        return if g.to_f64().is_finite() { T::from_f64(g.to_f64() / 2.0) } else { g };
    }
    let (value, floor) = (exact::integer(g), exact::integer(g).div_euclid(2));
    exact::from_integer(floor + if value % 2 != 0 && floor % 2 != 0 { 1 } else { 0 })
}

/// The other half: the same for a float, the remainder for an integer.
fn rest<T: Element>(g: T) -> T {
    match T::TYPE.is_float() {
        true => half(g),
        false => exact::from_integer(exact::integer(g) - exact::integer(half(g))),
    }
}

/// The share of a tied gradient that goes to the bound.
fn bound_share<T: Element>(g: T, ties: TieRule) -> T {
    match ties {
        TieRule::Inclusive => T::ZERO,
        TieRule::Exclusive => g,
        TieRule::Half => rest(g),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAN: u32 = 0xff80_1234;

    fn clip_bits(x: u32, lo: Option<u32>, hi: Option<u32>) -> u32 {
        clip(f32::from_bits(x), lo.map(f32::from_bits), hi.map(f32::from_bits)).to_bits()
    }

    #[test]
    fn clip_selects_bits() {
        let (zero, minus_zero, one) = (0, 0x8000_0000, 1.0f32.to_bits());
        let inf = f32::INFINITY.to_bits();
        assert_eq!(clip_bits(minus_zero, Some(zero), Some(one)), minus_zero, "a tie keeps x");
        assert_eq!(clip_bits(zero, Some(minus_zero), Some(minus_zero)), zero, "a tie keeps x");
        assert_eq!(clip_bits(1, Some(zero), Some(one)), 1, "subnormals are not flushed");
        assert_eq!(clip_bits(1, Some(2), None), 2, "and are compared");
        assert_eq!(clip_bits(zero, Some(one), Some(minus_zero)), minus_zero, "lo > hi gives hi");
        assert_eq!(clip_bits(inf, Some(zero), None), inf, "an absent bound is absent");
        assert_eq!(clip_bits(inf, Some(zero), Some(one)), one);
    }

    #[test]
    fn clip_propagates_the_first_nan_with_its_payload() {
        let one = 1.0f32.to_bits();
        assert_eq!(clip_bits(SNAN, Some(0x7fc0_0001), Some(one)), SNAN);
        assert_eq!(clip_bits(one, Some(SNAN), Some(0x7fc0_0001)), SNAN);
        assert_eq!(clip_bits(one, Some(0), Some(SNAN)), SNAN);
        assert_eq!(clip_bits(SNAN, None, None), SNAN);
    }

    #[test]
    fn gradient_follows_the_operand_that_supplied_the_output() {
        let grad = |x: f32, g: f32, outside, ties| {
            let rule = BackwardRule { outside, ties, nan: NanRule::Pass };
            clip_backward(x, g, Some(-1.0), Some(1.0), rule)
        };
        use OutsideRule::*;
        use TieRule::*;
        assert_eq!(grad(0.5, 3.0, Masked, Inclusive), 3.0);
        assert_eq!(grad(2.0, 3.0, Masked, Inclusive), 0.0);
        assert_eq!(grad(2.0, f32::INFINITY, Masked, Inclusive).to_bits(), 0, "not 0 * inf");
        assert_eq!(grad(2.0, 3.0, StraightThrough, Exclusive), 3.0);
        for tied in [-1.0, 1.0] {
            assert_eq!(grad(tied, 3.0, Masked, Inclusive), 3.0);
            assert_eq!(grad(tied, 3.0, Toward, Exclusive), 0.0);
            assert_eq!(grad(tied, 3.0, Masked, Half), 1.5);
        }
        assert_eq!(grad(2.0, 3.0, Toward, Inclusive), 3.0, "descent moves x down");
        assert_eq!(grad(2.0, -3.0, Toward, Inclusive), 0.0);
        assert_eq!(grad(-2.0, -3.0, Toward, Inclusive), -3.0);
        assert_eq!(grad(-2.0, 3.0, Toward, Inclusive), 0.0);
        assert_eq!(grad(-2.0, f32::NAN, Toward, Inclusive), 0.0, "NaN moves nothing");
    }

    #[test]
    fn gradient_of_equal_bounds_crossed_bounds_and_nan() {
        let half = BackwardRule { ties: TieRule::Half, ..BackwardRule::default() };
        assert_eq!(clip_backward(1.0, 3.0, Some(1.0), Some(1.0), half), 0.75);
        let toward = BackwardRule { outside: OutsideRule::Toward, ..BackwardRule::default() };
        for (x, g, expected) in [(3.0, 1.0, 1.0), (3.0, -1.0, 0.0), (1.5, 1.0, 0.0), (0.0, -1.0, 0.0)] {
            assert_eq!(clip_backward(x, g, Some(2.0), Some(1.0), toward), expected, "x {x}, g {g}");
        }
        let zero = BackwardRule { nan: NanRule::Zero, ..BackwardRule::default() };
        assert_eq!(clip_backward(f32::NAN, 3.0, None, None, BackwardRule::default()), 3.0);
        assert_eq!(clip_backward(f32::NAN, 3.0, None, None, zero), 0.0);
        assert_eq!(clip_backward(0.5, 3.0, Some(f32::NAN), None, BackwardRule::default()), 0.0);
    }

    #[test]
    fn gradients_of_the_operands_add_up() {
        let values = [f32::NEG_INFINITY, -2.0, -0.0, 0.0, 1.0, 1.5, f32::INFINITY, f32::NAN];
        let bounds: Vec<_> = values.iter().copied().map(Some).chain([None]).collect();
        for ties in [TieRule::Inclusive, TieRule::Exclusive, TieRule::Half] {
            let rule = BackwardRule { ties, ..BackwardRule::default() };
            for x in values {
                for (&lo, &hi) in bounds.iter().flat_map(|lo| bounds.iter().map(move |hi| (lo, hi))) {
                    let grads = clip_backward_bounds(x, 3.0, lo, hi, rule);
                    assert_eq!(grads.x + grads.lo + grads.hi, 3.0, "{x} in {lo:?}, {hi:?}, {ties}");
                }
            }
        }
    }

    #[test]
    fn sides_agree_with_what_clip_changes() {
        assert_eq!(position(-2.0f32, Some(-1.0), Some(1.0)), Position::Below);
        assert_eq!(position(1.0f32, Some(-1.0), Some(1.0)), Position::Inside);
        assert_eq!(position(1.5f32, Some(-1.0), Some(1.0)), Position::Above);
        assert_eq!(position(f32::NAN, Some(-1.0), Some(1.0)), Position::Nan);
        assert_eq!(position(f32::INFINITY, Some(-1.0), None), Position::Inside);
    }
}
