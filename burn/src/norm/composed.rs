//! The same composed of Burn's own operations, where the kernels do not run.

use burn::tensor::{Bool, FloatDType, Tensor};
use wgclip::{NonFinitePolicy, NormKind, NormLimit};

/// Adds elements to a sum, which has the type of the norm.
pub(super) fn add<const D: usize>(
    total: Option<Tensor<1>>,
    x: Tensor<D>,
    kind: NormKind,
    norm: FloatDType,
) -> Tensor<1> {
    let magnitudes = x.cast(norm).abs();
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

/// The scaling of elements by a norm.
pub(super) struct Scaling {
    by: Tensor<1>,
    /// Where elements become 0.
    zero: Option<Tensor<1, Bool>>,
}

pub(super) fn limit(total: Tensor<1>, limit: &NormLimit) -> (Tensor<1>, Scaling) {
    let norm = if limit.kind == NormKind::L2 { total.sqrt() } else { total };
    let by = (norm.clone() + limit.eps).recip() * limit.max_norm;
    let by = by.mask_fill(norm.clone().lower_equal_elem(limit.max_norm), 1.0);
    let odd = || norm.clone().is_nan().bool_or(norm.clone().is_inf());
    let by = match limit.nonfinite {
        NonFinitePolicy::Zero => Scaling { by, zero: Some(odd()) },
        NonFinitePolicy::Skip | NonFinitePolicy::Error => {
            Scaling { by: by.mask_fill(odd(), 1.0), zero: None }
        }
        NonFinitePolicy::Propagate => Scaling { by, zero: None },
    };
    (norm, by)
}

impl Scaling {
    pub(super) fn scale<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (dtype, dims) = (x.dtype(), x.dims());
        let scaled = (x.cast(self.by.dtype()) * self.by.clone().unsqueeze()).cast(dtype);
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

    /// Where the kernels do not run: the values of the reference, to the precision of f32.
    #[test]
    fn values_are_those_of_the_reference() {
        let device = Device::flex();
        let elements = [3.0f32, -4.0, 0.5];
        for kind in NormKind::ALL {
            for (limit, last) in [(2.5, 0.5), (9.0, 0.5), (2.5, f32::INFINITY)] {
                for nonfinite in [NonFinitePolicy::Propagate, NonFinitePolicy::Zero, NonFinitePolicy::Skip] {
                    let limit = NormLimit::new(limit).kind(kind).nonfinite(nonfinite);
                    let x = [elements[0], elements[1], last];
                    let tensor = Tensor::<1>::from_data(x, &device);
                    let (norm, by) = super::limit(add(None, tensor.clone(), kind, FloatDType::F32), &limit);
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
