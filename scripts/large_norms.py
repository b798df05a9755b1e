#!/usr/bin/env python3
"""Checks `wgclip norm` and `wgclip clip-norm` on each device that is named, beside exact integers: norms of small files of
every type, kind and axis, then a checkpoint of 5 GB of gradients under little memory. Prints times and peak memory.

    pip install numpy ml_dtypes
    scripts/large_norms.py FOLDER target/release/wgclip cpu llvmpipe
"""

import json
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from measure import run

MEMORY, SHARDS, PIECE, LIMIT = "256MiB", 4, 1 << 22, 1.0
TYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F64": np.float64,
}
LARGE = {"F32": 160 << 20, "BF16": 160 << 20, "F16": 80 << 20, "F8_E4M3": 40 << 20, "F8_E5M2": 40 << 20}
SMALL, SMALL_COUNT = 4096, 300
# Numbers are integers times 2^-SCALE.
SCALE = 1074


def random(rng, dtype, count):
    """Every bit pattern of a finite number."""
    x = np.frombuffer(rng.bytes(count * np.dtype(dtype).itemsize), dtype).copy()
    with np.errstate(invalid="ignore"):
        x[~np.isfinite(x.astype(np.float64))] = 1
    return x


def moments(x):
    """The greatest magnitude, their sum, and that of their squares (in units of 2^-SCALE and its square), as integers."""
    magnitude = np.abs(x.astype(np.float64))
    if x.dtype == np.float64:
        whole = [scaled(value) for value in magnitude]
        return max(whole, default=0), sum(whole), sum(value**2 for value in whole)
    fraction, exponent = np.frexp(magnitude)
    # Shorter types have up to 24 bits, so that counts by exponent of both halves of the squares are exact in f64.
    digits = (fraction * 2.0**24).astype(np.int64)
    place = (exponent + 200).astype(np.int64)
    sums, squares = 0, 0
    parts = [digits, digits * digits >> 24, digits * digits & 0xFFFFFF]
    for n, part in enumerate(parts):
        by_exponent = np.bincount(place, part.astype(np.float64), 500)
        for e in np.flatnonzero(by_exponent):
            value, power = int(by_exponent[e]), int(e) - 200 - 24
            if n == 0:
                sums += value << (SCALE + power)
            else:
                squares += (value << (24 if n == 1 else 0)) << (2 * (SCALE + power))
    return scaled(magnitude.max(initial=0)), sums, squares


def scaled(value):
    """A float as an integer times 2^-SCALE."""
    above, below = float(value).as_integer_ratio()
    return above * (2**SCALE // below)


def rounded(number, root, wide):
    """number * 2^-SCALE, or the root of number * 2^(-2 SCALE), to nearest, ties to even: its bits."""
    bits, least, most = (53, -1074, 1024) if wide else (24, -149, 128)
    if number == 0:
        return 0
    if root:
        # Bits beyond those that are rounded, and one that says whether there are more.
        number <<= 2 * 64
        whole = math.isqrt(number)
        number = 2 * whole + (whole * whole != number)
        scale = SCALE + 64 + 1
    else:
        scale = SCALE
    unit = max(number.bit_length() - bits, scale + least)
    if unit > 0:
        half, rest = 1 << (unit - 1), number & ((1 << unit) - 1)
        number >>= unit
        number += rest > half or (rest == half and number & 1)
    else:
        number <<= -unit
    value = math.inf if number.bit_length() + unit - scale > most else math.ldexp(number, unit - scale)
    return struct.unpack("<Q" if wide else "<I", struct.pack("<d" if wide else "<f", value))[0]


def norm_bits(all_moments, kind, wide):
    greatest, sums, squares = all_moments
    return rounded({"max": greatest, "l1": sums, "l2": squares}[kind], kind == "l2", wide)


def merged(list_of_moments):
    greatest, sums, squares = zip(*list_of_moments)
    return max(greatest), sum(sums), sum(squares)


def product(x, coefficient):
    """Elements times a coefficient of f32, rounded once."""
    exact = x.astype(np.float64) * float(coefficient)
    if x.dtype == np.float32:
        return exact.astype(np.float32)
    # To odd, so that the rounding to the shorter type is the only one.
    odd = exact.astype(np.float32)
    bits = odd.view(np.uint32)
    bits -= np.abs(odd.astype(np.float64)) > np.abs(exact)
    bits |= odd.astype(np.float64) != exact
    return odd.astype(x.dtype)


def save(path, tensors):
    header, end = {}, 0
    for name, (dtype, shape, size, _) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, parts in tensors.values():
            for part in parts():
                file.write(part.tobytes())
    return end


def small(folder, wgclip, devices):
    """Every type, kind and axis."""
    rng, path, right, asked = np.random.default_rng(92), folder / "small.safetensors", 0, 0
    for dtype, of in TYPES.items():
        x = random(rng, of, 7 * 333).reshape(7, 333)
        save(path, {"x": (dtype, x.shape, x.nbytes, lambda x=x: [x])})
        for kind in ["l1", "l2", "max"]:
            for axes, slices in [(None, [x]), ("0", list(x.T)), ("-1", list(x)), ("0,1", [x])]:
                expected = [norm_bits(moments(part.ravel()), kind, dtype == "F64") for part in slices]
                for device in devices:
                    command = [wgclip, "norm", path, "--kind", kind, "--json", "--device", device]
                    command += [] if axes is None else ["--axes", axes]
                    done = subprocess.run(command, capture_output=True, text=True)
                    if dtype == "F64" and device != "cpu":
                        assert done.returncode == 1 and "--device cpu" in done.stderr, done
                        continue
                    told = json.loads(done.stdout)["tensors"][0]
                    actual = [int(norm["bits"], 16) for norm in told.get("norms", [told])]
                    asked, right = asked + 1, right + (actual == expected)
    print(f"{right} of {asked} files have the norms of exact integers")
    assert right == asked


def data_of(path):
    """The bytes of each piece of each tensor of a file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for info in sorted(header.values(), key=lambda info: info["data_offsets"]):
            size = np.dtype(TYPES[info["dtype"]]).itemsize
            for start in range(0, info["shape"][0], PIECE):
                yield file.read(min(PIECE, info["shape"][0] - start) * size)


def gradients(dtype, count, seed):
    """Random bits below 2 where the type has many exponents, so that all together have a norm."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, PIECE):
        x = random(rng, TYPES[dtype], min(PIECE, count - start))
        if dtype in ("F32", "BF16"):
            bits = x.view(f"u{x.itemsize}")
            bits &= ~bits.dtype.type(1 << (8 * x.itemsize - 2))
        yield x


def large(folder, wgclip, devices):
    source, target = folder / "gradients", folder / "clipped"
    source.mkdir()
    # Every shard has the same elements, under names of its own.
    counts = {f"{dtype.lower()}.weight": (dtype, count) for dtype, count in LARGE.items()}
    counts |= {f"norm.{n}": ("F32", SMALL) for n in range(SMALL_COUNT)}
    found = {}

    def parts(name, seed):
        of_parts = []
        for x in gradients(*counts[name], seed):
            of_parts.append(moments(x))
            yield x
        found[name] = merged(of_parts)

    def tensors(shard, make):
        return {
            f"blocks.{shard}.{name}": (dtype, [count], count * np.dtype(TYPES[dtype]).itemsize, lambda name=name, n=n: make(name, n))
            for n, (name, (dtype, count)) in enumerate(counts.items())
        }

    size = save(source / "model-0.safetensors", tensors(0, parts))
    for shard in range(1, SHARDS):
        save(source / f"model-{shard}.safetensors", tensors(shard, lambda *_: []))
        with open(source / f"model-{shard}.safetensors", "ab") as file:
            file.writelines(data_of(source / "model-0.safetensors"))
    print(f"{SHARDS * size / 1e9:.2f} GB in {SHARDS} files, {SHARDS * len(counts)} tensors")
    bits = norm_bits(merged([merged(found.values())] * SHARDS), "l2", False)
    coefficient = np.float32(LIMIT) / np.uint32(bits).view(np.float32)
    for device in devices:
        said, cost = run([wgclip, "norm", source, "--json", "--memory", MEMORY, "--device", device])
        told = json.loads(said)
        assert int(told["global"]["bits"], 16) == bits, (told["global"], bits)
        for row in told["tensors"]:
            name = row["name"].split(".", 2)[2]
            assert int(row["bits"], 16) == norm_bits(found[name], "l2", False), row
        print(f"norm on {device}: {cost}, {len(told['tensors']) + 1} norms are exact")
        command = [wgclip, "clip-norm", source, target, "--max", str(LIMIT), "--memory", MEMORY, "--device", device]
        said, cost = run(command)
        first = data_of(target / "model-0.safetensors")
        for n, name in enumerate(counts):
            for x in gradients(*counts[name], n):
                assert next(first) == product(x, coefficient).tobytes(), name
        for shard in range(1, SHARDS):
            pairs = zip(data_of(target / "model-0.safetensors"), data_of(target / f"model-{shard}.safetensors"), strict=True)
            assert all(a == b for a, b in pairs), shard
        print(f"clip-norm on {device}: {cost}, every byte compared\n  {said.strip()}")
        shutil.rmtree(target)


def main():
    folder, wgclip, devices = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    small(folder, wgclip, devices)
    large(folder, wgclip, devices)


if __name__ == "__main__":
    main()
