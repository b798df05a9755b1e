//! 4-bit codes, one or two a byte: the twin of `shaders/pack4.wgsl`.

use crate::backend::cpu::simd::vectorised;

vectorised! {
    /// Packs pairs of codes, a byte each, into one byte a pair.
    pub(super) fn pack4(pairs: &[u16], packed: &mut [u8]) {
        for (packed, &pair) in packed.iter_mut().zip(pairs) {
            *packed = (pair & 0xf | pair >> 4 & 0xf0) as u8;
        }
    }

    /// The reverse. Signed codes get the sign of their 4 bits.
    pub(super) fn unpack4(packed: &[u8], signed: bool, pairs: &mut [u16]) {
        let sign = if signed { 0x808 } else { 0 };
        for (pair, &packed) in pairs.iter_mut().zip(packed) {
            let codes = u16::from(packed & 0xf) | u16::from(packed & 0xf0) << 4;
            *pair = codes | ((codes & sign) * 0x1e);
        }
    }
}
