//! What goes in: special values, their neighbours, and random bits.

use wgclip::{Element, ElementType};

/// Bit patterns where implementations go wrong: zeros, subnormals, the ends of every range, NaN payloads.
pub fn specials<T: Element>() -> Vec<T> {
    let bits: &[u64] = match T::TYPE {
        ElementType::F32 => &[
            0x0000_0000,
            0x8000_0000, // zeros
            0x0000_0001,
            0x8000_0001,
            0x0000_0002,
            0x0000_0003,
            0x8000_0003, // least subnormals
            0x007f_fffe,
            0x007f_ffff,
            0x807f_ffff, // greatest subnormals
            0x0080_0000,
            0x8080_0000,
            0x0080_0001,
            0x0080_0003,
            0x8080_0003,
            0x00ff_ffff, // least normals
            0x0100_0000,
            0x8100_0000,
            0x0100_0001,
            0x3f00_0000,
            0x3f7f_ffff,
            0x3f80_0000,
            0x3f80_0001,
            0xbf80_0000,
            0xbf80_0001, // about one
            0x40c0_0000,
            0xc0c0_0000, // six
            0x7f7f_fffe,
            0x7f7f_ffff,
            0xff7f_ffff, // greatest
            0x7f80_0000,
            0xff80_0000, // infinities
            0x7f80_0001,
            0xff80_0001,
            0x7fbf_ffff, // signalling NaN
            0x7fc0_0000,
            0xffc0_0000,
            0x7fc1_2345,
            0xffff_ffff,
            0x7fff_ffff, // quiet NaN
        ],
        other => panic!("give the special values of {other} a row here"),
    };
    bits.iter().copied().map(T::from_bits).collect()
}

/// Bounds to pair with one another: absent, ordinary, equal, crossed, zeros of both signs, subnormals, the
/// ends and beyond them.
pub fn bound_values<T: Element>() -> Vec<Option<T>> {
    let bits: &[u64] = match T::TYPE {
        ElementType::F32 => &[
            0x0000_0000,
            0x8000_0000,
            0x0000_0001,
            0x8000_0001,
            0x007f_ffff,
            0x0080_0000,
            0x3f80_0000,
            0xbf80_0000,
            0x40c0_0000,
            0x7f7f_ffff,
            0xff7f_ffff,
            0x7f80_0000,
            0xff80_0000,
        ],
        other => panic!("give the bounds of {other} a row here"),
    };
    std::iter::once(None).chain(bits.iter().copied().map(|b| Some(T::from_bits(b)))).collect()
}

/// `len` random bit patterns.
pub fn random<T: Element>(rng: &mut fastrand::Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_bits(rng.u64(..))).collect()
}

/// x and g: every pair of special values, then random bits against random bits.
pub fn pairs<T: Element>(rng: &mut fastrand::Rng, random_len: usize) -> (Vec<T>, Vec<T>) {
    let specials = specials::<T>();
    let pair = |&x: &T| specials.iter().map(move |&g| (x, g));
    let (mut x, mut g): (Vec<T>, Vec<T>) = specials.iter().flat_map(pair).unzip();
    x.extend(random::<T>(rng, random_len));
    g.extend(random::<T>(rng, random_len));
    (x, g)
}
