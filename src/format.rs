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

    /// The place of an element of up to 32 bits, at the top of a word, in the order by which the shaders tell whether it
    /// is outside values (`place` in `shaders/lane.wgsl`): integers modulo 2^32 that grow with the elements, -0 right
    /// before +0, a NaN beyond an infinity.
    #[cfg(feature = "gpu")]
    const fn place(self, bits: u64) -> u32 {
        let word = (bits << (32 - self.bits)) as u32;
        match self.kind {
            Kind::Float { .. } if word >> 31 == 1 => word ^ (u32::MAX >> 1),
            _ => word,
        }
    }

    /// The ranges of places below a lower bound and above an upper one, infinities included and NaN not: where each
    /// begins, and how many places it has, none for a bound that is absent. For 64 bits, of which there is no place, both
    /// are empty.
    #[cfg(feature = "gpu")]
    pub(crate) fn outside(self, lo: Option<u64>, hi: Option<u64>) -> [(u32, u32); 2] {
        if self.bits > 32 {
            return [(0, 0), (0, 0)];
        }
        let (least, most) = match self.kind {
            Kind::Unsigned => (0, self.mask()),
            Kind::Signed => (self.sign(), self.sign() - 1),
            Kind::Float { .. } => (self.sign() | self.infinity(), self.infinity()),
        };
        // Zeros are equal, so the lower bound is the first of them and the upper one the last.
        let is_zero = |bits: u64| matches!(self.kind, Kind::Float { .. }) && bits & !self.sign() == 0;
        let lo = lo.map(|bits| self.place(if is_zero(bits) { self.sign() } else { bits }));
        let hi = hi.map(|bits| self.place(if is_zero(bits) { 0 } else { bits }));
        let (first, last) = (self.place(least), self.place(most));
        [
            (first, lo.map_or(0, |lo| lo.wrapping_sub(first))),
            hi.map_or((0, 0), |hi| (hi.wrapping_add(1), last.wrapping_sub(hi))),
        ]
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
