//! Tests a driver's handling of WGSL's own floats. The kernels of this crate do not depend on it; other programs may.

use wgclip::testing;
use wgclip::{Device, Result, reference};

use crate::inputs;

/// A WGSL builtin, and for how many inputs of each kind the device's bits differ from those required by IEEE 754.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    /// `"clamp"` or `"addition"`.
    pub name: &'static str,
    /// Inputs tested.
    pub cases: u64,
    /// An operand is NaN and the result is a number.
    pub nan_lost: u64,
    /// The correct result or an operand is subnormal.
    pub subnormal: u64,
    /// Zeros of the wrong sign.
    pub zero: u64,
    /// Others.
    pub other: u64,
}

impl Builtin {
    /// Inputs for which the device is wrong.
    pub fn wrong(&self) -> u64 {
        self.nan_lost + self.subnormal + self.zero + self.other
    }
}

impl Builtin {
    fn new(name: &'static str) -> Self {
        Self { name, cases: 0, nan_lost: 0, subnormal: 0, zero: 0, other: 0 }
    }

    fn record(&mut self, operands: &[f32], expected: f32, actual: f32) {
        self.cases += 1;
        let same = expected.to_bits() == actual.to_bits() || (expected.is_nan() && actual.is_nan());
        let is_subnormal = |v: &f32| v.is_subnormal();
        match () {
            () if same => {}
            () if expected.is_nan() => self.nan_lost += 1,
            () if expected == 0.0 && actual == 0.0 => self.zero += 1,
            () if expected.is_subnormal() || operands.iter().any(is_subnormal) => self.subnormal += 1,
            () => self.other += 1,
        }
    }
}

/// Tests `clamp` and addition of f32 on a device, with special values and random bits. Empty for the CPU path, which has no
/// WGSL builtins.
///
/// # Errors
/// Those of the device.
pub fn builtins(device: &Device, seed: u64) -> Result<Vec<Builtin>> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let case = inputs::pairs::<f32>(rng, None, None);
    let mut clamp = Builtin::new("clamp");
    for (lo, hi) in [(-1.0, 1.0), (0.0, 6.0), (-0.0, 0.0), (f32::from_bits(1), f32::from_bits(0x007f_ffff))] {
        let Some(actual) = testing::builtin(device, &[&case.x], Some((lo, hi)))? else {
            return Ok(Vec::new());
        };
        for (&x, actual) in case.x.iter().zip(actual) {
            clamp.record(&[x], reference::clip(x, Some(lo), Some(hi)), actual);
        }
    }
    let mut addition = Builtin::new("addition");
    let actual = testing::builtin(device, &[&case.x, &case.g], None)?.unwrap_or_default();
    for ((&x, &g), actual) in case.x.iter().zip(&case.g).zip(actual) {
        let sum = x + g;
        addition.record(&[x, g], if sum.is_nan() { f32::NAN } else { sum }, actual);
    }
    Ok(vec![clamp, addition])
}
