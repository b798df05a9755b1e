//! How the bits of an element are to be read, whatever its type: what the shaders and the check go by.

/// How the bits of a type are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An integer from zero up.
    Unsigned,
    /// An integer in two's complement.
    Signed,
    /// IEEE 754 sign and magnitude with so many bits of exponent.
    Float {
        /// Bits of the exponent.
        exponent: u32,
    },
}

/// The layout of a type's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Bits of an element.
    pub bits: u32,
    /// How they are to be read.
    pub kind: Kind,
}

impl Format {
    /// All bits set.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The topmost bit.
    pub const fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }

    /// The least normal number of a float; 0 for integers.
    pub const fn normal(self) -> u64 {
        match self.kind {
            Kind::Float { exponent } => 1 << (self.bits - 1 - exponent),
            _ => 0,
        }
    }

    /// Positive infinity of a float: a magnitude beyond it is a NaN. The topmost bit for integers, which no
    /// magnitude reaches.
    pub const fn infinity(self) -> u64 {
        self.sign() - self.normal()
    }

    /// The bits that no value comes before in the order by which the shaders compare: for floats a NaN beyond the
    /// infinity. They stand for a lower bound that is absent.
    pub(crate) const fn first(self) -> u64 {
        match self.kind {
            Kind::Unsigned => 0,
            Kind::Signed => self.sign(),
            Kind::Float { .. } => self.mask(),
        }
    }

    /// The bits that no value comes after, for an upper bound that is absent.
    pub(crate) const fn last(self) -> u64 {
        match self.kind {
            Kind::Unsigned => self.mask(),
            Kind::Signed | Kind::Float { .. } => self.mask() >> 1,
        }
    }
}
