//! The contract on every device: the table of `wgclip::check`, at zero tolerance.

use wgclip::check::{self, Row};
use wgclip::{Device, ElementType};

use crate::devices::{gpus, tight_gpus};

/// Fresh each run. `WGCLIP_SEED` repeats one.
pub fn seed() -> u64 {
    let given = std::env::var("WGCLIP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("WGCLIP_SEED={seed}");
    seed
}

/// Runs the table, prints it, and fails at a mismatch or where an operation met too few cases.
fn conforms(device: &Device) {
    let rows = check::run(device, ElementType::ALL, seed(), &mut |_| {});
    let rows = rows.unwrap_or_else(|error| panic!("{device:?}: {error}"));
    assert_eq!(rows.len(), ElementType::ALL.len() * check::Op::NAMES.len());
    for Row { element, op, tally } in rows {
        println!("{}, {element} {op}: {} cases, {} mismatches", device.info(), tally.cases, tally.mismatches);
        assert!(tally.cases > 200_000, "{device:?}, {element} {op}: {} cases", tally.cases);
        if let Some(first) = tally.first {
            panic!("{first}");
        }
    }
}

#[test]
fn the_cpu_keeps_the_contract() {
    conforms(&Device::cpu());
}

#[test]
fn every_adapter_keeps_the_contract() {
    for device in gpus() {
        conforms(&device);
    }
}

/// So tight that small tensors are split and folded.
#[test]
fn every_adapter_keeps_the_contract_under_tight_limits() {
    for device in tight_gpus() {
        conforms(&device);
    }
}
