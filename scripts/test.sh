#!/usr/bin/env bash
# Runs every test: on the CPU path and on every GPU adapter, of which there must be one.
# On a Debian or Ubuntu without a Vulkan adapter it installs Mesa's software one.
set -euo pipefail
cd "$(dirname "$0")/.."

# Mesa's device selection layer complains where no desktop session runs.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi

# SwiftShader is a second software driver, of other habits. Debian's chromium brings one.
swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -f "$swiftshader" ]; then export VK_ADD_DRIVER_FILES="$swiftshader"; fi

has_vulkan() { cargo run --quiet --package wgclip-cli -- devices --json | grep -q '"backend": "vulkan"'; }

install_mesa() {
    # libegl1 and libgl1-mesa-dri add the same rasteriser as an OpenGL adapter.
    local packages=(libvulkan1 mesa-vulkan-drivers libegl1 libgl1-mesa-dri) sudo=()
    if ! command -v apt-get >/dev/null; then
        echo "test.sh: no Vulkan adapter, and no apt-get to install Mesa's: install a Vulkan driver (lavapipe will do)" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "test.sh: no Vulkan adapter: as root, run: apt-get install ${packages[*]}" >&2
            exit 1
        fi
        sudo=(sudo)
    fi
    echo "test.sh: no Vulkan adapter: installing ${packages[*]}" >&2
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
}

cargo build --package wgclip-cli
has_vulkan || install_mesa
has_vulkan || { echo "test.sh: still no Vulkan adapter: see 'cargo run -- devices'" >&2; exit 1; }

cargo run --quiet --package wgclip-cli -- devices
# Tests of the whole workspace, doc tests among them; then of the library without wgpu.
cargo test --workspace "$@"
cargo test --package wgclip --no-default-features
