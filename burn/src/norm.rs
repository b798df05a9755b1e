//! Gradients, limited before a step.

use std::collections::HashSet;

use burn::backend::{Dispatch, DispatchTensor};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use wgclip::{Error, NonFinite, NormKind, NormLimit, NormState, Result};

use crate::bounds::{Bounds, element_of};
use crate::clip::clip;
use crate::ops::{ClipOps, norm_dtype};
use crate::path::{Path, path};

/// Scales the gradients of a module's parameters so that their common norm is at most a limit, and returns that norm, an f32 (of
/// gradients that are all f64, an f64) of shape `[1]` on the device: nothing is read. A parameter that is there twice counts once, one
/// without a gradient not at all.
///
/// The norm is exact, rounded once: squares neither overflow nor vanish. Where it is at most the limit, gradients
/// keep their bits. Elsewhere than on [`Path::Wgsl`] and [`Path::Cpu`] it is what Burn's own operations make of it, in f32.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex().autodiff();
/// let model = LinearConfig::new(2, 1).with_bias(false).init(&device);
/// let x = Tensor::<2>::from_data([[30.0, 40.0]], &device);
/// let mut grads = GradientsParams::from_grads(model.forward(x).sum().backward(), &model);
/// let norm = wgclip_burn::clip_by_global_norm(&model, &mut grads, 1.0)?;
/// assert_eq!(norm.into_scalar::<f32>(), 50.0);
/// # Ok::<(), wgclip_burn::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidLimit`]; [`Error::Unsupported`] for gradients of f64 on a GPU, and for [`NonFinite::Error`], which would have to read
/// the norm: take [`NonFinite::Skip`], and look at what is returned. Gradients are then as they were.
pub fn clip_by_global_norm<M: Module>(
    module: &M,
    grads: &mut GradientsParams,
    limit: impl Into<NormLimit>,
) -> Result<Tensor<1>> {
    let limit = checked(limit.into())?;
    let census = Census::of(module, grads);
    census.unsupported.map_or(Ok(()), Err)?;
    Ok(limit_norm(module, grads, limit))
}

/// Scales a tensor so that its norm is at most a limit. The gradient, of the 2-norm, is that of the expression, with an exact dot product.
///
/// # Errors
/// [`Error::InvalidLimit`]; [`Error::Unsupported`] for [`NonFinite::Error`], for types and devices without kernels, and for another norm
/// than the 2-norm.
pub fn clip_by_norm<const D: usize>(x: Tensor<D>, limit: impl Into<NormLimit>) -> Result<Tensor<D>> {
    let limit = checked(limit.into())?;
    if limit.kind != NormKind::L2 {
        return Err(Error::Unsupported {
            what: "clipping by another norm than the 2-norm".into(),
            device: "any device of Burn's".into(),
            instead: "take NormKind::L2".into(),
        });
    }
    let _ = Bounds::from((None, None)).checked(&x)?;
    if is_wide_on_gpu(&x) {
        return Err(unsupported(&x));
    }
    if is_exact(&x) {
        return Ok(Tensor::from_dispatch(Dispatch::clip_by_norm(x.into_dispatch(), limit)));
    }
    let (_, by) = composed::limit(composed::add(None, x.clone(), limit.kind), &limit);
    Ok(by.scale(x))
}

/// Clips each gradient of a module's parameters to bounds.
///
/// # Errors
/// As [`clip`].
pub fn clip_gradients<M: Module>(
    module: &M,
    grads: &mut GradientsParams,
    bounds: impl Into<Bounds>,
) -> Result<()> {
    let bounds = bounds.into();
    bounds.check_values()?;
    // All of them, or none.
    let mut each = Clip { grads, seen: HashSet::new(), bounds, checks: true, done: Ok(()) };
    module.visit(&mut each);
    let Clip { grads, bounds, done, .. } = each;
    done?;
    let mut each = Clip { grads, seen: HashSet::new(), bounds, checks: false, done: Ok(()) };
    module.visit(&mut each);
    each.done
}

/// A limit that can be kept without a read.
fn checked(limit: NormLimit) -> Result<NormLimit> {
    // The library's own check.
    NormState::new(limit.kind).scaling::<f32>(limit.nonfinite(NonFinite::Propagate))?;
    match limit.nonfinite {
        NonFinite::Error => Err(Error::Unsupported {
            what: "an error for a norm that is not finite".into(),
            device: "any device of Burn's".into(),
            instead: "take NonFinite::Skip, and look at the norm".into(),
        }),
        _ => Ok(limit),
    }
}

fn limit_norm<M: Module>(module: &M, grads: &mut GradientsParams, limit: NormLimit) -> Tensor<1> {
    let Census { device, is_exact, norm, .. } = Census::of(module, grads);
    let Some(device) = device else {
        // No gradients at all.
        let device = module.devices().into_iter().next().unwrap_or_default();
        return Tensor::zeros([1], (&device.inner(), DType::F32));
    };
    let total = Total::Nothing;
    let mut sum =
        Sum { grads, seen: HashSet::new(), kind: limit.kind, total, device: device.clone(), is_exact };
    module.visit(&mut sum);
    let (norm, by) = match sum.total {
        Total::Exact(words) => {
            let limited = Dispatch::limit_norm(words, limit, norm);
            (Tensor::from_dispatch(limited.norm), Scaling::Exact(Box::new(limited.scaling)))
        }
        Total::Composed(total) => {
            let (norm, by) = composed::limit(total, &limit);
            (norm, Scaling::Composed(Box::new(by)))
        }
        Total::Nothing => return Tensor::zeros([1], (&device, DType::F32)),
    };
    module.visit(&mut Scale { grads, seen: HashSet::new(), by, device });
    norm
}

/// What a norm is made of.
enum Total {
    Nothing,
    Exact(DispatchTensor),
    /// Of shape `[1]`, in f32.
    Composed(Tensor<1>),
}

struct Sum<'a> {
    grads: &'a GradientsParams,
    seen: HashSet<ParamId>,
    kind: NormKind,
    total: Total,
    /// That of the first gradient, to which others are copied.
    device: Device,
    is_exact: bool,
}

/// Whether a tensor's norm has kernels.
fn is_exact<const D: usize>(x: &Tensor<D>) -> bool {
    let is_there = matches!(path(&x.device()), Path::Cpu | Path::Wgsl);
    is_there && element_of(x.dtype()).is_some() && !is_wide_on_gpu(x)
}

fn is_wide_on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F64 && path(&x.device()) == Path::Wgsl
}

fn unsupported<const D: usize>(x: &Tensor<D>) -> Error {
    Error::Unsupported {
        what: "a norm of f64".into(),
        device: format!("{:?}", x.device()),
        instead: "cast to f32, or take it on Device::flex()".into(),
    }
}

/// What gradients there are.
struct Census<'a> {
    grads: &'a GradientsParams,
    /// Of the first.
    device: Option<Device>,
    /// Whether all of them have kernels.
    is_exact: bool,
    /// The type of their norm.
    norm: FloatDType,
    unsupported: Option<Error>,
}

impl<'a> Census<'a> {
    fn of<M: Module>(module: &M, grads: &'a GradientsParams) -> Self {
        let mut census =
            Self { grads, device: None, is_exact: true, norm: FloatDType::F64, unsupported: None };
        module.visit(&mut census);
        census
    }
}

impl ModuleVisitor for Census<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.grads.get::<D>(param.id) else { return };
        self.device.get_or_insert_with(|| gradient.device());
        self.is_exact &= is_exact(&gradient);
        if norm_dtype(gradient.dtype()) == FloatDType::F32 {
            self.norm = FloatDType::F32;
        }
        if is_wide_on_gpu(&gradient) {
            self.unsupported = Some(unsupported(&gradient));
        }
    }
}

impl ModuleVisitor for Sum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.seen.insert(param.id) {
            return;
        }
        let Some(gradient) = self.grads.get::<D>(param.id) else { return };
        let gradient = on(gradient, &self.device);
        self.total = match std::mem::replace(&mut self.total, Total::Nothing) {
            Total::Exact(sum) => Total::Exact(Dispatch::add_norm(sum, gradient.into_dispatch(), self.kind)),
            Total::Composed(total) => Total::Composed(composed::add(Some(total), gradient, self.kind)),
            Total::Nothing if self.is_exact => {
                Total::Exact(Dispatch::start_norm(gradient.into_dispatch(), self.kind))
            }
            Total::Nothing => Total::Composed(composed::add(None, gradient, self.kind)),
        };
    }
}

/// What a norm makes of gradients.
enum Scaling {
    Exact(Box<DispatchTensor>),
    Composed(Box<composed::Scaling>),
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    seen: HashSet<ParamId>,
    by: Scaling,
    device: Device,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.seen.insert(param.id) {
            return;
        }
        let Some(gradient) = self.grads.remove::<D>(param.id) else { return };
        let home = gradient.device();
        let gradient = on(gradient, &self.device);
        let scaled = match &self.by {
            Scaling::Exact(by) => {
                Tensor::from_dispatch(Dispatch::scale(gradient.into_dispatch(), (**by).clone()))
            }
            Scaling::Composed(by) => by.scale(gradient),
        };
        self.grads.register::<D>(param.id, on(scaled, &home));
    }
}

/// A tensor on a device: itself, where it is there.
fn on<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    if tensor.device() == *device { tensor } else { tensor.to_device(device) }
}

struct Clip<'a> {
    grads: &'a mut GradientsParams,
    seen: HashSet<ParamId>,
    bounds: Bounds,
    /// Whether nothing is clipped yet.
    checks: bool,
    done: Result<()>,
}

impl ModuleVisitor for Clip<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.done.is_err() || !self.seen.insert(param.id) {
            return;
        }
        let Some(gradient) = self.grads.get::<D>(param.id) else { return };
        self.done = match self.checks {
            true => self.bounds.clone().checked(&gradient).map(drop),
            false => {
                clip(gradient, self.bounds.clone()).map(|clipped| self.grads.register(param.id, clipped))
            }
        };
    }
}

/// The same of Burn's own operations, where the kernels do not run.
mod composed {
    use burn::tensor::{Bool, DType, Tensor};
    use wgclip::{NonFinite, NormKind, NormLimit};

    pub(super) fn add<const D: usize>(total: Option<Tensor<1>>, x: Tensor<D>, kind: NormKind) -> Tensor<1> {
        let magnitudes = x.cast(DType::F32).abs();
        let part = match kind {
            NormKind::L1 => magnitudes.sum(),
            NormKind::L2 => magnitudes.square().sum(),
            NormKind::Max => magnitudes.max(),
        };
        match (total, kind) {
            (None, _) => part,
            (Some(total), NormKind::Max) => total.max_pair(part),
            (Some(total), _) => total + part,
        }
    }

    /// What a norm makes of elements.
    pub(super) struct Scaling {
        by: Tensor<1>,
        /// Where they become 0.
        zero: Option<Tensor<1, Bool>>,
    }

    pub(super) fn limit(total: Tensor<1>, limit: &NormLimit) -> (Tensor<1>, Scaling) {
        let norm = if limit.kind == NormKind::L2 { total.sqrt() } else { total };
        let by = (norm.clone() + limit.eps).recip() * limit.limit;
        let by = by.mask_fill(norm.clone().lower_equal_elem(limit.limit), 1.0);
        let odd = || norm.clone().is_nan().bool_or(norm.clone().is_inf());
        let by = match limit.nonfinite {
            NonFinite::Zero => Scaling { by, zero: Some(odd()) },
            NonFinite::Skip | NonFinite::Error => Scaling { by: by.mask_fill(odd(), 1.0), zero: None },
            NonFinite::Propagate => Scaling { by, zero: None },
        };
        (norm, by)
    }

    impl Scaling {
        pub(super) fn scale<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
            let (dtype, dims) = (x.dtype(), x.dims());
            let scaled = (x.cast(DType::F32) * self.by.clone().unsqueeze()).cast(dtype);
            match &self.zero {
                Some(zero) => scaled.mask_fill(zero.clone().unsqueeze::<D>().expand(dims), 0.0),
                None => scaled,
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use burn::tensor::Device;

        use super::*;

        /// Where the kernels do not run: the values of the reference, as near as f32 is.
        #[test]
        fn values_are_those_of_the_reference() {
            let device = Device::flex();
            let elements = [3.0f32, -4.0, 0.5];
            for kind in NormKind::ALL {
                for (limit, last) in [(2.5, 0.5), (9.0, 0.5), (2.5, f32::INFINITY)] {
                    for nonfinite in [NonFinite::Propagate, NonFinite::Zero, NonFinite::Skip] {
                        let limit = NormLimit::new(limit).kind(kind).nonfinite(nonfinite);
                        let x = [elements[0], elements[1], last];
                        let tensor = Tensor::<1>::from_data(x, &device);
                        let (norm, by) = super::limit(add(None, tensor.clone(), kind), &limit);
                        let expected = wgclip::reference::norm(&x, kind);
                        let made = norm.into_scalar::<f32>();
                        assert!(made == expected || (made - expected).abs() < 1e-6, "{made} and {expected}");
                        let made = by.scale(tensor).into_data().try_into_vec::<f32>().unwrap();
                        for (made, x) in made.iter().zip(x) {
                            let scaling = wgclip::reference::scaling(expected, &limit);
                            let expected = wgclip::reference::scale(x, scaling);
                            let is_close = (made - expected).abs() < 1e-6 || *made == expected;
                            assert!(
                                is_close || made.is_nan() && expected.is_nan(),
                                "{x}: {made} and {expected}, {limit:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// An optimizer that limits the global norm of the gradients before each step.
#[derive(Clone)]
pub struct GlobalNormOptimizer {
    optimizer: ModuleOptimizer,
    limit: NormLimit,
    norm: Option<Tensor<1>>,
}

/// Limits for the optimizers of Burn.
pub trait LimitGradients {
    /// An optimizer that limits the global norm of all gradients before each step, as [`clip_by_global_norm`] does:
    ///
    /// ```
    /// use burn::optim::SgdConfig;
    /// use wgclip_burn::LimitGradients;
    ///
    /// let mut optimizer = SgdConfig::new().init().with_global_norm(1.0)?;
    /// # let _ = &mut optimizer;
    /// # Ok::<(), wgclip_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`clip_by_global_norm`].
    fn with_global_norm(self, limit: impl Into<NormLimit>) -> Result<GlobalNormOptimizer>;
}

impl<O: Into<ModuleOptimizer>> LimitGradients for O {
    fn with_global_norm(self, limit: impl Into<NormLimit>) -> Result<GlobalNormOptimizer> {
        Ok(GlobalNormOptimizer { optimizer: self.into(), limit: checked(limit.into())?, norm: None })
    }
}

impl GlobalNormOptimizer {
    /// Updates the module with its gradients, after their norm has been limited.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: impl Into<ModuleLearningRate>,
        module: M,
        mut grads: GradientsParams,
    ) -> M {
        self.norm = Some(limit_norm(&module, &mut grads, self.limit));
        self.optimizer.step(learning_rate, module, grads)
    }

    /// The norm that the gradients of the last step had, as [`clip_by_global_norm`] returns it.
    pub fn norm(&self) -> Option<&Tensor<1>> {
        self.norm.as_ref()
    }

    /// The optimizer beneath, with its state.
    pub fn inner(&self) -> &ModuleOptimizer {
        &self.optimizer
    }
}
