"""The presets of quantisation, to the bit against what the packages themselves gave: the files of parity/, which parity/record.py wrote."""

from __future__ import annotations

import importlib.util
import json
import math
import pathlib

import numpy as np
import pytest
import wgclip

FOLDER = pathlib.Path(__file__).parents[1] / "parity"
FILES = sorted(FOLDER.glob("*.json"))


def _record():
    spec = importlib.util.spec_from_file_location("record", FOLDER / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record = _record()



def is_zero(grid, x, ours, theirs):
    return ours == theirs == 0


def is_near_tie(grid, x, ours, theirs):
    """A neighbouring code of a quotient that is halfway between two once the zero point, or the lower end, has taken its last bits."""
    scale, zero, _, _ = grid
    steps = x / scale
    return math.isfinite(x) and abs(steps - math.floor(steps) - 0.5) < 1e-4 and math.isclose(abs(ours - theirs), scale, rel_tol=1e-4)


def is_next_to_an_end(grid, x, ours, theirs):
    """The gradient of an element within a few units in the last place of where it ends."""
    scale, zero, lo, hi = grid
    ends = [(end - zero + half) * scale for end in (lo, hi) for half in (0, -0.5, 0.5)]
    return 0 in (ours, theirs) and any(abs(x - end) <= 2e-5 * scale for end in ends)


def is_rounded_again(grid, x, ours, theirs):
    scale, _, lo, hi = grid
    return abs(ours - theirs) <= 2.0**-22 * (hi - lo) * scale


#: What packages do otherwise, by preset and result: each reason with where it holds. docs/quantisation.md has them.
EXCUSES = {
    "torch": {"gx": {"the mask multiplies: zeros have the sign of g": is_zero}},
    "tensorflow": {
        "gx": {"the mask multiplies: zeros have the sign of g": is_zero, "the ends are rounded": is_next_to_an_end},
        "y": {"the lower end is subtracted first": is_near_tie},
    },
    "brevitas": {
        "y": {"zeros keep their sign": is_zero, "the zero point is added first": is_near_tie},
        "gx": {"the zero point is added first": is_next_to_an_end},
    },
    "brevitas-ste": {"y": {"zeros keep their sign": is_zero, "the zero point is added first": is_near_tie}},
    "openvino": {"y": {"the lower end is subtracted first": is_near_tie, "the lower end is added to the value": is_rounded_again}},
}


def results(preset: str, grid: list):
    scale, zero, lo, hi = grid
    x = record.elements(*grid)
    rule, g = wgclip.QuantRule.like(preset).range(lo, hi), record.upstream(x.size)
    scale = np.float32(scale)
    gx, _, _ = wgclip.fake_quantize_backward(x, g, scale, zero, rule=rule)
    codes = wgclip.quantize(x, scale, zero, dtype="int32", rule=rule)
    return x, {"y": wgclip.fake_quantize(x, scale, zero, rule=rule), "codes": codes, "gx": gx}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_presets_are_the_packages(file):
    preset, recorded = file.stem, json.loads(file.read_text())
    met, left = {}, []
    for case in recorded["cases"]:
        x, ours = results(preset, case["grid"])
        for of in case.keys() - {"grid"}:
            made = ours[of]
            theirs = np.frombuffer(bytes.fromhex(case[of]), made.dtype.newbyteorder("<"))
            assert theirs.size == made.size > 0
            differ = (made.view("u4") != theirs.view("u4")) & ~((made != made) & (theirs != theirs))
            for n in np.flatnonzero(differ):
                operands = (case["grid"], float(x[n]), float(made[n]), float(theirs[n]))
                reasons = EXCUSES.get(preset, {}).get(of, {})
                reason = next((name for name, holds in reasons.items() if holds(*operands)), None)
                if reason is None:
                    left.append((of, *operands))
                else:
                    met[of, reason] = met.get((of, reason), 0) + 1
    assert not left, f"{len(left)} results of {recorded['package']} {recorded['version']} differ: {left[:8]}"
    excused = {(of, reason) for of, reasons in EXCUSES.get(preset, {}).items() for reason in reasons}
    assert set(met) == excused, f"no difference for {excused - set(met)}"


BLOCKS = json.loads((FOLDER / "blocks" / "torchao.json").read_text())


@pytest.mark.parametrize("case", BLOCKS["cases"], ids=lambda case: f"{case['format']}-{case['scales']}")
def test_blocks_are_those_of_torchao(case):
    x = record.blocks()
    scale, _ = wgclip.calibrate(x, 1, dtype=case["format"], scales=case["scales"])
    codes = wgclip.quantize(x, scale, dtype=case["format"])
    if case["format"].startswith("float4"):
        codes = wgclip.pack4(codes)
    exponents = (scale.view("u4") >> 23).astype("u1")
    theirs = {of: np.frombuffer(bytes.fromhex(case[of]), "u1") for of in ("scale", "codes")}
    for of, ours in (("scale", exponents), ("codes", codes.view("u1"))):
        assert theirs[of].size == ours.size
        np.testing.assert_array_equal(ours.ravel(), theirs[of], of)


def test_there_are_files():
    assert {file.stem for file in FILES} == set(record.PACKAGES)
