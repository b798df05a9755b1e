//! Clipping of [candle](https://github.com/huggingface/candle)'s tensors: take this file into a program of yours.
//!
//! On the CPU wgclip's kernels run on the memory of candle's tensors. On CUDA and Metal, where they do not run, it is
//! candle's own operations, with candle's own gradient.

use std::collections::HashSet;
use std::time::Instant;

use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Error, Layout, Result, Shape, Storage, Tensor, Var,
    WithDType, bail,
};
use wgclip::bounds::BroadcastInputs;
use wgclip::norm::NormState;
use wgclip::reference::Scaling;
use wgclip::{BackwardRule, Element, NormLimit, bf16, cpu, f16};

/// Clips a tensor to bounds, either of which may be absent. The gradient follows the rule.
///
/// # Errors
/// A NaN or a fraction as a bound of integers; types that have no numbers of their own.
pub fn clip(x: &Tensor, lo: Option<f64>, hi: Option<f64>, rule: BackwardRule) -> Result<Tensor> {
    if let Device::Cpu = x.device() {
        return x.contiguous()?.apply_op1(Clip { lo, hi, rule });
    }
    let x = lo.map_or(Ok(x.clone()), |lo| x.maximum(lo))?;
    hi.map_or(Ok(x.clone()), |hi| x.minimum(hi))
}

/// Scales the gradients of variables so that their common norm is at most a limit, and returns the norm: exact, whatever
/// the types and the order. A variable that is there twice counts once.
///
/// # Errors
/// A limit that is negative or NaN; a norm that is not finite where the limit says so. Gradients are then as they were.
pub fn clip_by_global_norm(vars: &[Var], grads: &mut GradStore, limit: NormLimit) -> Result<f32> {
    let mut seen = HashSet::new();
    let vars: Vec<_> = vars.iter().filter(|var| seen.insert(var.id())).collect();
    let mut state = NormState::wide(limit.kind);
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        add(&mut state, grad)?;
    }
    let scaling = state.scaling::<f32>(limit).map_err(Error::wrap)?;
    if scaling != Scaling::Keep {
        for var in vars {
            let Some(grad) = grads.get(var) else { continue };
            let scaled = scaled(grad, scaling.to_f64())?;
            grads.insert(var, scaled);
        }
    }
    state.norm().map_err(Error::wrap)
}

/// Evaluates an expression for the element type that a [`DType`] is.
macro_rules! with_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        with_dtype!(@ $dtype, $T, $body, U8 u8, U32 u32, I16 i16, I32 i32, I64 i64, BF16 bf16, F16 f16, F32 f32, F64 f64)
    };
    (@ $dtype:expr, $T:ident, $body:expr, $($variant:ident $element:ident),+) => {
        match $dtype {
            $(DType::$variant => {
                type $T = $element;
                $body
            })+
            other => bail!("wgclip has no kernels for {other:?}"),
        }
    };
}

#[derive(Debug, Clone, Copy)]
struct Clip {
    lo: Option<f64>,
    hi: Option<f64>,
    rule: BackwardRule,
}

impl Clip {
    fn bounds<'a, T: Element>(&self) -> Result<BroadcastInputs<&'a [T]>> {
        let bound = |bound: Option<f64>| match bound {
            // A float is rounded as candle does it.
            Some(value) if !T::TYPE.is_float() && T::from_f64(value).to_f64() != value => {
                bail!("{value} is no bound of {}", T::TYPE)
            }
            bound => Ok(bound.map(T::from_f64)),
        };
        BroadcastInputs::values(bound(self.lo)?, bound(self.hi)?).map_err(Error::wrap)
    }

    fn forward<T: Element + WithDType>(&self, x: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
        let mut y = elements::<T>(x, layout)?.to_vec();
        cpu::clip_in_place(&mut y, &self.bounds()?).map_err(Error::wrap)?;
        Ok(T::to_cpu_storage_owned(y))
    }

    fn backward<T: Element + WithDType>(
        &self,
        (x, layout_x): (&CpuStorage, &Layout),
        (g, layout_g): (&CpuStorage, &Layout),
    ) -> Result<CpuStorage> {
        let (x, mut gx) = (elements::<T>(x, layout_x)?, elements::<T>(g, layout_g)?.to_vec());
        cpu::clip_backward_in_place(x, &mut gx, &self.bounds()?, self.rule).map_err(Error::wrap)?;
        Ok(T::to_cpu_storage_owned(gx))
    }
}

impl CustomOp1 for Clip {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_dtype!(x.dtype(), T => self.forward::<T>(x, layout)?);
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        match self.rule.is_identity() {
            true => Ok(Some(g.clone())),
            false => x.apply_op2_no_bwd(&g.contiguous()?, &ClipBackward(*self)).map(Some),
        }
    }
}

struct ClipBackward(Clip);

impl CustomOp2 for ClipBackward {
    fn name(&self) -> &'static str {
        "clip_backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout_x: &Layout,
        g: &CpuStorage,
        layout_g: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gx = with_dtype!(x.dtype(), T => self.0.backward::<T>((x, layout_x), (g, layout_g))?);
        Ok((gx, layout_x.shape().clone()))
    }
}

struct Scale(Scaling<f64>);

impl CustomOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scaled = with_dtype!(x.dtype(), T => {
            let mut scaled = elements::<T>(x, layout)?.to_vec();
            cpu::scale_in_place(&mut scaled, self.0);
            T::to_cpu_storage_owned(scaled)
        });
        Ok((scaled, layout.shape().clone()))
    }
}

/// The elements of a tensor that is contiguous.
fn elements<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a view here: call contiguous() first")
    };
    Ok(&T::cpu_storage_as_slice(storage)?[start..end])
}

/// Takes a gradient into a norm.
fn add(state: &mut NormState, grad: &Tensor) -> Result<()> {
    let grad = grad.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = grad.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("a copy on the CPU that is none") };
    with_dtype!(storage.dtype(), T => state.add_slice(elements::<T>(storage, layout)?).map_err(Error::wrap))
}

/// A gradient scaled, on the CPU with one rounding.
fn scaled(grad: &Tensor, scaling: Scaling<f64>) -> Result<Tensor> {
    match (grad.device(), scaling) {
        (Device::Cpu, _) => grad.contiguous()?.apply_op1_no_bwd(&Scale(scaling)),
        (_, Scaling::By(coefficient)) => grad.affine(coefficient, 0.0),
        (_, Scaling::Zero) => grad.zeros_like(),
        (_, Scaling::Keep) => Ok(grad.clone()),
    }
}

/// How long it takes, the least of several times.
fn time(work: impl Fn() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        let start = Instant::now();
        work()?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}

/// The gradient of x, of a clip and an upstream gradient.
fn gradient(x: &Var, upstream: &Tensor, clip: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let grads = (clip(x)? * upstream)?.sum_all()?.backward()?;
    grads.get(x).cloned().ok_or_else(|| Error::msg("no gradient reached x"))
}

/// wgclip beside candle's own clamp.
fn main() -> Result<()> {
    let device = &Device::Cpu;
    let ours = |x: &Tensor| clip(x, Some(0.0), Some(1.0), BackwardRule::default());
    let theirs = |x: &Tensor| x.clamp(0f32, 1f32);
    let x = Var::new(&[-1f32, 0.0, 0.5, 1.0, 7.0, f32::NAN], device)?;
    let upstream = Tensor::new(&[f32::INFINITY, 2.0, 3.0, 4.0, f32::INFINITY, 6.0], device)?;
    println!("x                   {:?}", x.to_vec1::<f32>()?);
    println!("upstream gradient   {:?}", upstream.to_vec1::<f32>()?);
    println!("clip                {:?}", ours(&x)?.to_vec1::<f32>()?);
    println!("candle's clamp      {:?}", theirs(&x)?.to_vec1::<f32>()?);
    println!("gradient, wgclip    {:?}", gradient(&x, &upstream, ours)?.to_vec1::<f32>()?);
    println!("gradient, candle    {:?}", gradient(&x, &upstream, theirs)?.to_vec1::<f32>()?);

    let x = Var::rand(-0.5f32, 1.5, 1 << 20, device)?;
    let upstream = Tensor::rand(-1f32, 1.0, 1 << 20, device)?;
    let forward = [time(|| ours(&x).map(drop))?, time(|| theirs(&x).map(drop))?];
    let both = [
        time(|| gradient(&x, &upstream, ours).map(drop))?,
        time(|| gradient(&x, &upstream, theirs).map(drop))?,
    ];
    for (what, [ours, theirs]) in [("forward", forward), ("with backward", both)] {
        println!("1 Mi f32, {what}: {:.1} (wgclip {ours:.2} ms, candle {theirs:.2} ms)", theirs / ours);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
