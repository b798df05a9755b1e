#!/usr/bin/env bash
# Every check of this project, as a list of steps: .ci/run and the workflows in .github run it, and so can you.
#
#   scripts/steps.sh [--install] [gate|nightly|STEP...]   run a list (the gate if nothing is named), or some steps
#   scripts/steps.sh --list [--json] gate|nightly         name the steps of a list
#
# --install  on Debian and Ubuntu, install the packages that the steps need
#
# The gate decides about a change. The nightly list has checks that take long and seldom fail: frameworks, large files, whole tables.
# All steps share one target folder, and those of the workspace one set of features, so that wgpu is not built again.
set -euo pipefail
cd "$(dirname "$0")/.."

gate=(format lints documentation requirements tests burn web python validation shaders wasm model-checker)
nightly=(tables without-gpu wasm-gpu msrv licences burn-lints examples peers frameworks web-release large-files exhaustive)

# Steps of the gate that leave a core idle, since they wait for a driver, a browser or one thread of Python: two of them run at a time. Where both build,
# cargo's lock makes one wait for the other.
in_pairs=" burn web python validation shaders wasm model-checker "

# Debian's packages that a step needs, besides Rust, Node.js and npm.
vulkan="libvulkan1 mesa-vulkan-drivers libegl1 libgl1-mesa-dri"
wasm="rustc-web rust-web-src rust-web-clippy lld"
declare -A packages=(
    [tests]="$vulkan chromium" [validation]="$vulkan vulkan-validationlayers" [tables]="$vulkan chromium"
    [shaders]="libvulkan1 chromium"
    [burn]="$vulkan" [python]="$vulkan python3-venv openmpi-bin" [frameworks]="$vulkan python3-venv openmpi-bin"
    [wasm]="$wasm" [wasm-gpu]="$wasm" [web]="$wasm libvulkan1 chromium" [web-release]="$wasm libvulkan1 chromium"
    [large-files]="$vulkan python3-venv" [exhaustive]="$vulkan" [peers]="$vulkan"
)

export CARGO_TARGET_DIR=$PWD/target
# An incremental build writes gigabytes for a second build that a list of steps does not make.
export CARGO_INCREMENTAL=0
# Mesa's device selection layer complains where no desktop session runs.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export NODEVICE_SELECT=1; fi

# The projects outside the workspace, which would make its builds larger.
projects() { git ls-files '*/Cargo.toml' | xargs grep -l '^\[workspace\]'; }

step_format() {
    cargo fmt --all --check
    for manifest in $(projects); do cargo fmt --check --manifest-path "$manifest"; done
}

step_lints() {
    cargo clippy --workspace --all-features --all-targets -- -D warnings
    # The command without its features, and the library without wgpu. The harness is there to keep the features of wgpu.
    cargo clippy --package wgclip-cli --package wgclip-harness -- -D warnings
    cargo clippy --package wgclip --no-default-features -- -D warnings
}

step_documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps; }

# What the manifests promise: that Cargo.lock is up to date, and that no dependency needs a newer Rust than `rust-version`.
step_requirements() {
    cargo metadata --locked --format-version 1 | python3 -c '
import json, sys
metadata = json.load(sys.stdin)
number = lambda text: tuple(int(part) for part in text.split("."))[:2]
members = set(metadata["workspace_members"])
packages = metadata["packages"]
ours = {p["rust_version"] for p in packages if p["id"] in members}
assert len(ours) == 1 and None not in ours, f"members need different Rusts: {ours}"
ours = ours.pop()
newer = ["%s %s needs %s" % (p["name"], p["version"], p["rust_version"]) for p in packages
         if p["rust_version"] and number(p["rust_version"]) > number(ours)]
if newer:
    sys.exit(f"rust-version is {ours}, but\n" + "\n".join(newer))
print(f"{len(packages)} packages do with Rust {ours}")
'
}

step_tests() { scripts/test.sh --install; }

# The suite ends at the first message of Vulkan's validation layer, and where the layer is missing. Calls are the same on every driver, and on one thread: Debian's
# layer, 1.3.239, sometimes crashes on several. Nor does it know the mark of WGSL that wgpu leaves in modules for debugging.
step_validation() {
    WGCLIP_TEST_VALIDATION=1 WGPU_DEBUG=0 WGCLIP_TEST_QUICK=1 WGCLIP_TEST_DEVICES=llvmpipe-vulkan \
        cargo test --workspace --all-features --test suite -- --test-threads=1 --skip shaders:: --skip mutation::
}

step_model_checker() { cargo test --manifest-path tests/loom/Cargo.toml; }

step_shaders() { scripts/shaders.sh; }

step_burn() { cargo test --manifest-path burn/Cargo.toml; }

step_python() {
    scripts/python.sh
    cargo clippy --manifest-path python/Cargo.toml -- -D warnings
}

# One set of features has all of the code that browsers get.
step_wasm() {
    node web/scripts/cargo.mjs clippy --manifest-path web/wasm/Cargo.toml --features plan,cpu,check \
        --target-dir target/wasm -- -D warnings
}

# The library with wgpu, which no package for browsers has.
step_wasm_gpu() { node web/scripts/cargo.mjs clippy --package wgclip --target-dir target/wasm -- -D warnings; }

web() { (cd web && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run "$@"); }
step_web() { web test; }

# The whole table on each driver.
step_tables() {
    local swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
    if [ -f "$swiftshader" ]; then export VK_ADD_DRIVER_FILES="$swiftshader"; fi
    WGCLIP_TEST_FULL=1 cargo test --workspace --all-features --lib --test suite
}

step_without_gpu() { cargo test --package wgclip --no-default-features; }

# The oldest Rust itself, where rustup has it; `requirements` in the gate and clippy's incompatible_msrv stand in for it.
step_msrv() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! cargo "+$version" --version >/dev/null 2>&1; then
        echo "steps.sh: no Rust $version here (rustup toolchain install $version): not checked" >&2
        return
    fi
    cargo "+$version" check --workspace --all-features --target-dir target/msrv
}

step_licences() {
    cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet --target-dir target/deny cargo-deny
    # Without the list of known vulnerabilities, which is a repository of its own: `cargo deny check` reads it.
    cargo deny check licenses bans sources
}

step_burn_lints() { cargo clippy --manifest-path burn/Cargo.toml --all-targets -- -D warnings; }

step_examples() {
    cargo test --manifest-path examples/candle/Cargo.toml
    for example in user_device fused layer; do cargo run --release --example "$example"; done
}

step_peers() { cargo check --manifest-path benches/peers/Cargo.toml; }

step_frameworks() { scripts/python.sh dask torch jax tensorflow; }

# The modules as the package has them, all types on both paths, the libraries beside which it works, a project under Vite.
step_web_release() { web test:release; }

step_large_files() {
    cargo build --release --package wgclip-cli
    python3 -m venv target/large-files
    target/large-files/bin/pip install --quiet numpy ml_dtypes
    target/large-files/bin/python scripts/checkpoint.py target/large-files/data target/release/wgclip cpu llvmpipe
    rm -rf target/large-files/data
    target/large-files/bin/python scripts/large_norms.py target/large-files/data target/release/wgclip cpu llvmpipe
    rm -rf target/large-files/data
}

step_exhaustive() {
    cargo run --release --package wgclip-cli --features full -- check --device cpu --exhaustive --type u8,i8
}

install() {
    local wanted=()
    for step in "$@"; do read -ra more <<< "${packages[$step]:-}"; wanted+=("${more[@]}"); done
    if [ ${#wanted[@]} = 0 ] || ! command -v apt-get >/dev/null; then return; fi
    local sudo=()
    if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
    echo "== packages"
    "${sudo[@]}" apt-get update -q >/dev/null
    # Ubuntu has not all of Debian's: there rustup brings wasm32.
    local package known=()
    for package in "${wanted[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then known+=("$package"); fi
    done
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${known[@]}" >/dev/null
}

# Processes of steps that run at the same time, with their names and when they began. Their output is shown when they end.
declare -A running=() began_at=()
took=()
logs=$(mktemp -d)

# However a run ends, an interrupt too, so do the steps that it began.
end_all() {
    local process
    for process in "${!running[@]}"; do kill -- "-$process" 2>/dev/null || true; done
    rm -rf "$logs"
}
trap end_all EXIT

# Job control gives each step a process group of its own, which can be ended as a whole.
begin() {
    set -m
    ("step_$(tr - _ <<< "$1")") > "$logs/$1" 2>&1 < /dev/null &
    set +m
    running[$!]=$1 began_at[$!]=$SECONDS
}

# Waits for one of them. If it failed, the run ends.
end_one() {
    local process status=0
    wait -n -p process "${!running[@]}" || status=$?
    local step=${running[$process]}
    printf '\n== %s (%s s so far)\n' "$step" "$SECONDS"
    cat "$logs/$step"
    took+=("$step $((SECONDS - began_at[$process])) s")
    unset "running[$process]"
    if [ "$status" != 0 ]; then
        for process in "${!running[@]}"; do
            printf '\n== %s (ended, since %s failed)\n' "${running[$process]}" "$step"
            cat "$logs/${running[$process]}"
        done
        exit "$status"
    fi
}

main() {
    local list=false json=false install=false steps=()
    for argument in "$@"; do
        case "$argument" in
            --list) list=true ;;
            --json) json=true ;;
            --install) install=true ;;
            gate) steps+=("${gate[@]}") ;;
            nightly) steps+=("${nightly[@]}") ;;
            *)
                if ! declare -F "step_${argument//-/_}" >/dev/null; then
                    echo "steps.sh: no step '$argument': there are ${gate[*]} ${nightly[*]}" >&2
                    exit 2
                fi
                steps+=("$argument")
                ;;
        esac
    done
    if [ ${#steps[@]} = 0 ]; then steps=("${gate[@]}"); fi
    if [ "$list" = true ]; then
        if [ "$json" = true ]; then printf '["%s"]\n' "$(printf '%s","' "${steps[@]}" | sed 's/","$//')"; else printf '%s\n' "${steps[@]}"; fi
        return
    fi
    if [ "$install" = true ]; then install "${steps[@]}"; fi
    for step in "${steps[@]}"; do
        if [[ ${#steps[@]} -gt 1 && $in_pairs == *" $step "* ]]; then
            if [ ${#running[@]} = 2 ]; then end_one; fi
            begin "$step"
        else
            while [ ${#running[@]} -gt 0 ]; do end_one; done
            printf '\n== %s (%s s so far)\n' "$step" "$SECONDS"
            local began=$SECONDS
            # In a shell of its own: a step's variables stay with it, and it ends at its first failure.
            ("step_${step//-/_}")
            took+=("$step $((SECONDS - began)) s")
        fi
    done
    while [ ${#running[@]} -gt 0 ]; do end_one; done
    printf '\n== done in %s s:' "$SECONDS"
    printf ' %s,' "${took[@]}" | sed 's/,$/\n/'
}

main "$@"
