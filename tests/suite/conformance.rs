//! The contract on every device: a table of cases, each compared at zero tolerance.

use wgclip::{Bounds, Device, Element, ElementType, Gradient, Outside, Ties, with_element};

use crate::devices::{gpus, tight_gpus};
use crate::inputs::{bound_values, pairs, random};
use crate::runner::{Mismatch, Op, Oracle, compare};

/// Every operation with every rule.
fn ops() -> impl Iterator<Item = Op> {
    [Op::Clip, Op::ClipInPlace].into_iter().chain(Gradient::all().map(Op::ClipGrad))
}

/// A few operations that between them reach every entry point.
fn entry_points() -> [Op; 3] {
    let rule = Gradient { outside: Outside::Toward, ties: Ties::Half, ..Gradient::default() };
    [Op::Clip, Op::ClipInPlace, Op::ClipGrad(rule)]
}

/// Lengths about each boundary of the kernels (block, workgroup, row of workgroups, binding, two bindings)
/// when opened with [`tight`](crate::devices::tight) limits, and of the CPU path's chunks.
fn lengths<T: Element>() -> Vec<usize> {
    let words = [4, 8, 1024, 3 * 1024, 4 * 1024, 5 * 1024, 10 * 1024];
    let boundaries = words.iter().map(|words| words * 4 / size_of::<T>());
    let chunks = [32 * 1024, 64 * 1024];
    let around = |b: usize| [b - 1, b, b + 1];
    [0, 1, 2, 5].into_iter().chain(boundaries.chain(chunks).flat_map(around)).collect()
}

/// A case for each operation and pair of bounds over all pairs of special values.
pub fn special_values<T: Element>(
    device: &Device,
    oracle: &Oracle<T>,
    rng: &mut fastrand::Rng,
) -> Result<usize, Box<Mismatch>> {
    let (x, g) = pairs::<T>(rng, 1027);
    let mut cases = 0;
    for lo in bound_values::<T>() {
        for hi in bound_values::<T>() {
            let bounds = Bounds::new(lo, hi).unwrap();
            for op in ops() {
                cases += compare(device, oracle, op, &x, &g, &bounds)?;
            }
        }
    }
    Ok(cases)
}

/// A case for each entry point and length over random bits, with bounds drawn from the values themselves.
pub fn every_length<T: Element>(
    device: &Device,
    oracle: &Oracle<T>,
    rng: &mut fastrand::Rng,
) -> Result<usize, Box<Mismatch>> {
    let mut cases = 0;
    for len in lengths::<T>() {
        let (x, g) = (random::<T>(rng, len), random::<T>(rng, len));
        let mut bound = || x.get(rng.usize(..len.max(1))).copied().filter(|b| !b.is_nan());
        let bounds = Bounds::new(bound(), bound()).unwrap();
        for op in entry_points() {
            cases += compare(device, oracle, op, &x, &g, &bounds)?;
        }
    }
    Ok(cases)
}

/// Two million random bit patterns and every operation, between ordinary bounds.
fn many_random_bits<T: Element>(
    device: &Device,
    oracle: &Oracle<T>,
    rng: &mut fastrand::Rng,
) -> Result<usize, Box<Mismatch>> {
    let (x, g) = (random::<T>(rng, (1 << 21) + 3), random::<T>(rng, (1 << 21) + 3));
    let bounds = Bounds::parse(Some("-1"), Some("6")).unwrap();
    entry_points().iter().map(|&op| compare(device, oracle, op, &x, &g, &bounds)).sum()
}

/// Runs a part of the table for every type, and says how many cases each device passed.
fn run(devices: &[Device], part: &str, cases: impl Fn(ElementType, &Device, &mut fastrand::Rng) -> usize) {
    for device in devices {
        for &element in ElementType::ALL {
            let cases = cases(element, device, &mut fastrand::Rng::with_seed(seed()));
            println!("{part}, {element}, {}: {cases} cases, 0 mismatches", device.info());
        }
    }
}

/// Fresh each run. `WGCLIP_SEED` repeats one.
pub fn seed() -> u64 {
    let given = std::env::var("WGCLIP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("WGCLIP_SEED={seed}");
    seed
}

fn cpu_and_gpus() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(gpus()).collect()
}

macro_rules! all_types {
    ($part:ident) => {
        |element, device, rng| {
            let cases = with_element!(element, T => $part::<T>(device, &Oracle::REFERENCE, rng));
            cases.unwrap_or_else(|mismatch| panic!("{mismatch}"))
        }
    };
}

#[test]
fn special_values_on_every_device() {
    run(&cpu_and_gpus(), "special values", all_types!(special_values));
}

#[test]
fn every_length_on_every_device() {
    run(&cpu_and_gpus(), "lengths", all_types!(every_length));
}

#[test]
fn every_length_under_tight_limits() {
    run(&tight_gpus(), "lengths under tight limits", all_types!(every_length));
}

#[test]
fn many_random_bits_on_every_device() {
    run(&cpu_and_gpus(), "random bits", all_types!(many_random_bits));
}
