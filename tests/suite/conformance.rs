//! The contract on every device: the table of `wgclip_conformance` at zero tolerance, a test for each operation, type and
//! device.

use wgclip::{Device, ElementType, Op};
use wgclip_conformance::{Reduction, Tier, check, check_reduction};

use crate::devices::{Suite, seed};

/// Types of each size and class, for a quick run.
const QUICK: [ElementType; 4] = [ElementType::F32, ElementType::F16, ElementType::U8, ElementType::I64];

/// One type of each size and class, under tight limits: where work is split depends on the size of elements alone.
const SPLIT: [ElementType; 8] = [
    ElementType::F32,
    ElementType::F16,
    ElementType::F64,
    ElementType::F8E4M3Fn,
    ElementType::U8,
    ElementType::I16,
    ElementType::U32,
    ElementType::I64,
];

pub(crate) fn register(suite: &mut Suite) {
    let tier = if suite.settings.quick { Tier::Quick } else { Tier::Full };
    for (slug, open) in suite.openers() {
        let open = std::sync::Arc::new(open);
        for (op, in_place) in Op::variants() {
            for &element in ElementType::ALL {
                let is_tiny = slug.ends_with("tiny-limits");
                if tier == Tier::Quick && (!QUICK.contains(&element) || is_tiny)
                    || is_tiny && !SPLIT.contains(&element)
                {
                    continue;
                }
                // A part reaches every kernel, and OpenGL has the rasteriser that Vulkan has.
                let tier = if slug.ends_with("-gl") { Tier::Quick } else { tier };
                let open = open.clone();
                suite.add(format!("{}::{element}::{slug}", op.variant_name(in_place)), move || {
                    conforms(&open(), op, in_place, element, tier);
                });
            }
        }
        for reduction in Reduction::ALL {
            for &element in ElementType::ALL {
                let is_tiny = slug.ends_with("tiny-limits");
                let is_norm = reduction != Reduction::Sum;
                // Norms of one type are enough for a quick run.
                let is_quick =
                    QUICK.contains(&element) && !is_tiny && (!is_norm || element == ElementType::F32);
                let skipped = tier == Tier::Quick && !is_quick || is_tiny && !SPLIT.contains(&element);
                if skipped || is_norm && !element.is_float() {
                    continue;
                }
                // Where work is split shows in short tensors, too.
                let tier = if is_tiny || slug.ends_with("-gl") { Tier::Quick } else { tier };
                let open = open.clone();
                suite.add(format!("{}::{element}::{slug}", reduction.name()), move || {
                    reduces(&open(), reduction, element, tier);
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
    // An affine map is for floats, on a GPU for those of up to 32 bits, and what converts for floats.
    let multiplies = element.is_float() && (element.size() <= 4 || device.info().limits.is_none());
    let least = match tier {
        _ if op.info().scalars && !multiplies || op.info().converts && !element.is_float() => 0,
        Tier::Full => 200_000,
        Tier::Quick => 30_000,
    };
    assert!(tally.cases >= least, "{} cases only", tally.cases);
    assert!(least > 0 || tally.cases == 0, "{op} of {element} is said to be unsupported");
}

/// Fails at a mismatch, or where a reduction met too few cases.
fn reduces(device: &Device, reduction: Reduction, element: ElementType, tier: Tier) {
    let tally =
        check_reduction(device, element, reduction, tier, seed()).unwrap_or_else(|error| panic!("{error}"));
    println!("{}: {} cases, {} mismatches", device.info(), tally.cases, tally.mismatches);
    if let Some(first) = tally.first {
        panic!("{first}");
    }
    let least = if reduction.is_for(element, device) { 3_000 } else { 0 };
    assert!(tally.cases >= least, "{} cases only", tally.cases);
}
