#!/usr/bin/env bash
# Compiles every kernel with Dawn's Tint, the WGSL compiler of Chromium, and runs some to the bit, from Node.js. Tint is
# stricter than naga, and a browser hands it our text unchanged.
#
# It needs Node.js 20, npm, and SwiftShader, which Debian's chromium brings. It downloads the npm package `webgpu` into
# target/tint.
set -euo pipefail
cd "$(dirname "$0")/.."

# Mesa's device selection layer complains where no desktop session runs.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi

swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -f "$swiftshader" ]; then
    echo "shaders.sh: no $swiftshader: install chromium for its SwiftShader" >&2
    exit 1
fi
folder=target/tint
mkdir -p "$folder"
cp scripts/tint/package.json scripts/tint/package-lock.json scripts/tint/check.mjs "$folder/"
(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --silent)
# With the features of the tests, so that nothing is built again.
cargo build --quiet --workspace --all-features --example dump_shaders
"${CARGO_TARGET_DIR:-target}/debug/examples/dump_shaders" > "$folder/shaders.jsonl"
VK_DRIVER_FILES="$swiftshader" timeout 600 node "$folder/check.mjs" "$folder/shaders.jsonl"
