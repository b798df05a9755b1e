"""What is installed: the command, the types, and that nothing is imported that was not asked for."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import wgclip
from wgclip import _core

HERE = pathlib.Path(__file__).parent.parent


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def command():
    found = shutil.which("wgclip", path=os.path.dirname(sys.executable))
    assert found, "pip installs the command beside python"
    return found


def test_the_command(tmp_path):
    np.save(tmp_path / "x.npy", np.array([-1.0, 0.5, 9.0], "f4"))
    made = run(command(), "clip", "x.npy", "y.npy", "--min", "0", "--max", "1", "--device", "cpu", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert np.load(tmp_path / "y.npy").tolist() == [0.0, 0.5, 1.0]
    assert run(command(), "--version").stdout.strip() == f"wgclip {wgclip.__version__}"
    wrong = run(command(), "clip", "--maximum", "1")
    assert wrong.returncode == 2 and "--help" in wrong.stderr


def test_frameworks_are_imported_on_demand():
    code = "import sys, wgclip; print([m for m in ('torch', 'jax', 'tensorflow', 'dask', 'mpi4py', 'ml_dtypes') if m in sys.modules])"
    assert run(sys.executable, "-c", code).stdout == "[]\n"


def test_the_stubs_have_what_there_is():
    tree = ast.parse((pathlib.Path(wgclip.__file__).parent / "_core.pyi").read_text())
    stubs = {of.name: of for of in tree.body if isinstance(of, ast.FunctionDef | ast.ClassDef)}
    there = {name for name in vars(_core) if not name.startswith("__")}
    assert there == set(stubs), there ^ set(stubs)
    for name, stub in stubs.items():
        if isinstance(stub, ast.FunctionDef):
            assert [of.arg for of in stub.args.args] == list(inspect.signature(getattr(_core, name)).parameters), name
            continue
        members = {of.name for of in stub.body if isinstance(of, ast.FunctionDef)}
        ours = {of for of in vars(getattr(_core, name)) if not of.startswith("_")}
        assert ours <= members and members - ours <= {of for of in members if of.startswith("__")}, name


def test_the_types():
    pytest.importorskip("mypy")
    assert (pathlib.Path(wgclip.__file__).parent / "py.typed").exists()
    made = run(sys.executable, "-m", "mypy", cwd=HERE)
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.parametrize("name", ["_activations", "_check", "_elementwise", "_norms", "distributed"])
def test_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"wgclip.{name}"))
    assert found.attempted > 1 and not found.failed


def test_everything_public_has_a_docstring():
    for name in wgclip.__all__:
        assert name == "__version__" or (getattr(wgclip, name).__doc__ or "").strip(), name


def test_ctrl_c_is_heard():
    # A shell's background job ignores the signal, and so would its children.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heard + "import wgclip; print('begun', flush=True); wgclip.check('cpu')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(2)
        try:
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in error
