#!/usr/bin/env bash
# wgclip next to its peers, in one run: ./run.sh [--device D] [--python PROGRAM] [--json FILE] [--quick]
# Python's engines are those that PROGRAM has: python3 -m venv v && v/bin/pip install numpy torch jax tensorflow-cpu
set -euo pipefail
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi
exec cargo run --release --quiet --manifest-path "$(dirname "$0")/Cargo.toml" -- "$@"
