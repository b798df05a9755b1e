"""The `wgclip` command."""

from __future__ import annotations

import os
import signal
import sys

from . import _core


def main() -> int:
    """Runs the command with the arguments of this process."""
    if sys.platform == "linux":
        # Mesa's device selection layer complains where no desktop session runs.
        names = ("XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "MESA_VK_DEVICE_SELECT")
        if not any(name in os.environ for name in names):
            os.environ.setdefault("NODEVICE_SELECT", "1")
    # Ctrl-C ends the command at once, as it does without Python.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _core.run_command(["wgclip", *sys.argv[1:]])
