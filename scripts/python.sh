#!/usr/bin/env bash
# Builds the Python package as pip does, but unoptimised, installs it into a virtual environment in target/, and tests it.
#
#   scripts/python.sh [FRAMEWORK...]
#
# FRAMEWORK   torch, jax, tensorflow or dask: installed, and tested too
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi
environment=$PWD/target/python
python3 -m venv "$environment"
pip=("$environment/bin/pip" --disable-pip-version-check --quiet)

# Dependencies are those of the command's tests, built already there.
CARGO_TARGET_DIR=$PWD/target "${pip[@]}" install "./python[test]" --config-settings build-args="--profile dev"

cd python
"$environment/bin/pytest"
for framework in "$@"; do
    case "$framework" in
        dask) "${pip[@]}" install "dask[array,distributed]" zarr ;;
        tensorflow) "${pip[@]}" install tensorflow-cpu ;;
        *) "${pip[@]}" install "$framework" ;;
    esac
    WGCLIP_TEST_FRAMEWORK=$framework "$environment/bin/pytest"
done
