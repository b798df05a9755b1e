//! The backward rule: where the gradient of a clip flows.
//!
//! Clipping is `t = max(x, lo); y = min(t, hi)`, and the gradient goes back through both by the chain rule.
//! That leaves three choices, which frameworks make differently: see [`Gradient::PRESETS`].

use std::fmt;
use std::str::FromStr;

/// What x receives where it lies outside the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outside {
    /// Zero: the gradient of the clip itself.
    #[default]
    Masked,
    /// The upstream gradient everywhere, as if nothing had been clipped. Ties and NaN have no say.
    StraightThrough,
    /// The upstream gradient, but only where the descent step `-g` would move x back toward the interval
    /// (through each bound in turn, so a lower bound above the upper one lets through only what both do).
    Toward,
}

/// Who receives the gradient where two operands are equal (`x == lo`, or `max(x, lo) == hi`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ties {
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
pub enum NanGradient {
    /// The upstream gradient: x supplied the output.
    #[default]
    Pass,
    /// Zero.
    Zero,
}

/// The backward rule of a clip.
///
/// ```
/// use wgclip::{Gradient, Outside, Ties};
///
/// let torch: Gradient = "torch".parse()?;
/// assert_eq!(torch.ties, Ties::Exclusive);
/// let quantiser = Gradient { outside: Outside::StraightThrough, ..Gradient::default() };
/// # assert_ne!(torch, quantiser);
/// # Ok::<(), wgclip::UnknownName>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gradient {
    /// What x receives outside the interval.
    pub outside: Outside,
    /// Who receives the gradient of a tie.
    pub ties: Ties,
    /// What a NaN receives.
    pub nan: NanGradient,
}

impl Gradient {
    /// The rule of each framework, by name: its ties and its NaN, [`Outside::Masked`].
    ///
    /// | name | ties | NaN | whose |
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
        ("torch", Self::masked(Ties::Exclusive, NanGradient::Zero)),
        ("torch-2.13", Self::masked(Ties::Inclusive, NanGradient::Zero)),
        ("hardtanh", Self::masked(Ties::Exclusive, NanGradient::Pass)),
        ("burn", Self::masked(Ties::Inclusive, NanGradient::Pass)),
        ("tensorflow", Self::masked(Ties::Inclusive, NanGradient::Zero)),
        ("tfjs", Self::masked(Ties::Inclusive, NanGradient::Zero)),
        ("jax", Self::masked(Ties::Half, NanGradient::Zero)),
        ("lax", Self::masked(Ties::Exclusive, NanGradient::Zero)),
    ];

    const fn masked(ties: Ties, nan: NanGradient) -> Self {
        Self { outside: Outside::Masked, ties, nan }
    }

    /// Every rule: each [`Outside`] with each [`Ties`] and each [`NanGradient`].
    pub fn all() -> impl Iterator<Item = Self> {
        Outside::ALL.iter().flat_map(|&outside| {
            Ties::ALL
                .iter()
                .flat_map(move |&ties| NanGradient::ALL.iter().map(move |&nan| Self { outside, ties, nan }))
        })
    }
}

impl fmt::Display for Gradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ties {}, nan {}", self.outside, self.ties, self.nan)
    }
}

impl FromStr for Gradient {
    type Err = UnknownName;

    /// The preset of this name.
    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::PRESETS.iter().find(|(n, _)| *n == name);
        found.map(|(_, rule)| *rule).ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// A name that no rule or preset has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule is called '{0}'")]
pub struct UnknownName(String);

/// Gives an enum its list of variants, and their names both ways.
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
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                match name { $($name => Ok(Self::$variant),)+ _ => Err(UnknownName(name.to_owned())) }
            }
        }
    };
}

named!(Outside { Masked: "masked", StraightThrough: "straight-through", Toward: "toward" });
named!(Ties { Inclusive: "inclusive", Exclusive: "exclusive", Half: "half" });
named!(NanGradient { Pass: "pass", Zero: "zero" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!(Gradient::all().count(), 18);
        for rule in Gradient::all() {
            assert_eq!(rule.outside.name().parse(), Ok(rule.outside));
            assert_eq!(rule.ties.name().parse(), Ok(rule.ties));
            assert_eq!(rule.nan.name().parse(), Ok(rule.nan));
        }
        for (name, rule) in Gradient::PRESETS {
            assert_eq!(name.parse(), Ok(*rule));
        }
        assert!("pytorch".parse::<Gradient>().is_err());
    }
}
