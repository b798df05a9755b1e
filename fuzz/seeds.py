#!/usr/bin/env python3
"""Writes a small valid file of each kind into corpus/files. The first byte chooses the kind: see the target."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

CORPUS = Path(__file__).parent / "corpus" / "files"
NPY, NPZ, SAFETENSORS, STORED, DEFLATED = 0, 1, 2, 3, 7


def npy(array, version=(1, 0)):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(array), version=version)
    return out.getvalue()


def npz(save, **arrays):
    out = io.BytesIO()
    save(out, **arrays)
    return out.getvalue()


def archive(members, method=zipfile.ZIP_STORED, comment=b""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.comment = comment
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def main():
    CORPUS.mkdir(parents=True, exist_ok=True)

    def seed(name, kind, content):
        (CORPUS / f"seed-{name}").write_bytes(bytes([kind]) + content)

    codes = ["<f4", "<f2", "<f8", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"]
    for code in codes + [">f4", ">f8", ">i2", ">u8"]:
        seed(f"npy-{code.replace('|', '').replace('<', 'le-').replace('>', 'be-')}", NPY, npy(np.arange(6).astype(code)))
    table = np.arange(6, dtype="<f4").reshape(2, 3)
    seed("npy-table", NPY, npy(table))
    seed("npy-fortran", NPY, npy(np.asfortranarray(table)))
    seed("npy-fortran-be", NPY, npy(np.asfortranarray(np.arange(24, dtype=">i4").reshape(2, 3, 4))))
    seed("npy-scalar", NPY, npy(np.float32(1.5)))
    seed("npy-empty", NPY, npy(np.zeros((0, 3), "<f4")))
    seed("npy-version-2", NPY, npy(table, (2, 0)))
    seed("npy-version-3", NPY, npy(table, (3, 0)))
    seed("npy-complex", NPY, npy(np.zeros(2, "<c8")))
    seed("npy-records", NPY, npy(np.zeros(2, [("a", "<f4"), ("b", [("c", "<i2", (2,))])])))

    nested = b"{'a': ']]]]', 'b': [[[[]]]]}"
    seed("npy-nested", NPY, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(nested)) + nested)

    arrays = {"a": table, "b": np.arange(5, dtype=">i2"), "c": np.asfortranarray(table)}
    seed("npz-stored", NPZ, npz(np.savez, **arrays))
    seed("npz-deflated", NPZ, npz(np.savez_compressed, **arrays))
    seed("npz-more", NPZ, archive({"notes.txt": b"no tensor", "x.npy": npy(table)}, zipfile.ZIP_DEFLATED, b"comment"))
    seed("npz-no-tensor", NPZ, archive({"notes.txt": b"no tensor"}))
    members = b"".join(npy(array) for array in arrays.values())
    seed("members-stored", STORED, members)
    seed("members-deflated", DEFLATED, members)

    sizes = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4,
             "I64": 8, "U64": 8, "BOOL": 1, "F8_E4M3": 1}
    tensors = {name.lower(): (name, [2], bytes(range(2 * size))) for name, size in sizes.items()}
    seed("safetensors", SAFETENSORS, safetensors(tensors, {"format": "pt"}))
    shapes = {"scalar": ("F32", [], bytes(4)), "empty": ("F32", [0, 3], b""), "table": ("U8", [2, 3], bytes(6))}
    seed("safetensors-shapes", SAFETENSORS, safetensors(shapes))


if __name__ == "__main__":
    main()
