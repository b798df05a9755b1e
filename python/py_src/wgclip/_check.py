"""The conformance check."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from . import _core
from ._core import Device


@dataclass(frozen=True)
class Row:
    """The results for one operation on tensors of one type."""

    element: str
    op: str
    cases: int
    mismatches: int
    first: str | None


@dataclass(frozen=True)
class Report:
    """The results of `check` on a device."""

    device: str
    seed: int
    rows: list[Row]

    @property
    def cases(self) -> int:
        """The number of results compared."""
        return sum(row.cases for row in self.rows)

    @property
    def mismatches(self) -> int:
        """The number of wrong results."""
        return sum(row.mismatches for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether there were cases, and all results were right."""
        return self.cases > 0 and self.mismatches == 0

    def __str__(self) -> str:
        lines = [f"{self.device}: {self.cases} cases, {self.mismatches} mismatches (seed {self.seed})"]
        lines += [
            f"  {row.op} of {row.element}: {row.mismatches} wrong, the first: {row.first}"
            for row in self.rows
            if row.mismatches
        ]
        return "\n".join(lines)


def check(
    device: Device | str = "auto",
    *,
    elements: Sequence[str] | None = None,
    ops: Sequence[str] | None = None,
    seed: int | None = None,
) -> Report:
    """Compares a device with the reference, bit for bit: all operations and types, or those named (as in Rust: ``"f32"``).

    It takes a minute or two. Ctrl-C ends it.

    >>> import wgclip
    >>> wgclip.check("cpu", elements=["u8"], ops=["clip"]).ok
    True

    Raises ``DeviceError`` if there is no such device or it fails, ``ValueError`` for an unknown name.
    """
    on = Device(device) if isinstance(device, str) else device
    seed = secrets.randbits(64) if seed is None else seed
    found = _core.check(on, None if elements is None else list(elements), None if ops is None else list(ops), seed)
    return Report(on.name, seed, [Row(*row) for row in found])
