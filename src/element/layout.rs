//! How to read the bits of an element of any type: everything that the shaders know of a type.

/// How to read the bits of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberClass {
    /// An unsigned integer.
    Unsigned,
    /// An integer in two's complement.
    Signed,
    /// Sign and magnitude, as in IEEE 754.
    Float {
        /// Bits of the exponent.
        exponent: u32,
        /// Whether its top value is for infinity and NaN. Otherwise it is an ordinary one, and the magnitude of all
        /// ones is the only NaN.
        infinity: bool,
    },
}

/// The layout of a type's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitLayout {
    /// Bits of an element.
    pub bits: u32,
    /// How to read them.
    pub class: NumberClass,
}

impl BitLayout {
    /// All bits set.
    #[inline]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The topmost bit.
    #[inline]
    pub const fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }

    /// The smallest normal number of a float; 0 for integers.
    #[inline]
    pub const fn min_normal(self) -> u64 {
        match self.class {
            NumberClass::Float { exponent, .. } => 1 << (self.bits - 1 - exponent),
            _ => 0,
        }
    }

    /// The greatest finite magnitude of a float. For integers the topmost bit, which no magnitude reaches.
    #[inline]
    pub const fn max_finite(self) -> u64 {
        match self.class {
            NumberClass::Float { infinity: true, .. } => self.sign() - self.min_normal() - 1,
            NumberClass::Float { .. } => self.sign() - 2,
            _ => self.sign(),
        }
    }

    /// The greatest magnitude of a float that is a number: infinity, or the greatest finite one in a type without infinity.
    /// The NaNs are beyond it. For integers as [`max_finite`](Self::max_finite).
    #[inline]
    pub const fn max_number(self) -> u64 {
        match self.class {
            NumberClass::Float { infinity: true, .. } => self.max_finite() + 1,
            _ => self.max_finite(),
        }
    }

    /// The minimum and the maximum element that are numbers, infinities included.
    #[inline]
    pub const fn ends(self) -> [u64; 2] {
        match self.class {
            NumberClass::Unsigned => [0, self.mask()],
            NumberClass::Signed => [self.sign(), self.sign() - 1],
            NumberClass::Float { .. } => [self.sign() | self.max_number(), self.max_number()],
        }
    }

    /// Bits of the fraction of a float; all but the sign for integers.
    #[inline]
    pub const fn fraction_bits(self) -> u32 {
        match self.class {
            NumberClass::Float { exponent, .. } => self.bits - 1 - exponent,
            _ => self.bits - 1,
        }
    }

    /// The exponent of the smallest normal number of a float: that of its leading bit.
    #[inline]
    pub(crate) const fn min_exponent(self) -> i32 {
        match self.class {
            NumberClass::Float { exponent, .. } => 2 - (1 << (exponent - 1)),
            _ => 0,
        }
    }

    /// The magnitude of a finite float as an integer times a power of two.
    #[inline(always)]
    pub(crate) const fn decompose(self, bits: u64) -> (u64, i32) {
        let (fraction, magnitude) = (self.fraction_bits(), bits & (self.sign() - 1));
        let exponent = magnitude >> fraction;
        let implicit = if exponent == 0 { 0 } else { self.min_normal() };
        let significand = (magnitude & (self.min_normal() - 1)) | implicit;
        let exponent = if exponent == 0 { 1 } else { exponent as i32 };
        (significand, exponent - 1 + self.min_exponent() - fraction as i32)
    }

    /// The positive quiet NaN of a float, without payload; 0 for integers.
    #[inline]
    pub const fn quiet_nan(self) -> u64 {
        match self.class {
            NumberClass::Float { infinity: true, .. } => self.max_number() | self.min_normal() >> 1,
            NumberClass::Float { .. } => self.max_number() + 1,
            _ => 0,
        }
    }

    /// The order key of an element of up to 32 bits, left-aligned in a word, by which the shaders test whether it is
    /// outside scalar bounds (`order_key` in `shaders/lib/element.wgsl`): integers modulo 2^32 that grow with the
    /// elements, with -0 right before +0 and NaN beyond infinity.
    #[inline]
    const fn order_key(self, bits: u64) -> u32 {
        let word = (bits << (32 - self.bits)) as u32;
        match self.class {
            NumberClass::Float { .. } if word >> 31 == 1 => word ^ (u32::MAX >> 1),
            _ => word,
        }
    }

    /// The ranges of order keys below a lower bound and above an upper one, including infinities but not NaN: the start
    /// and the length of each, 0 for an absent bound. For 64 bits, which have no order key, both are empty.
    pub(crate) fn ranges_outside(self, lo: Option<u64>, hi: Option<u64>) -> [(u32, u32); 2] {
        if self.bits > 32 {
            return [(0, 0), (0, 0)];
        }
        let [least, most] = self.ends();
        // Zeros are equal, so the lower bound is the first of them and the upper one the last.
        let is_zero = |bits: u64| matches!(self.class, NumberClass::Float { .. }) && bits & !self.sign() == 0;
        let lo = lo.map(|bits| self.order_key(if is_zero(bits) { self.sign() } else { bits }));
        let hi = hi.map(|bits| self.order_key(if is_zero(bits) { 0 } else { bits }));
        let (first, last) = (self.order_key(least), self.order_key(most));
        [
            (first, lo.map_or(0, |lo| lo.wrapping_sub(first))),
            hi.map_or((0, 0), |hi| (hi.wrapping_add(1), last.wrapping_sub(hi))),
        ]
    }

    /// The minimum bit pattern in the order of the shaders' comparisons: for floats a NaN beyond negative infinity. It
    /// stands for an absent lower bound.
    #[inline]
    pub(crate) const fn total_order_min(self) -> u64 {
        match self.class {
            NumberClass::Unsigned => 0,
            NumberClass::Signed => self.sign(),
            NumberClass::Float { .. } => self.mask(),
        }
    }

    /// The maximum bit pattern in that order, for an absent upper bound.
    #[inline]
    pub(crate) const fn total_order_max(self) -> u64 {
        match self.class {
            NumberClass::Unsigned => self.mask(),
            NumberClass::Signed | NumberClass::Float { .. } => self.mask() >> 1,
        }
    }
}
