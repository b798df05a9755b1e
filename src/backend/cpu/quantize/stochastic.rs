//! Stochastic rounding, by random numbers that follow from the index of an element: Philox4x32-10.

/// The random bits of an element.
#[inline]
pub(super) fn philox(seed: u64, index: u64) -> u32 {
    let mut words = [index as u32, (index >> 32) as u32, 0, 0];
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let [a, b, c, d] = words;
        let [first, second] =
            [(a, 0xd251_1f53u64), (c, 0xcd9e_8d57)].map(|(word, factor)| u64::from(word) * factor);
        words = [
            (second >> 32) as u32 ^ b ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ d ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    words[0]
}

/// A quotient, rounded away from zero where the fraction of its magnitude is above `(2 * random + 1) / 2^33`: below 2^18, an f64 holds that beside
/// the integer part. `error` is above 0 if the real quotient is greater than the one that was rounded, below 0 if it is less.
#[inline]
pub(super) fn rounded(quotient: f64, error: f64, random: u32) -> f64 {
    let size = quotient.abs();
    let (whole, error) = (size.floor(), if quotient.is_sign_negative() { -error } else { error });
    let part = size - whole;
    let threshold = (2.0 * f64::from(random) + 1.0) / (1u64 << 33) as f64;
    // One below an integer has a fraction above all thresholds, and becomes that integer.
    let is_above = part > threshold || (part == threshold && error > 0.0);
    (whole + f64::from(u8::from(is_above))).copysign(quotient)
}
