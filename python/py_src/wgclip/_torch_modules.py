"""Modules for training with quantisation: with an observed range, and with a learned scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ._calibration import calibrate
from ._core import QuantRule
from ._torch_quantize import fake_quantize


def _slices(x: Tensor, axis: int | None) -> Tensor:
    """The elements that share a scale, as rows."""
    return x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1) if x.ndim > 1 else x.reshape(-1, 1)


def _rule(rule: QuantRule | str, quant_min: int, quant_max: int) -> QuantRule:
    return (QuantRule.like(rule) if isinstance(rule, str) else rule).range(quant_min, quant_max)


def _next_rule(layer: Any) -> QuantRule:
    """The rule of a layer for a batch: one that rounds stochastically gets another seed for each of a training, so that an element is not always rounded alike."""
    rule: QuantRule = layer.rule
    if rule.rounding == "stochastic" and layer.training:
        layer.rule = rule.with_seed((rule.seed + 1) % 2**64)
    return rule


class FakeQuantize(nn.Module):
    """Fake quantisation by the range of the inputs so far: takes the place of ``torch.ao.quantization.FakeQuantize``, whose defaults it has.

    The range is a moving average of the least and the greatest element of each batch with the weight ``averaging``, as of torch's
    ``MovingAverageMinMaxObserver``, or with None the range of all batches (``MinMaxObserver``); with ``axis`` each index along it has its own. ``scheme`` is one of
    `wgclip.calibrate`. The buffers ``min_val``, ``max_val``, ``scale`` and ``zero_point`` are saved with the module.

    >>> import torch, wgclip.torch
    >>> layer = wgclip.torch.FakeQuantize(-128, 127, scheme="symmetric")
    >>> layer(torch.tensor([0.3, -1.27])), layer.scale
    (tensor([ 0.3000, -1.2700]), tensor([0.0100]))

    Raises ``ValueError`` for a batch with NaN or infinity while it observes.
    """

    min_val: Tensor
    max_val: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        quant_min: int = 0,
        quant_max: int = 255,
        *,
        axis: int | None = None,
        scheme: str = "affine",
        averaging: float | None = 0.01,
        rule: QuantRule | str = "torch",
    ) -> None:
        super().__init__()
        self.axis, self.scheme, self.averaging = axis, scheme, averaging
        self.rule = _rule(rule, quant_min, quant_max)
        self.observes = self.quantizes = True
        for name, value in [("min_val", math.inf), ("max_val", -math.inf), ("scale", 1.0)]:
            self.register_buffer(name, torch.tensor([value]))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))

    def enable_observer(self, enabled: bool = True) -> FakeQuantize:
        """Whether inputs change the range."""
        self.observes = enabled
        return self

    def disable_observer(self) -> FakeQuantize:
        """Keeps the range."""
        return self.enable_observer(False)

    def enable_fake_quant(self, enabled: bool = True) -> FakeQuantize:
        """Whether the result is quantised, or the input."""
        self.quantizes = enabled
        return self

    def disable_fake_quant(self) -> FakeQuantize:
        """Returns inputs as they are."""
        return self.enable_fake_quant(False)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Takes a batch into the range."""
        if x.numel() == 0:
            return
        ends = torch.stack(_slices(x.detach().float(), self.axis).aminmax(dim=1))
        if self.min_val.numel() == ends.shape[1] and bool(self.min_val.isfinite().all()):
            before = torch.stack([self.min_val, self.max_val])
            if self.averaging is None:
                ends = torch.stack([torch.minimum(before[0], ends[0]), torch.maximum(before[1], ends[1])])
            else:
                ends = before + self.averaging * (ends - before)
        scale, zero_point = calibrate(ends, axis=0, scheme=self.scheme, rule=self.rule)
        self.min_val, self.max_val = ends[0], ends[1]
        self.scale, self.zero_point = scale.reshape(-1), zero_point.reshape(-1)

    def forward(self, x: Tensor) -> Tensor:
        """x, rounded to the values of codes."""
        if self.observes:
            self.observe(x)
        if not self.quantizes:
            return x
        axis = self.axis
        scale, zero_point = (self.scale, self.zero_point) if axis is not None else (self.scale[0], self.zero_point[0])
        return fake_quantize(x, scale, zero_point, axis=axis, rule=_next_rule(self))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """The scale and the zero point."""
        return self.scale, self.zero_point

    def extra_repr(self) -> str:
        """The codes and the range's choices."""
        return f"{self.rule.min}, {self.rule.max}, axis={self.axis}, scheme={self.scheme!r}, averaging={self.averaging}"

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        # One range, or one for each channel.
        for name in ("min_val", "max_val", "scale", "zero_point"):
            saved = state.get(prefix + name)
            if saved is not None and saved.shape != getattr(self, name).shape:
                setattr(self, name, torch.empty_like(saved))
        super()._load_from_state_dict(state, prefix, *rest)


class _GradientScale(torch.autograd.Function):
    """The same number, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, of: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return of.view_as(of)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.factor, None


class LearnedFakeQuantize(nn.Module):
    """Fake quantisation with a learned scale (LSQ, Esser et al. 2020), and a learned zero point if wanted (LSQ+).

    The first batch gives the scale ``2 * mean(|x|) / sqrt(quant_max)``. The gradients of the parameters are exact sums, divided by the root of the elements that share a
    scale times ``quant_max``. With ``axis`` there are ``channels`` scales.

    >>> import torch, wgclip.torch
    >>> layer = wgclip.torch.LearnedFakeQuantize(-8, 7)
    >>> layer(torch.tensor([1.0, -2.0])).sum().backward()
    >>> layer.scale, layer.scale.grad
    (Parameter containing:
    tensor([1.1339], requires_grad=True), tensor([-0.0315]))
    """

    initialized: Tensor

    def __init__(
        self,
        quant_min: int = -128,
        quant_max: int = 127,
        *,
        axis: int | None = None,
        channels: int = 1,
        learn_zero_point: bool = False,
        rule: QuantRule | str = "exact",
    ) -> None:
        super().__init__()
        if axis is None and channels != 1:
            raise ValueError(f"{channels} channels without an axis: say along which axis they are")
        self.axis, self.rule = axis, _rule(rule, quant_min, quant_max)
        self.scale = nn.Parameter(torch.ones(channels))
        self.zero_point = nn.Parameter(torch.zeros(channels)) if learn_zero_point else None
        self.register_buffer("initialized", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """x, rounded to the values of codes."""
        greatest = max(abs(self.rule.min), abs(self.rule.max), 1) if self.rule.max < 1 else self.rule.max
        if not self.initialized and x.numel():
            with torch.no_grad():
                mean = _slices(x.detach().float(), self.axis).abs().mean(dim=1)
                self.scale.copy_((2 * mean / math.sqrt(greatest)).clamp(min=torch.finfo(torch.float32).tiny))
                self.initialized.fill_(True)
        factor = 1 / math.sqrt(max(x.numel() // self.scale.numel(), 1) * greatest)
        scaled = [_GradientScale.apply(of, factor) for of in (self.scale, self.zero_point) if of is not None]
        if self.axis is None:
            scaled = [of[0] for of in scaled]
        return fake_quantize(x, *scaled, axis=self.axis, rule=_next_rule(self))

    def extra_repr(self) -> str:
        """The codes."""
        return f"{self.rule.min}, {self.rule.max}, axis={self.axis}, channels={self.scale.numel()}"
