//! Norms, and clipping by norm of tensors and of the gradients of a module.

mod composed;

use std::collections::HashSet;

use burn::backend::{Dispatch, DispatchTensor};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use wgclip::norm::NormState;
use wgclip::{Error, NonFinitePolicy, NormKind, NormLimit, Result};

use crate::bounds::Bounds;
use crate::clip::clip;
use crate::ops::{ClipOps, element_of, norm_dtype};
use crate::path::{Path, path};

/// Scales the gradients of a module's parameters so that their common norm is at most a limit, and returns that norm, an f32 (or an f64
/// if any gradient is f64) of shape `[1]` on the device: nothing is read back. A parameter that occurs twice counts once; one
/// without a gradient does not count.
///
/// The norm is exact, rounded once: squares neither overflow nor underflow. If it is at most the limit, gradients
/// keep their bits. Except on [`Path::Wgsl`] and [`Path::Cpu`] it is computed by Burn's own operations, in the type of the norm.
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
/// [`Error::InvalidLimit`]; [`Error::Unsupported`] for f64 gradients on a GPU, and for [`NonFinitePolicy::Error`], which would have to read
/// the norm: use [`NonFinitePolicy::Skip`], and check the returned norm. Gradients are then unchanged.
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

/// Scales a tensor so that its norm is at most a limit. The gradient, for the 2-norm, is that of the expression, with an exact dot product.
///
/// # Errors
/// [`Error::InvalidLimit`]; [`Error::Unsupported`] for [`NonFinitePolicy::Error`], for types and devices without kernels, and for norms
/// other than the 2-norm.
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
    let norm = norm_dtype(x.dtype());
    let (_, by) = composed::limit(composed::add(None, x.clone(), limit.kind, norm), &limit);
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
    // All gradients, or none.
    let mut each = Clip { grads, seen: HashSet::new(), bounds, checks: true, done: Ok(()) };
    module.visit(&mut each);
    let Clip { grads, bounds, done, .. } = each;
    done?;
    let mut each = Clip { grads, seen: HashSet::new(), bounds, checks: false, done: Ok(()) };
    module.visit(&mut each);
    each.done
}

/// A limit that can be enforced without reading the norm.
pub(crate) fn checked(limit: NormLimit) -> Result<NormLimit> {
    // The library's own check.
    NormState::new(limit.kind).scaling::<f32>(limit.nonfinite(NonFinitePolicy::Propagate))?;
    match limit.nonfinite {
        NonFinitePolicy::Error => Err(Error::Unsupported {
            what: "an error for a norm that is not finite".into(),
            device: "any device of Burn's".into(),
            instead: "take NonFinitePolicy::Skip, and look at the norm".into(),
        }),
        _ => Ok(limit),
    }
}

/// Scales all gradients of a module by their global norm, and returns it.
pub(crate) fn limit_norm<M: Module>(module: &M, grads: &mut GradientsParams, limit: NormLimit) -> Tensor<1> {
    let Census { device, is_exact, norm, .. } = Census::of(module, grads);
    let Some(device) = device else {
        // No gradients at all.
        let device = module.devices().into_iter().next().unwrap_or_default();
        return Tensor::zeros([1], (&device.inner(), DType::F32));
    };
    let total = Total::Nothing;
    let mut sum =
        Sum { grads, seen: HashSet::new(), kind: limit.kind, total, device: device.clone(), is_exact, norm };
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

/// The running sum of a norm.
enum Total {
    Nothing,
    Exact(DispatchTensor),
    /// Of shape `[1]`, in the type of the norm.
    Composed(Tensor<1>),
}

struct Sum<'a> {
    grads: &'a GradientsParams,
    seen: HashSet<ParamId>,
    kind: NormKind,
    total: Total,
    /// The device of the first gradient, to which others are copied.
    device: Device,
    is_exact: bool,
    /// The type of the norm.
    norm: FloatDType,
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

/// A survey of the gradients.
struct Census<'a> {
    grads: &'a GradientsParams,
    /// The device of the first gradient.
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
            Self { grads, device: None, is_exact: true, norm: FloatDType::F32, unsupported: None };
        module.visit(&mut census);
        census
    }
}

impl ModuleVisitor for Census<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.grads.get::<D>(param.id) else { return };
        self.device.get_or_insert_with(|| gradient.device());
        self.is_exact &= is_exact(&gradient);
        if norm_dtype(gradient.dtype()) == FloatDType::F64 {
            self.norm = FloatDType::F64;
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
            Total::Composed(total) => {
                Total::Composed(composed::add(Some(total), gradient, self.kind, self.norm))
            }
            Total::Nothing if self.is_exact => {
                Total::Exact(Dispatch::start_norm(gradient.into_dispatch(), self.kind))
            }
            Total::Nothing => Total::Composed(composed::add(None, gradient, self.kind, self.norm)),
        };
    }
}

/// The scaling of gradients by a norm.
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

/// Moves a tensor to a device, unless it is already there.
fn on<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    if tensor.device() == *device { tensor } else { tensor.to_device(device) }
}

struct Clip<'a> {
    grads: &'a mut GradientsParams,
    seen: HashSet<ParamId>,
    bounds: Bounds,
    /// Whether this pass only checks, without clipping.
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
