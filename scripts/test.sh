#!/usr/bin/env bash
# Runs the tests on the CPU path and on every GPU adapter, of which there must be one: Vulkan, Metal, DX12 or OpenGL, a
# software one too. docs/testing.md has the variables.
#
#   scripts/test.sh [--quick] [--install] [ARGUMENTS OF cargo test]
#
# --quick    the unit tests and the suite's quick part: two or three minutes after the build
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

# Mesa's device selection layer complains where no desktop session runs.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi

# SwiftShader is a second software driver, with quirks of its own. Debian's chromium brings one.
swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -f "$swiftshader" ]; then export VK_ADD_DRIVER_FILES="$swiftshader"; fi

# libegl1 and libgl1-mesa-dri add the same rasteriser as an OpenGL adapter.
mesa=(libvulkan1 mesa-vulkan-drivers libegl1 libgl1-mesa-dri)

has_adapter() { cargo run --quiet --package wgclip-cli -- devices --json | grep -Eq '"kind": "(gpu|software)"'; }

install_mesa() {
    local sudo=()
    if ! command -v apt-get >/dev/null; then
        echo "test.sh: no GPU adapter, and no apt-get: install a driver (Mesa's lavapipe will do)" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
    echo "test.sh: no GPU adapter: installing ${mesa[*]}" >&2
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${mesa[@]}"
}

cargo build --package wgclip-cli
if [ "${WGCLIP_TEST_DEVICES:-}" != cpu ] && ! has_adapter; then
    if [ "$install" = true ]; then
        install_mesa
    else
        echo "test.sh: no GPU adapter. --install installs Mesa's software ones on Debian and Ubuntu: ${mesa[*]}" >&2
        echo "test.sh: WGCLIP_TEST_DEVICES=cpu tests the CPU path alone" >&2
        exit 1
    fi
    has_adapter || { echo "test.sh: still no GPU adapter: see 'cargo run -- devices'" >&2; exit 1; }
fi
cargo run --quiet --package wgclip-cli -- devices

if [ "$quick" = true ]; then
    export WGCLIP_TEST_QUICK=1
    cargo test --package wgclip --lib --test suite "$@"
    exit
fi
# Tests of the whole workspace, doc tests among them; then of the library without wgpu.
cargo test --workspace "$@"
cargo test --package wgclip --no-default-features
