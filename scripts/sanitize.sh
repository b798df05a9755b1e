#!/usr/bin/env bash
# The library's tests under AddressSanitizer, on the CPU path and on every GPU adapter that WGCLIP_TEST_DEVICES takes ('cpu'
# unless set); and under ThreadSanitizer on the CPU path, where nightly's rust-src is installed: without a standard library that
# is built for it, it reports races that are none. Needs a nightly compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
export WGCLIP_TEST_DEVICES=${WGCLIP_TEST_DEVICES:-cpu}

# Drivers keep memory to the end; a test asks for more memory than there is.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
RUSTFLAGS=-Zsanitizer=address cargo +nightly test --target "$host" --target-dir target/sanitize-address \
    --package wgclip --lib --test suite "$@"

if [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src" ]; then
    RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -Zbuild-std --target "$host" --target-dir target/sanitize-thread \
        --package wgclip --no-default-features --lib "$@"
else
    echo "sanitize.sh: no ThreadSanitizer without 'rustup +nightly component add rust-src'" >&2
fi
