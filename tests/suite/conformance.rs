//! The contract on every device: the table of `wgclip_conformance` at zero tolerance, a test for each operation, type and
//! device.

use wgclip::op::{Accuracy, Codes, Domain, Op, Pass, RuleUse};
use wgclip::{Device, ElementType};
use wgclip_conformance::{Tier, check};

use crate::devices::{Settings, Suite, seed};

/// Types of each size and class.
pub(crate) const QUICK: [ElementType; 4] =
    [ElementType::F32, ElementType::F16, ElementType::U8, ElementType::I64];

/// One type of each size and class: where work is split, and how bounds lie along x, depends on the size of elements alone.
const SIZES: [ElementType; 8] = [
    ElementType::F32,
    ElementType::F16,
    ElementType::F64,
    ElementType::F8E4M3Fn,
    ElementType::U8,
    ElementType::I16,
    ElementType::U32,
    ElementType::I64,
];

/// How much of the table a type meets on a device, if any.
fn tier(slug: &str, element: ElementType, Settings { quick, full, .. }: &Settings) -> Option<Tier> {
    let (is_tiny, is_gl) = (slug.ends_with("-tiny-limits"), slug.contains("-gl"));
    // OpenGL has the rasteriser that Vulkan has, and SwiftShader is a second one: the shapes of a few types show what it makes of them.
    let is_second = slug.contains("swiftshader");
    if *quick {
        return (QUICK.contains(&element) && !is_tiny).then_some(Tier::Quick);
    }
    let types = match (full, is_tiny && (is_gl || is_second)) {
        (true, _) => &SIZES[..],
        (false, true) => &QUICK[..1],
        (false, false) => &QUICK,
    };
    let is_listed = types.contains(&element);
    match is_tiny || is_gl || is_second {
        _ if is_tiny => is_listed.then_some(Tier::Split),
        true if !full => is_listed.then_some(Tier::Quick),
        true if is_gl => is_listed.then_some(Tier::Quick),
        _ if is_listed || slug == "cpu" && SIZES.contains(&element) => Some(Tier::Full),
        _ => Some(Tier::Values),
    }
}

/// Whether every run has a test, or a third of all runs: what the first driver and the CPU path do with types that are not listed is what they do with
/// those that are, and a second driver has the kernels of the first.
fn is_in_every_run(slug: &str, element: ElementType) -> bool {
    QUICK.contains(&element) && (slug == "cpu" || slug.starts_with("llvmpipe-vulkan") || !is_software(slug))
}

fn is_software(slug: &str) -> bool {
    slug.contains("llvmpipe") || slug.contains("swiftshader")
}

pub(crate) fn register(suite: &mut Suite) {
    let Settings { quick, full, named, .. } = suite.settings;
    // The seed says which third, so that runs meet all of them.
    let mut turn = seed() as usize % 3;
    let mut is_left_out = move |slug: &str, element| {
        if full || quick || named || is_in_every_run(slug, element) {
            return false;
        }
        turn = (turn + 1) % 3;
        turn != 0
    };
    for (slug, open) in suite.openers() {
        let open = std::sync::Arc::new(open);
        let types = ElementType::ALL.iter();
        let types: Vec<_> =
            types.filter_map(|&element| Some((element, tier(&slug, element, &suite.settings)?))).collect();
        for (element, tier) in types {
            for (op, in_place) in Op::variants() {
                // What computes compiles slowly. Its arithmetic is that of f32 whatever the type.
                let info = op.info();
                let of_codes = info.rule == RuleUse::Quant && info.codes != Codes::Both;
                let computes =
                    info.accuracy == Accuracy::Defined || of_codes || info.domain == Domain::Floats32;
                let of_type = if info.codes == Codes::Input { ElementType::I8 } else { ElementType::F32 };
                if computes && slug.contains("-gl") && element != of_type {
                    continue;
                }
                let is_another = !QUICK.contains(&element) && element != of_type;
                if computes && !full && slug != "cpu" && is_another {
                    continue;
                }
                if is_left_out(&slug, element) {
                    continue;
                }
                let is_second = computes && !full && slug.ends_with("swiftshader-vulkan");
                let tier = if is_second { Tier::Quick } else { tier };
                let open = open.clone();
                suite.add(format!("{}::{element}::{slug}", op.variant_name(in_place)), move || {
                    conforms(&open(), op, in_place, element, tier);
                });
            }
            for &op in Op::SLICES {
                let is_norm = op != Op::Sum;
                // Norms of one type are enough for a quick run.
                if is_norm && (!element.is_float() || quick && element != ElementType::F32) {
                    continue;
                }
                if is_left_out(&slug, element) {
                    continue;
                }
                // Long tensors for one type of each size that is summed; on SwiftShader they take as long as on all other devices.
                let long = slug == "cpu" || QUICK.contains(&element) && !slug.contains("swiftshader");
                let tier = if tier == Tier::Full && !long { Tier::Values } else { tier };
                let open = open.clone();
                suite.add(format!("{op}::{element}::{slug}"), move || {
                    conforms(&open(), op, false, element, tier);
                });
            }
        }
    }
}

/// Fails at a mismatch, or where the operation met too few cases.
fn conforms(device: &Device, op: Op, in_place: bool, element: ElementType, tier: Tier) {
    let tally = check(device, element, op, in_place, tier, seed()).unwrap_or_else(|error| panic!("{error}"));
    println!("{}: {} cases, {} mismatches", device.info(), tally.cases, tally.mismatches);
    if let Some(first) = tally.first {
        panic!("{first}");
    }
    let least = match tier {
        _ if !op.is_for(element, device.info().limits.is_some()) => 0,
        _ if op.info().pass == Pass::Slices => 3_000,
        // A rule for each pair of operands, in place of all rules.
        Tier::Values if op.info().rule == RuleUse::Quant => 50_000,
        Tier::Full if op.info().codes != Codes::None => 100_000,
        Tier::Full | Tier::Values => 200_000,
        Tier::Quick | Tier::Split => 30_000,
    };
    assert!(tally.cases >= least, "{} cases only", tally.cases);
    assert!(least > 0 || tally.cases == 0, "{op} of {element} is said to be unsupported");
}
