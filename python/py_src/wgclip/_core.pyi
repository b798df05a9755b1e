"""The compiled part of the package. Operations write to outputs that are given, of the shape and type that the result has.

Arrays are whatever has a buffer or DLPack: in C order, aligned, on the CPU; else ``BufferError``.
"""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

__version__: str

#: What limits a norm: the limit, which norm, eps, and what becomes of one that is not finite.
_Limit: TypeAlias = tuple[float, float | str, float, str]

class BoundWarning(UserWarning):
    """A bound has become a number of the array's type that its writer may not have meant."""

class DeviceError(RuntimeError):
    """A GPU is not there, could not be opened, was lost, or failed."""

class NonFiniteNormError(RuntimeError):
    """A norm is NaN or infinite, and ``nonfinite="error"`` was asked for: nothing was changed."""

class NonFiniteNormWarning(RuntimeWarning):
    """A norm is NaN or infinite, and what is scaled by it is not what it would have been."""

class BackwardRule:
    """What gradient passes a clip outside of the bounds, at them, and at NaN."""

    def __init__(self, outside: str = "masked", ties: str = "inclusive", nan: str = "pass") -> None: ...
    @staticmethod
    def like(preset: str) -> BackwardRule:
        """The rule of a framework, by its name: one of `presets()`."""

    @staticmethod
    def all() -> list[BackwardRule]:
        """Every rule."""

    @staticmethod
    def presets() -> list[str]:
        """The names of the presets."""

    @property
    def outside(self) -> str: ...
    @property
    def ties(self) -> str: ...
    @property
    def nan(self) -> str: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

class QuantRule:
    """How values are rounded to codes, and which gradient passes.

    The codes are ``min`` to ``max``, at most 65535 apart. ``quotient``: x by the scale is ``"exact"``, or rounded to float32 (float64 for
    float64): ``"division"``, or ``"reciprocal"``, x times 1 by the scale. ``rounding``: ``"half-even"``, ``"half-up"``, ``"half-away"``, ``"down"``, or ``"stochastic"`` by a ``seed``.
    ``nan``: a NaN stays (``"nan"``), or has the ``"least"``, the ``"greatest"`` or the ``"zero"`` code. ``gradient``: x receives it where its code is in
    the range (``"rounded"``), in it without its ends (``"interior"``), where it is in the range before it is rounded (``"unrounded"``), or
    everywhere (``"straight-through"``). ``nan_gradient``: ``"pass"`` or ``"zero"`` for a NaN. ``format``: codes are integers, or 4-bit floats (``"e2m1"``).
    """

    def __init__(
        self,
        min: int = -128,
        max: int = 127,
        *,
        quotient: str = "exact",
        rounding: str = "half-even",
        nan: str = "nan",
        gradient: str = "rounded",
        nan_gradient: str = "pass",
        format: str = "integer",
        seed: int = 0,
    ) -> None: ...
    @staticmethod
    def like(preset: str) -> QuantRule:
        """The rule of a package, by its name: one of `presets()`."""

    @staticmethod
    def presets() -> list[str]:
        """The names of the presets."""

    def range(self, min: int, max: int) -> QuantRule:
        """The same rule for the codes from ``min`` to ``max``."""

    def bits(self, bits: int) -> QuantRule:
        """The same rule for signed codes of this many bits, from 2 to 16."""

    def e2m1(self) -> QuantRule:
        """The same rule for codes that are 4-bit floats, in uint8."""

    def with_seed(self, seed: int) -> QuantRule:
        """The same rule with other random numbers, for stochastic rounding."""

    @property
    def min(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def quotient(self) -> str: ...
    @property
    def rounding(self) -> str: ...
    @property
    def nan(self) -> str: ...
    @property
    def gradient(self) -> str: ...
    @property
    def nan_gradient(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def seed(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

class NormState:
    """The exact norm so far of elements that are not all in one place: chunks of an array beyond memory, or the parts of ranks."""

    def __init__(self, ord: float | str = 2, *, wide: bool = False) -> None: ...
    def add(self, *arrays: Any) -> None:
        """Takes in the elements of arrays."""

    def merge(self, other: NormState) -> None:
        """Takes in another state."""

    def words(self) -> list[int]:
        """The state as integers below 2**32: that of several ranks is their sum (for ord=inf the greatest), word by word."""

    @staticmethod
    def from_words(words: Sequence[int] | npt.NDArray[np.int64], ord: float | str = 2) -> NormState:
        """The state of such words, or of their sums."""

    @property
    def double(self) -> bool:
        """Whether float64 is among what was taken in, here or by another rank: the norm is one of float64 then."""
    def norm(self, *, double: bool | None = None) -> float:
        """The norm so far: a float that holds a float32, or a float64 if that is among what was taken in, or if ``double``."""

class Device:
    """A GPU, or the CPU path. It holds tensors, which are copies of arrays."""

    def __init__(self, name: str = "auto") -> None: ...
    @staticmethod
    def auto() -> Device:
        """A GPU, or else the CPU."""

    @staticmethod
    def cpu() -> Device:
        """The CPU path."""

    @staticmethod
    def gpu(name: str | None = None) -> Device:
        """The GPU, hardware or software, whose name has this in it, or the first."""

    @staticmethod
    def list() -> list[str]:
        """The names of the devices there are."""

    @property
    def name(self) -> str:
        """What the driver calls it."""

    @property
    def kind(self) -> str:
        """``"gpu"``, ``"software"`` or ``"cpu"``."""

    def tensor(self, x: Any) -> Tensor:
        """Copies an array to the device."""

    def wait(self) -> None:
        """Blocks until all that was asked of it is done."""

    def trim(self) -> None:
        """Frees the memory that is kept to be used again."""

class Tensor:
    """Elements on a device, as copies. Operations on a GPU are recorded and run together when something is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def element(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def device(self) -> Device: ...
    def numpy(self) -> npt.NDArray[Any]:
        """Copies the elements to an array. Blocks until the device has made them."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    def __len__(self) -> int: ...
    def copy_to(self, out: Any) -> None:
        """Copies the elements into an array of the same type and shape."""

    def clip(self, min: float | Tensor | None = None, max: float | Tensor | None = None) -> Self:
        """Clips: each bound is None, a number, or a Tensor that broadcasts."""

    def pack4(self) -> Self:
        """4-bit codes, two a byte."""

    def unpack4(self, element: str = "i8") -> Self:
        """The reverse, into i8 or u8."""

    def clip_to(
        self, min: float | Tensor | None = None, max: float | Tensor | None = None, *, element: str
    ) -> Self:
        """Clips and converts to another type of float, by its name in Rust."""

    def clip_backward(
        self,
        g: Tensor,
        min: float | Tensor | None = None,
        max: float | Tensor | None = None,
        *,
        rule: BackwardRule | str = ...,
    ) -> Self:
        """The gradient that reaches this tensor, of the upstream gradient g."""

    def clip_backward_bounds(
        self,
        g: Tensor,
        min: float | Tensor | None = None,
        max: float | Tensor | None = None,
        *,
        rule: BackwardRule | str = ...,
    ) -> tuple[Self, Self | None, Self | None]:
        """The gradients that reach this tensor and its bounds: None for a bound that is absent."""

    def sum(self, axes: Sequence[int] | None = None) -> Self:
        """The exact sum of all elements, or along axes, each of which is left with a length of 1."""

    def norm(self, axes: Sequence[int] | None = None, ord: float | str = 2) -> Self:
        """The exact norm of all elements, or along axes, each of which is left with a length of 1."""

    def clip_by_norm(
        self,
        max_norm: float,
        axes: Sequence[int] | None = None,
        *,
        ord: float | str = 2,
        eps: float = 0.0,
        nonfinite: str = "propagate",
    ) -> Self:
        """Clips by the norm of all elements, or along axes."""

    def softmax(self, axes: Sequence[int] | None = None) -> Self:
        """The softmax of all elements, or along axes."""

    def softmax_backward(self, g: Self, axes: Sequence[int] | None = None) -> Self:
        """The gradient that reaches what became this tensor by a softmax, of the upstream gradient g."""

    def clip_by_norm_backward(
        self,
        g: Tensor,
        max_norm: float,
        axes: Sequence[int] | None = None,
        *,
        eps: float = 0.0,
        nonfinite: str = "propagate",
    ) -> Self:
        """The gradient that reaches this tensor of what it was clipped to by its 2-norm, of the upstream gradient g."""

def num_threads() -> int:
    """How many threads work on a large array."""

def set_num_threads(count: int) -> None:
    """Lets so many threads work on a large array, in this process and in those that it forks from now on."""

def set_alone(alone: bool) -> bool:
    """Whether what this thread calls is to stay on it: for a thread that is one of many workers. Returns what was so before."""

def round_bounds(array: Any, side: str, out: Any) -> None: ...
def inward(like: Any, min: Any, max: Any) -> tuple[float | None, float | None]: ...
def clip(x: Any, min: Any, max: Any, out: Any) -> None: ...
def run(
    name: str,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    broadcast: Sequence[Any] = ...,
    rule: BackwardRule | QuantRule | str | None = ...,
    params: Sequence[float] = ...,
) -> None: ...
def run_tensors(
    name: str,
    inputs: Sequence[Tensor],
    broadcast: Sequence[float | Tensor | None] = ...,
    rule: BackwardRule | QuantRule | str | None = ...,
    params: Sequence[float] = ...,
    element: str | None = ...,
) -> list[Tensor | None]: ...
def operations() -> list[tuple[str, list[str], list[str], list[tuple[str, str | None]], list[str], tuple[bool, bool, bool]]]: ...
def clip_by_norms_of_samples(
    list: Sequence[Any], limit: _Limit, out: Sequence[Any], norms: Any
) -> None: ...
def calibrate(
    x: Any,
    along: Sequence[int] | None,
    range: str,
    scheme: str,
    rule: QuantRule | str,
    finite_only: bool,
    floats: tuple[str, str] | None,
    out: Sequence[Any],
) -> None: ...
def quantiles(x: Any, along: Sequence[int] | None, shares: Sequence[float], out: Any) -> None: ...
def mask_len(len: int) -> int: ...
def sum(x: Any, along: list[int] | None, out: Any) -> None: ...
def norm(x: Any, along: list[int] | None, ord: float | str, out: Any) -> None: ...
def clip_by_norm(x: Any, along: list[int] | None, limit: _Limit, average: bool, out: Any) -> None: ...
def clip_by_norm_backward(x: Any, g: Any, along: list[int] | None, limit: _Limit, out: Any) -> None: ...
def clip_adaptive(
    x: Any, parameter: Any, along: list[int], limit: _Limit, least: float, out: Any
) -> None: ...
def softmax(x: Any, along: list[int] | None, out: Any) -> None: ...
def softmax_backward(y: Any, g: Any, along: list[int] | None, out: Any) -> None: ...
def global_norm(list: Sequence[Any], ord: float | str) -> float: ...
def clip_by_global_norm(
    list: Sequence[Any], limit: _Limit, out: Sequence[Any], names: Sequence[str] = ...
) -> float: ...
def scale_by_norm(
    list: Sequence[Any], norm: float, double: bool, limit: _Limit, out: Sequence[Any]
) -> None: ...
def clip_tensors_by_global_norm(
    tensors: Sequence[Tensor], limit: _Limit
) -> tuple[list[Tensor], Tensor]: ...
def check(
    device: Device, elements: list[str] | None, ops: list[str] | None, seed: int
) -> list[tuple[str, str, int, int, str | None]]: ...
def run_command(arguments: Sequence[str]) -> int: ...
