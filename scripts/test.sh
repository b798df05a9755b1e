#!/usr/bin/env bash
# Runs the tests on the CPU path and on every GPU adapter, of which there must be one: Vulkan, Metal, DX12 or OpenGL, a
# software one too. docs/testing.md has the variables.
#
#   scripts/test.sh [--quick] [--install] [ARGUMENTS OF cargo test]
#
# --quick    the unit tests and the suite's quick part: three minutes after the build
# --install  on Debian and Ubuntu, install Mesa's software adapters where there is no adapter
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false install=false
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) quick=true ;;
        --install) install=true ;;
        *) break ;;
    esac
    shift
done

# Times are those of two cores and a software adapter.
stage() { printf '\ntest.sh: %s (%s s so far)\n' "$*" "$SECONDS" >&2; }

# Mesa's device selection layer complains where no desktop session runs.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi

# SwiftShader is a second software driver, with quirks of its own. Debian's chromium brings one.
swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -f "$swiftshader" ]; then export VK_ADD_DRIVER_FILES="$swiftshader"; fi

# libegl1 and libgl1-mesa-dri add the same rasteriser as an OpenGL adapter.
mesa=(libvulkan1 mesa-vulkan-drivers libegl1 libgl1-mesa-dri)

# The features of the whole workspace in every command: with others, cargo would build wgpu and all that needs it again.
all=(--workspace --all-features)
command=${CARGO_TARGET_DIR:-target}/debug/wgclip

has_adapter() { "$command" devices --json | grep -Eq '"kind": "(gpu|software)"'; }

install_mesa() {
    local sudo=()
    if ! command -v apt-get >/dev/null; then
        echo "test.sh: no GPU adapter, and no apt-get: install a driver (Mesa's lavapipe will do)" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
    stage "no GPU adapter: installing ${mesa[*]}"
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${mesa[@]}"
}

if [ "$quick" = true ]; then targets=(--lib --bins --test suite); else targets=(--lib --bins --tests); fi
stage "building the tests: 4 to 6 minutes the first time, most of it wgpu"
cargo test "${all[@]}" "${targets[@]}" --no-run

if [ "${WGCLIP_TEST_DEVICES:-}" != cpu ] && ! has_adapter; then
    if [ "$install" = true ]; then
        install_mesa
    else
        echo "test.sh: no GPU adapter. --install installs Mesa's software ones on Debian and Ubuntu: ${mesa[*]}" >&2
        echo "test.sh: WGCLIP_TEST_DEVICES=cpu tests the CPU path alone" >&2
        exit 1
    fi
    has_adapter || { echo "test.sh: still no GPU adapter: see '$command devices'" >&2; exit 1; }
fi
"$command" devices

if [ "$quick" = true ]; then
    export WGCLIP_TEST_QUICK=1
    stage "the unit tests and the suite's quick part: three minutes"
    cargo test "${all[@]}" "${targets[@]}" "$@"
    exit
fi
stage "unit tests, the suite on every device, and the command: a quarter of an hour"
cargo test "${all[@]}" "${targets[@]}" "$@"
stage "the examples of the documentation: a minute"
cargo test "${all[@]}" --doc "$@"
stage "all tests passed"
