"""Exact tensor clipping for numpy, torch and JAX.

`clip` and its gradients have the same bits on every device; sums and norms are exact, and rounded once. Import ``wgclip.torch``, ``wgclip.jax``,
``wgclip.tensorflow``, ``wgclip.distributed`` and ``wgclip.dask`` explicitly; they need those packages.
"""

from ._check import Report, Row, check
from ._core import (
    BackwardRule,
    BoundWarning,
    Device,
    DeviceError,
    NonFiniteNormError,
    NonFiniteNormWarning,
    NormState,
    QuantRule,
    Tensor,
    __version__,
    num_threads,
    set_num_threads,
)
from ._elementwise import (
    clip,
    clip_backward,
    clip_backward_bounds,
    clip_to,
    clip_with_mask,
    fake_quantize,
    fake_quantize_backward,
    inward,
    mask_backward,
    operations,
    run,
)
from ._norms import (
    clip_adaptive,
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_norm_backward,
    global_norm,
    norm,
    sum,
)
from ._quantiles import clip_quantiles, quantiles

__all__ = [
    "BackwardRule",
    "BoundWarning",
    "Device",
    "DeviceError",
    "NonFiniteNormError",
    "NonFiniteNormWarning",
    "NormState",
    "QuantRule",
    "Report",
    "Row",
    "Tensor",
    "__version__",
    "check",
    "clip",
    "clip_adaptive",
    "clip_backward",
    "clip_backward_bounds",
    "clip_by_average_norm",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_norm_backward",
    "clip_quantiles",
    "clip_to",
    "clip_with_mask",
    "fake_quantize",
    "fake_quantize_backward",
    "global_norm",
    "inward",
    "mask_backward",
    "norm",
    "num_threads",
    "operations",
    "quantiles",
    "run",
    "set_num_threads",
    "sum",
]
