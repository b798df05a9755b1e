//! candle and ndarray on the CPU.

use std::hint::black_box;

use anyhow::Result;
use candle_core::{Device, Tensor, WithDType};
use ndarray::{Array1, Zip};
use wgclip::Element;
use wgclip_harness::{BenchId, Case, bounds, values};

/// candle's clamp, which makes its result.
pub fn candle<T: Element + WithDType>(what: BenchId) -> Result<Case<'static>> {
    let (lo, hi) = bounds::<T>();
    let x = Tensor::new(values::<T>(what.elements), &Device::Cpu)?;
    Ok(Case::timed(what.by("candle"), move || {
        drop(black_box(&x).clamp(lo, hi)?);
        Ok(())
    }))
}

/// ndarray into an array that stays, on all cores where that pays.
pub fn ndarray<T: Element>(what: BenchId) -> Case<'static> {
    let (lo, hi) = bounds::<T>();
    let clamp = move |v: T| {
        let v = if v < lo { lo } else { v };
        if v > hi { hi } else { v }
    };
    let x = Array1::from(values::<T>(what.elements));
    let mut y = x.clone();
    let parallel = what.elements >= 1 << 18;
    Case::timed(what.by("ndarray"), move || {
        let zip = Zip::from(&mut y).and(black_box(&x));
        match parallel {
            true => zip.par_for_each(|y, &x| *y = clamp(x)),
            false => zip.for_each(|y, &x| *y = clamp(x)),
        }
        Ok(())
    })
}
