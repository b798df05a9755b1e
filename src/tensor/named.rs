//! Clips with a name, and the gradients that PyTorch gives them.

use std::sync::Arc;

use super::{Storage, Tensor};
use crate::host::Memory;
use crate::{Accumulator, Bounds, Element, Error, Gradient, NanGradient, Outside, Result, Ties, cpu};

/// Of `torch.nn.ReLU`, `ReLU6` and `Hardtanh`: nothing at the ends of the interval, all at NaN. The preset
/// `hardtanh`.
const HARDTANH: Gradient =
    Gradient { outside: Outside::Masked, ties: Ties::Exclusive, nan: NanGradient::Pass };

/// Of `torch.nn.Hardsigmoid`.
const HARD_SIGMOID: Gradient = Gradient { nan: NanGradient::Zero, ..HARDTANH };

impl<T: Element> Tensor<T> {
    /// `max(x, 0)`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn relu(&self) -> Result<Self> {
        self.clip(&Bounds::min(T::ZERO)?)
    }

    /// The gradient of [`relu`](Self::relu), which is 0 at 0 as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub fn relu_grad(&self, upstream: &Self) -> Result<Self> {
        self.clip_grad(upstream, &Bounds::min(T::ZERO)?, HARDTANH)
    }

    /// `min(max(x, 0), 6)`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn relu6(&self) -> Result<Self> {
        self.clip(&Bounds::parse(Some("0"), Some("6"))?)
    }

    /// The gradient of [`relu6`](Self::relu6), which is 0 at 0 and at 6 as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad).
    pub fn relu6_grad(&self, upstream: &Self) -> Result<Self> {
        self.clip_grad(upstream, &Bounds::parse(Some("0"), Some("6"))?, HARDTANH)
    }

    /// `min(max(x, lo), hi)`; PyTorch's default is from -1 to 1.
    ///
    /// # Errors
    /// As [`clip`](Self::clip), and [`Error::NanBound`].
    pub fn hardtanh(&self, lo: T, hi: T) -> Result<Self> {
        self.clip(&Bounds::new(lo, hi)?)
    }

    /// The gradient of [`hardtanh`](Self::hardtanh), which is 0 at both ends as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_grad`](Self::clip_grad), and [`Error::NanBound`].
    pub fn hardtanh_grad(&self, upstream: &Self, lo: T, hi: T) -> Result<Self> {
        self.clip_grad(upstream, &Bounds::new(lo, hi)?, HARDTANH)
    }

    /// `min(max(x / 6 + 1 / 2, 0), 1)`: the clip of an affine map. Floats only. Multiplied by a rounded 1/6 and added
    /// in f32 (f64 for f64), then rounded to the type: the same bits on every device, as [`reference::affine`](crate::reference::affine) says.
    /// A NaN stays as it is.
    ///
    /// ```
    /// let x = wgclip::Device::cpu().tensor(&[-4.0f32, 0.0, 1.5, 4.0], [4])?;
    /// assert_eq!(x.hard_sigmoid()?.to_vec()?, [0.0, 0.5, 0.75, 1.0]);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for integers, and for f64 on a GPU; otherwise as [`clip`](Self::clip).
    pub fn hard_sigmoid(&self) -> Result<Self> {
        let mut y = self.affine(1.0 / 6.0, 0.5)?;
        y.clip_in_place(&Bounds::parse(Some("0"), Some("1"))?)?;
        Ok(y)
    }

    /// The gradient of [`hard_sigmoid`](Self::hard_sigmoid): a sixth where x is between -3 and 3, else 0, at the ends
    /// and at NaN too, as in PyTorch.
    ///
    /// # Errors
    /// As [`hard_sigmoid`](Self::hard_sigmoid) and [`clip_grad`](Self::clip_grad).
    pub fn hard_sigmoid_grad(&self, upstream: &Self) -> Result<Self> {
        // Adding -0 changes nothing.
        let mut g = upstream.affine(1.0 / 6.0, -0.0)?;
        self.clip_grad_in_place(&mut g, &Bounds::parse(Some("-3"), Some("3"))?, HARD_SIGMOID)?;
        Ok(g)
    }

    /// `scale * x + offset`, to the bit as [`reference::affine`](crate::reference::affine) says.
    fn affine(&self, scale: f64, offset: f64) -> Result<Self> {
        let Some((scale, offset)) = T::Sum::constant(scale).zip(T::Sum::constant(offset)) else {
            return Err(Error::Unsupported {
                what: format!("a hard sigmoid of {}", T::TYPE),
                device: self.device().info().to_string(),
                instead: "it takes floats".into(),
            });
        };
        Ok(self.like(match &self.storage {
            Storage::Cpu(x) => {
                let mut y = Memory::new(x.len())?;
                cpu::affine(x, scale, offset, &mut y)?;
                Storage::Cpu(Arc::new(y))
            }
            #[cfg(feature = "gpu")]
            Storage::Gpu(context, x) => Storage::Gpu(context.clone(), context.affine::<T>(x, scale, offset)?),
        }))
    }
}
