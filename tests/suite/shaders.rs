//! Every kernel as text: that naga takes each composition, and that its bindings and parameters are those of the host.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use wgclip::testing::{Source, sources};
use wgclip::{BackwardRule, ElementType, wgsl};

use crate::conformance::QUICK;
use crate::devices::Suite;

pub(crate) fn register(suite: &mut Suite) {
    // Tint reads those of every type in the gate: see scripts/shaders.sh.
    let full = suite.settings.full;
    for &element in ElementType::ALL.iter().filter(|element| full || QUICK.contains(element)) {
        suite.add(format!("shaders::every_kernel_is_valid::{element}"), move || {
            every_kernel_is_valid(element)
        });
    }
}

fn parse(name: &str, source: &str) -> naga::Module {
    naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{name}: {}\n{source}", error.emit_to_string(source)))
}

fn every_kernel_is_valid(element: ElementType) {
    let kernels = sources(element);
    assert!(kernels.len() > 100 || kernels.iter().any(|kernel| kernel.name.contains("affine")));
    for Source { name, entry, wgsl, bindings } in &kernels {
        let module = parse(name, wgsl);
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
        let info = info.unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(wgsl)));
        let place = module.entry_points.iter().position(|point| point.name == *entry).unwrap();
        assert_eq!(module.entry_points[place].workgroup_size, [256, 1, 1], "{name}");
        let used = module
            .global_variables
            .iter()
            .filter(|(handle, _)| !info.get_entry_point(place)[*handle].is_empty());
        let mut declared = Vec::new();
        for (_, global) in used {
            if global.space == naga::AddressSpace::WorkGroup {
                continue;
            }
            let binding = global.binding.as_ref().unwrap();
            assert_eq!(binding.group, 0);
            match global.space {
                naga::AddressSpace::Storage { access } => {
                    declared.push((binding.binding, !access.contains(naga::StorageAccess::STORE)));
                }
                naga::AddressSpace::Uniform => assert_eq!(binding.binding, 0, "{name}"),
                space => panic!("{name}: a variable in {space:?}"),
            }
        }
        declared.sort_unstable();
        // A bound that is no tensor is bound, but not read.
        let unused = |binding: &&(u32, bool)| !declared.contains(binding);
        let unused: Vec<_> = bindings.iter().filter(unused).collect();
        assert!(
            declared.iter().all(|binding| bindings.contains(binding)),
            "{name}: {declared:?} {bindings:?}"
        );
        assert!(unused.iter().all(|(index, _)| *index <= 2 && name.contains("Value")), "{name}: {unused:?}");
    }
    for rule in BackwardRule::all().filter(|rule| !rule.is_identity()) {
        let text = wgsl::functions(element, rule).unwrap();
        let module = parse("functions", &text);
        Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).unwrap();
    }
}
