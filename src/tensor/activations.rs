//! Activations that are clips, and the gradients that PyTorch gives them.

use super::{Tensor, TensorArguments};
use crate::{BackwardRule, Element, NanRule, Op, OutsideRule, Result, TieRule};

/// Of `torch.nn.ReLU`, `ReLU6` and `Hardtanh`: nothing at the ends of the interval, all at NaN. The preset
/// `hardtanh`.
const HARDTANH: BackwardRule =
    BackwardRule { outside: OutsideRule::Masked, ties: TieRule::Exclusive, nan: NanRule::Pass };

/// Of `torch.nn.Hardsigmoid`.
const HARD_SIGMOID: BackwardRule = BackwardRule { nan: NanRule::Zero, ..HARDTANH };

impl<T: Element> Tensor<T> {
    /// `max(x, 0)`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu(&self) -> Result<Self> {
        self.clip(T::ZERO..)
    }

    /// The gradient of [`relu`](Self::relu), which is 0 at 0 as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu_backward(&self, upstream: &Self) -> Result<Self> {
        self.clip_backward(upstream, T::ZERO.., HARDTANH)
    }

    /// `min(max(x, 0), 6)`.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu6(&self) -> Result<Self> {
        self.clip(T::ZERO..=T::from_f64(6.0))
    }

    /// The gradient of [`relu6`](Self::relu6), which is 0 at 0 and at 6 as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn relu6_backward(&self, upstream: &Self) -> Result<Self> {
        self.clip_backward(upstream, T::ZERO..=T::from_f64(6.0), HARDTANH)
    }

    /// `min(max(x, lo), hi)`; PyTorch's default is from -1 to 1.
    ///
    /// # Errors
    /// As [`clip`](Self::clip), and [`Error::NanBound`](crate::Error::NanBound).
    #[must_use = "the tensor itself is not changed"]
    pub fn hardtanh(&self, lo: T, hi: T) -> Result<Self> {
        self.clip((lo, hi))
    }

    /// The gradient of [`hardtanh`](Self::hardtanh), which is 0 at both ends as in PyTorch.
    ///
    /// # Errors
    /// As [`clip_backward`](Self::clip_backward), and [`Error::NanBound`](crate::Error::NanBound).
    #[must_use = "the tensor itself is not changed"]
    pub fn hardtanh_backward(&self, upstream: &Self, lo: T, hi: T) -> Result<Self> {
        self.clip_backward(upstream, (lo, hi), HARDTANH)
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
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, and for f64 on a GPU; otherwise as [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn hard_sigmoid(&self) -> Result<Self> {
        let mut y = self.affine(1.0 / 6.0, 0.5)?;
        y.clip_in_place(T::ZERO..=T::from_f64(1.0))?;
        Ok(y)
    }

    /// The gradient of [`hard_sigmoid`](Self::hard_sigmoid): a sixth where x is between -3 and 3, else 0, at the ends
    /// and at NaN too, as in PyTorch.
    ///
    /// # Errors
    /// As [`hard_sigmoid`](Self::hard_sigmoid) and [`clip_backward`](Self::clip_backward).
    #[must_use = "the tensor itself is not changed"]
    pub fn hard_sigmoid_backward(&self, upstream: &Self) -> Result<Self> {
        // Adding -0 changes nothing.
        let mut g = upstream.affine(1.0 / 6.0, -0.0)?;
        self.clip_backward_in_place(&mut g, T::from_f64(-3.0)..=T::from_f64(3.0), HARD_SIGMOID)?;
        Ok(g)
    }

    /// `scale * x + offset` for floats, to the bit as [`reference::affine`](crate::reference::affine) says: the scaling
    /// of values before they are clipped, as quantisers and hard sigmoids do it.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for integers, and for f64 on a GPU; otherwise as
    /// [`clip`](Self::clip).
    #[must_use = "the tensor itself is not changed"]
    pub fn affine(&self, scale: f64, offset: f64) -> Result<Self> {
        self.map(
            Op::Affine,
            &TensorArguments { params: &[scale, offset], ..TensorArguments::of::<T>(Op::Affine) },
        )
    }
}
