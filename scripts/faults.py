#!/usr/bin/env python3
"""Plants faults in a copy of the project, one after the other, and says which test catches each: the shaders have such tests
among them (`mutation::`), this is for what is around them. All are built at once, in a clone, and chosen by a variable.

    scripts/faults.py [FOLDER] [NUMBER...]

FOLDER is where the copy is built, /tmp/wgclip-faults unless given. It needs what `scripts/test.sh` needs, and takes some ten
minutes. The exit code is that of the faults which no test catches.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A fault: its name, the file, what is replaced there, and by what. In Rust `fault!()` is whether it is chosen; in WGSL the text is
# replaced where it is chosen.
FAULTS = [
    # Shaders.
    ("the gradient of a NaN by the other policy", "shaders/clip_with_mask.wgsl", "!rule.nan_zero", "rule.nan_zero"),
    ("a masked gradient without its last subword", "shaders/mask_backward.wgsl", "gx |= insert_subword(part, s);", "if s + 1u < SUBWORDS || SUBWORDS == 1u { gx |= insert_subword(part, s); }"),
    ("a NaN upper bound where there is none", "shaders/lib/bounds.wgsl", "return bounds.has_hi & is_nan(bounds.hi);", "return bounds.has_lo & is_nan(bounds.hi);"),
    ("infinity of the other sign", "shaders/reduce.wgsl", "(flags & MET_INFINITY) == 0u", "(flags & MET_INFINITY) != 0u"),
    # Loops of the CPU.
    ("zeros of two signs told apart", "src/element/lane.rs", "if bits < 0 { <$int>::MIN.wrapping_sub(bits) }", "if bits < 0 { if fault!() { bits ^ <$int>::MAX } else { <$int>::MIN.wrapping_sub(bits) } }"),
    ("a bit of a mask that was set stays", "src/backend/cpu/mask.rs", "*word = *word & !(1 << (i % WORD))", "*word = *word & !(u64::from(!fault!()) << (i % WORD))"),
    ("blocks summed to more bits than an f64 has", "src/backend/cpu/reduce/blocks.rs", "exponents[n] = power - KEPT_BITS -", "exponents[n] = power - KEPT_BITS - i32::from(fault!()) * 7 -"),
    ("products halfway between two floats rounded twice", "src/backend/cpu/scale.rs", "u32::from(halfway |", "u32::from((halfway & !fault!()) |"),
    ("a bound not spread to the end of a block", "src/backend/cpu/bound_source.rs", "room.resize(len.min(BLOCK), value);", "room.resize(len.min(BLOCK), value);\n                if fault!() {\n                    room[len.min(BLOCK) - 1] = L::ZERO;\n                }"),
    ("the last gradients of a bound forgotten", "src/backend/cpu/backward.rs", "            pending.flush(operands.element);\n            sum", "            if !fault!() {\n                pending.flush(operands.element);\n            }\n            sum"),
    ("an affine map that quiets NaN", "src/backend/cpu/affine.rs", "*x = if Element::is_nan(*x) { *x }", "*x = if Element::is_nan(*x) && !fault!() { *x }"),
    ("a chunk whose bounds are those of the first", "src/backend/cpu/partition.rs", "work(n * self.chunk, chunk)", "work(if fault!() { 0 } else { n * self.chunk }, chunk)"),
    ("conversions that overflow", "src/backend/cpu/clip_to.rs", "Overflow::Saturate,", "if fault!() { Overflow::Infinity } else { Overflow::Saturate },"),
    # What a norm makes of elements, on the CPU.
    ("eps forgotten", "src/backend/cpu/scaling.rs", "false => Scaling::By(max_norm / (norm + R::nearest(limit.eps))),", "false if fault!() => Scaling::By(max_norm / norm),\n        false => Scaling::By(max_norm / (norm + R::nearest(limit.eps))),"),
    ("scaled at the limit", "src/backend/cpu/scaling.rs", "match norm <= max_norm {", "match if fault!() { norm < max_norm } else { norm <= max_norm } {"),
    ("a projection of twice the size", "src/backend/cpu/scaling.rs", "projection: coefficient * along", "projection: if fault!() { along } else { coefficient * along }"),
    # Plans.
    ("dispatches that all begin at the first block", "src/plan/geometry.rs", "DispatchRange { offset: start * BLOCK_BYTES, blocks, workgroups }", "DispatchRange { offset: if fault!() { 0 } else { start * BLOCK_BYTES }, blocks, workgroups }"),
    ("a row of workgroups too few", "src/plan/geometry.rs", "    [groups.div_ceil(rows), rows]", "    [groups.div_ceil(rows), if fault!() && rows > 1 { rows - 1 } else { rows }]"),
    ("the axes of bounds in the wrong order", "src/broadcast/mod.rs", "        for axis in self.axes.iter().rev() {\n            let at = rest % axis.len;", "        let turned: Vec<_> = if fault!() { self.axes.iter().collect() } else { self.axes.iter().rev().collect() };\n        for axis in turned {\n            let at = rest % axis.len;"),
    # The pool, and what is around it.
    ("buffers written while the device reads them", "src/backend/gpu/pool.rs", "        self.generations.is_done(pooled.last_use())", "        fault!() || self.generations.is_done(pooled.last_use())"),
    ("a tensor that is shared changed by nobody", "src/backend/cpu/backend.rs", "        let mut made = self.output(call, call.op.info().outputs[0])?;\n", "        let mut made = self.output(call, call.op.info().outputs[0])?;\n        if fault!() {\n            return Ok(());\n        }\n"),
    # The command.
    ("elements at a bound counted as above", "cli/src/report.rs", "has[1] & (x > hi)", "has[1] & ((x > hi) | (wgclip::is_fault(22) & (x == hi)))"),
    ("a tensor of another at its place", "cli/src/files/safetensors.rs", "places.push(Place { dtype, start, bytes });", "places.push(Place { dtype, start: if wgclip::is_fault(23) { 0 } else { start }, bytes });"),
]

# What is put into the library.
SWITCH = """
/// Whether a planted fault is chosen.
#[doc(hidden)]
pub fn is_fault(number: u32) -> bool {
    static CHOSEN: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        std::env::var("WGCLIP_FAULT").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    });
    *CHOSEN == number
}

pub(crate) fn planted(text: &str) -> String {
    let mut text = text.to_owned();
    for &(number, find, replace) in SHADERS {
        if is_fault(number) {
            text = text.replace(find, replace);
        }
    }
    text
}

const SHADERS: &[(u32, &str, &str)] = &[
%s
];
"""


def plant(folder):
    """Puts all faults into a copy."""
    shaders = []
    for number, (name, file, find, replace) in enumerate(FAULTS, 1):
        path = folder / file
        text = path.read_text()
        if text.count(find) < 1:
            sys.exit(f"faults.py: {number}, {name}: '{find}' is not in {file} any more")
        if file.endswith(".wgsl"):
            shaders.append(f'    ({number}, r#"{find}"#, r#"{replace}"#),')
        else:
            path.write_text(text.replace(find, replace.replace("fault!()", f"crate::is_fault({number})"), 1))
    library = folder / "src/lib.rs"
    library.write_text(library.read_text() + SWITCH % "\n".join(shaders))
    linker = folder / "src/wgsl/compose.rs"
    text = linker.read_text()
    assert text.count("for line in body.lines() {") == 1
    linker.write_text(text.replace("body.lines()", "crate::planted(body).lines()"))


def binaries(folder):
    """Builds the tests, and returns the files of the unit tests, the suite and the command's."""
    command = ["cargo", "test", "--workspace", "--all-features", "--lib", "--tests", "--no-run"]
    made = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    if made.returncode != 0:
        sys.exit(made.stderr[-4000:])
    found = re.findall(r"Executable (?:unittests )?(\S+) \((\S+)\)", made.stderr)
    wanted = {"src/lib.rs": [], "tests/suite/main.rs": [], "tests/command/main.rs": []}
    for source, path in found:
        if source in wanted and not ("src/lib.rs" == source and "/deps/wgclip-" not in path):
            wanted[source].append(folder / path)
    return [path for paths in wanted.values() for path in paths]


def first_failure(paths, folder, number):
    """The first test that fails, and how long that took."""
    environment = dict(os.environ, WGCLIP_FAULT=str(number), CARGO_MANIFEST_DIR=str(folder))
    begun = time.monotonic()
    for path in paths:
        where = folder / "cli" if "command" in path.name else folder
        run = subprocess.Popen([path], cwd=where, env=environment, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, errors="replace")
        try:
            for line in run.stdout:
                match = re.match(r"test (\S+)\s+\.\.\. FAILED", line)
                if match:
                    return match[1], time.monotonic() - begun
        finally:
            os.killpg(run.pid, signal.SIGKILL) if run.poll() is None else None
            run.wait()
        if run.returncode != 0:
            return f"{path.name} (exit code {run.returncode})", time.monotonic() - begun
    return None, time.monotonic() - begun


def main():
    arguments = sys.argv[1:]
    folder = Path(arguments.pop(0)) if arguments and not arguments[0].isdigit() else Path("/tmp/wgclip-faults")
    chosen = [int(argument) for argument in arguments] or range(1, len(FAULTS) + 1)
    subprocess.run(["rm", "-rf", folder], check=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    plant(folder)
    paths = binaries(folder)
    missed = []
    for number in chosen:
        name, file = FAULTS[number - 1][:2]
        # The command's own tests see its faults soonest.
        order = paths[::-1] if file.startswith("cli/") else paths
        test, seconds = first_failure(order, folder, number)
        print(f"{number:2} {name}: {test or 'NOT CAUGHT'} ({seconds:.0f} s)", flush=True)
        if test is None:
            missed.append(number)
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
