"""Fixtures, and which tests a run may leave out."""

from __future__ import annotations

import os
import secrets

import numpy as np
import pytest

#: The tests of each framework. They are runs of their own, since torch, TensorFlow and Mesa's software GPU each bring an LLVM, and the second one
#: ends the process.
FRAMEWORKS = {
    "torch": ["test_torch.py", "test_distributed_torch.py", "guide-torch.md"],
    "jax": ["test_jax.py", "guide-jax.md"],
    "tensorflow": ["test_tensorflow.py", "guide-tensorflow.md"],
    "dask": ["test_dask.py", "guide-dask.md"],
}


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers: a failure tells the seed, and WGCLIP_TEST_SEED repeats it."""
    seed = int(os.environ.get("WGCLIP_TEST_SEED") or secrets.randbits(32))
    request.node.user_properties.append(("seed", seed))
    print(f"WGCLIP_TEST_SEED={seed}")
    return np.random.default_rng(seed)


def pytest_ignore_collect(collection_path, config):
    """A run is of what needs no framework, or of the one that WGCLIP_TEST_FRAMEWORK names."""
    wanted = os.environ.get("WGCLIP_TEST_FRAMEWORK")
    if wanted not in (None, *FRAMEWORKS):
        raise pytest.UsageError(f"no tests of {wanted}: there are those of {', '.join(FRAMEWORKS)}")
    if collection_path.is_dir():
        return None
    if wanted:
        return None if collection_path.name in FRAMEWORKS[wanted] else True
    return True if any(collection_path.name in of for of in FRAMEWORKS.values()) else None
