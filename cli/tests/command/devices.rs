//! `wgclip devices`, and how a device is chosen.

use serde_json::Value;

use crate::files::{Folder, npy_f32};

fn list(folder: &Folder, env: &[(&str, &str)]) -> Vec<Value> {
    let outcome = folder.run_with("devices --json", env);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn every_device_is_listed_and_auto_never_takes_software() {
    let folder = Folder::new();
    let devices = list(&folder, &[]);
    assert_eq!(devices[0]["kind"], "cpu");
    assert!(devices.len() > 1, "no GPU adapter: on Debian `apt-get install mesa-vulkan-drivers` brings one");
    for (index, device) in devices.iter().enumerate() {
        assert_eq!(device["index"], index);
        for text in ["name", "backend", "driver"] {
            assert!(device[text].is_string(), "{device}");
        }
        let gpu = device["kind"] != "cpu";
        assert_eq!(gpu, device["limits"]["max_buffer_bytes"].as_u64() > Some(0), "{device}");
    }
    let auto: Vec<_> = devices.iter().filter(|device| device["auto"] == true).collect();
    assert_eq!(auto.len(), 1);
    assert_ne!(auto[0]["kind"], "software");

    let text = folder.done("devices").stdout;
    for device in &devices {
        assert!(text.contains(device["name"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn a_device_is_chosen_by_kind_index_or_part_of_a_name() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[2.0]));
    let devices = list(&folder, &[]);
    let gpu = devices[1]["name"].as_str().unwrap();
    let part = gpu.split_whitespace().next().unwrap().to_uppercase();
    let first_word = |name: &str| name.split_whitespace().next().unwrap().to_owned();
    for device in ["gpu", "1", &part] {
        let said = folder.done(&format!("clip x.npy y.npy --max 1 --device {device}")).stdout;
        assert!(said.contains(&first_word(gpu)), "--device {device}: {said}");
    }
    for device in ["cpu", "CPU", "0"] {
        let said = folder.done(&format!("clip x.npy y.npy --max 1 --device {device}")).stdout;
        assert!(said.contains("CPU, "), "--device {device}: {said}");
    }
}

#[test]
fn the_environment_overrides_auto_and_nothing_else() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[2.0]));
    assert_eq!(list(&folder, &[("WGCLIP_DEVICE", "1")])[1]["auto"], true);
    assert_eq!(list(&folder, &[("WGCLIP_DEVICE", "")]), list(&folder, &[]));

    let said = |args: &str, device: &str| {
        let outcome =
            folder.run_with(&format!("clip x.npy y.npy --max 1 {args}"), &[("WGCLIP_DEVICE", device)]);
        (outcome.code, outcome.stdout + &outcome.stderr)
    };
    let (code, line) = said("", "gpu");
    assert!(code == 0 && !line.contains("; CPU, "), "{line}");
    let (code, line) = said("--device cpu", "gpu");
    assert!(code == 0 && line.contains("; CPU, "), "{line}");
    let (code, line) = said("", "abacus");
    assert!(code == 1 && line.contains("no device matches 'WGCLIP_DEVICE=abacus'"), "{line}");
}
