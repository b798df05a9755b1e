//! The backward rule: where the gradient of a clip flows.
//!
//! Clipping is `t = max(x, lo); y = min(t, hi)`, and the gradient flows back through both by the chain rule. That
//! leaves three choices, which differ between frameworks: see [`BackwardRule::PRESETS`].

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// What x receives where it lies outside the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OutsideRule {
    /// Zero: the gradient of the clip itself.
    #[default]
    Masked,
    /// The upstream gradient everywhere, as if nothing had been clipped. Ties and NaN are ignored.
    StraightThrough,
    /// The upstream gradient, but only where the descent step `-g` would move x back toward the interval
    /// (through each bound in turn, so a lower bound above the upper one lets through only what both do).
    Toward,
}

/// Who receives the gradient where two operands are equal (`x == lo`, or `max(x, lo) == hi`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TieRule {
    /// The tensor side.
    #[default]
    Inclusive,
    /// The bound, so x receives zero.
    Exclusive,
    /// Half each. An x equal to both bounds keeps a quarter.
    Half,
}

/// What x receives where it is NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NanRule {
    /// The upstream gradient: x supplied the output.
    #[default]
    Pass,
    /// Zero.
    Zero,
}

/// The backward rule of a clip.
///
/// ```
/// use wgclip::{BackwardRule, OutsideRule, TieRule};
///
/// let torch: BackwardRule = "torch".parse()?;
/// assert_eq!(torch.ties, TieRule::Exclusive);
/// let quantiser = BackwardRule { outside: OutsideRule::StraightThrough, ..BackwardRule::default() };
/// # assert_ne!(torch, quantiser);
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BackwardRule {
    /// What x receives outside the interval.
    pub outside: OutsideRule,
    /// Who receives the gradient of a tie.
    pub ties: TieRule,
    /// What a NaN receives.
    pub nan: NanRule,
}

impl BackwardRule {
    /// The rule of each framework, by name: its tie and NaN rules, with [`OutsideRule::Masked`].
    ///
    /// | name | ties | NaN | used by |
    /// |---|---|---|---|
    /// | `torch` | exclusive | zero | `torch.clamp`, 2.14 and later |
    /// | `torch-2.13` | inclusive | zero | `torch.clamp`, 2.13 and earlier |
    /// | `hardtanh` | exclusive | pass | `torch.nn.Hardtanh` and `ReLU6` |
    /// | `burn` | inclusive | pass | Burn's `clamp` |
    /// | `tensorflow` | inclusive | zero | `tf.clip_by_value` |
    /// | `tfjs` | inclusive | zero | `tf.clipByValue` |
    /// | `jax` | half | zero | `jnp.clip` |
    /// | `lax` | exclusive | zero | `lax.clamp` |
    pub const PRESETS: &[(&str, Self)] = &[
        ("torch", Self::TORCH),
        ("torch-2.13", Self::TORCH_2_13),
        ("hardtanh", Self::HARDTANH),
        ("burn", Self::BURN),
        ("tensorflow", Self::TENSORFLOW),
        ("tfjs", Self::TFJS),
        ("jax", Self::JAX),
        ("lax", Self::LAX),
    ];

    /// The rule of `torch.clamp`, 2.14 and later: the preset `torch`.
    pub const TORCH: Self = Self::masked(TieRule::Exclusive, NanRule::Zero);
    /// The rule of `torch.clamp`, 2.13 and earlier: the preset `torch-2.13`.
    pub const TORCH_2_13: Self = Self::masked(TieRule::Inclusive, NanRule::Zero);
    /// The rule of `torch.nn.Hardtanh` and `ReLU6`: the preset `hardtanh`.
    pub const HARDTANH: Self = Self::masked(TieRule::Exclusive, NanRule::Pass);
    /// The rule of Burn's `clamp`: the preset `burn`.
    pub const BURN: Self = Self::masked(TieRule::Inclusive, NanRule::Pass);
    /// The rule of `tf.clip_by_value`: the preset `tensorflow`.
    pub const TENSORFLOW: Self = Self::masked(TieRule::Inclusive, NanRule::Zero);
    /// The rule of `tf.clipByValue`: the preset `tfjs`.
    pub const TFJS: Self = Self::masked(TieRule::Inclusive, NanRule::Zero);
    /// The rule of `jnp.clip`: the preset `jax`.
    pub const JAX: Self = Self::masked(TieRule::Half, NanRule::Zero);
    /// The rule of `lax.clamp`: the preset `lax`.
    pub const LAX: Self = Self::masked(TieRule::Exclusive, NanRule::Zero);

    const fn masked(ties: TieRule, nan: NanRule) -> Self {
        Self { outside: OutsideRule::Masked, ties, nan }
    }

    /// Whether the gradient passes everywhere, so that the result is the upstream gradient itself: no kernel is needed,
    /// and ties and NaN are ignored.
    pub const fn is_identity(self) -> bool {
        matches!(self.outside, OutsideRule::StraightThrough)
    }

    /// Whether one bit per element determines what x receives: all of the upstream gradient, or nothing. It does not
    /// for [`TieRule::Half`], which halves, nor for [`OutsideRule::Toward`], which depends on the gradient's sign.
    pub const fn fits_mask(self) -> bool {
        match self.outside {
            OutsideRule::Masked => !matches!(self.ties, TieRule::Half),
            OutsideRule::StraightThrough => true,
            OutsideRule::Toward => false,
        }
    }

    /// Every rule: each [`OutsideRule`] with each [`TieRule`] and each [`NanRule`].
    pub fn all() -> impl Iterator<Item = Self> {
        OutsideRule::ALL.iter().flat_map(|&outside| {
            TieRule::ALL
                .iter()
                .flat_map(move |&ties| NanRule::ALL.iter().map(move |&nan| Self { outside, ties, nan }))
        })
    }
}

impl fmt::Display for BackwardRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ties {}, nan {}", self.outside, self.ties, self.nan)
    }
}

impl FromStr for BackwardRule {
    type Err = Error;

    /// Parses the name of a preset, or of an [`OutsideRule`] with default ties and NaN: `"straight-through"`.
    fn from_str(name: &str) -> Result<Self, Error> {
        let preset = Self::PRESETS.iter().find(|(n, _)| *n == name);
        preset.map_or_else(|| Ok(Self { outside: name.parse()?, ..Self::default() }), |(_, rule)| Ok(*rule))
    }
}

/// Gives an enum its list of variants, and conversions to and from their names.
macro_rules! named {
    ($type:ident { $($variant:ident: $name:literal),+ }) => {
        impl $type {
            /// Every variant.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name that the command line uses.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self, Error> {
                match name { $($name => Ok(Self::$variant),)+ _ => Err(Error::UnknownRule { name: name.to_owned() }) }
            }
        }
    };
}

pub(crate) use named;

named!(OutsideRule { Masked: "masked", StraightThrough: "straight-through", Toward: "toward" });
named!(TieRule { Inclusive: "inclusive", Exclusive: "exclusive", Half: "half" });
named!(NanRule { Pass: "pass", Zero: "zero" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!(BackwardRule::all().count(), 18);
        for rule in BackwardRule::all() {
            assert_eq!(rule.outside.name().parse(), Ok(rule.outside));
            assert_eq!(rule.ties.name().parse(), Ok(rule.ties));
            assert_eq!(rule.nan.name().parse(), Ok(rule.nan));
        }
        for (name, rule) in BackwardRule::PRESETS {
            assert_eq!(name.parse(), Ok(*rule));
        }
        assert!("pytorch".parse::<BackwardRule>().is_err());
    }
}
