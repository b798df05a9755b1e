#!/usr/bin/env python3
"""Makes a checkpoint of shards (5 GB of f32, bf16, i64 and F8), has `wgclip clip` clip it under little memory on each
device that is named, and compares every byte with what numpy and ml_dtypes say. Prints time and peak memory.

    pip install numpy ml_dtypes
    scripts/checkpoint.py FOLDER target/release/wgclip cpu llvmpipe
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from measure import run

SHARDS, LOW, HIGH, MEMORY = 5, -1.5, 2.0, "256MiB"
TYPES = {
    "F32": np.float32,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
}
# For each shard: a large tensor of each type, and many small ones.
LARGE = {"F32": (8192, 16384), "BF16": (8192, 16384), "F8_E4M3": (8192, 8192), "F8_E5M2": (8192, 8192), "I64": (1024, 1024)}
SMALL, SMALL_COUNT, PIECE = 4096, 500, 1 << 22


def tensors(shard):
    for dtype, shape in LARGE.items():
        yield f"blocks.{shard}.{dtype.lower()}.weight", dtype, shape
    for n in range(SMALL_COUNT):
        yield f"blocks.{shard}.norm.{n}", ["F32", "BF16", "I64"][n % 3], (SMALL,)


def pieces(count):
    return [(start, min(PIECE, count - start)) for start in range(0, count, PIECE)]


def make(folder):
    folder.mkdir(parents=True)
    weight_map, total = {}, 0
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        header, end = {"__metadata__": {"format": "pt", "note": "kept"}}, 0
        for tensor, dtype, shape in tensors(shard):
            size = int(np.prod(shape)) * np.dtype(TYPES[dtype]).itemsize
            header[tensor] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
            weight_map[tensor], end = name, end + size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            rng = np.random.default_rng(shard)
            for tensor, dtype, shape in tensors(shard):
                for _, count in pieces(int(np.prod(shape))):
                    # Every bit pattern: NaN, infinities, subnormals.
                    file.write(rng.bytes(count * np.dtype(TYPES[dtype]).itemsize))
        total += end
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    )
    (folder / "config.json").write_text('{"model_type": "test"}')
    return total


def clipped(values):
    """The contract: bits are selected, ties and NaN keep x."""
    wide = values.astype(np.float32)
    low, high = (np.array(bound).astype(values.dtype) for bound in (LOW, HIGH))
    with np.errstate(invalid="ignore"):
        return np.where(wide < low.astype(np.float32), low, np.where(wide > high.astype(np.float32), high, values))


def compare(before, after):
    with open(before, "rb") as old, open(after, "rb") as new:
        length = struct.unpack("<Q", old.read(8))[0]
        text = old.read(length)
        assert new.read(8 + length) == struct.pack("<Q", length) + text, "the header changed"
        header = json.loads(text)
        header.pop("__metadata__")
        for name, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            dtype = np.dtype(TYPES[info["dtype"]])
            for _, count in pieces(int(np.prod(info["shape"]))):
                x = np.frombuffer(old.read(count * dtype.itemsize), dtype)
                expected = x if info["dtype"] == "I64" else clipped(x)
                assert new.read(count * dtype.itemsize) == expected.tobytes(), f"{name} of {after}"
        assert not new.read(1), "bytes beyond the last tensor"


def main():
    folder, wgclip, devices = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    source = folder / "checkpoint"
    total = make(source)
    print(f"{total / 1e9:.2f} GB in {SHARDS} shards, {SHARDS * (len(LARGE) + SMALL_COUNT)} tensors")
    for device in devices:
        target = folder / "clipped"
        command = [wgclip, "clip", source, target, "--min", str(LOW), "--max", str(HIGH)]
        said, cost = run([*command, "--memory", MEMORY, "--device", device])
        names = sorted(path.name for path in source.iterdir())
        assert names == sorted(path.name for path in target.iterdir())
        for name in names:
            if name.endswith(".safetensors"):
                compare(source / name, target / name)
            else:
                assert (source / name).read_bytes() == (target / name).read_bytes(), name
        print(f"{device}: {cost}, every byte compared\n  {said.strip()}")
        shutil.rmtree(target)


if __name__ == "__main__":
    main()
