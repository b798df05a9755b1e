//! `wgclip bench`: what it reports, not how fast anything is.

use serde_json::Value;

use crate::files::Folder;

#[test]
fn every_operation_is_a_row_on_every_kind_of_device() {
    let folder = Folder::new();
    let said = folder
        .done("bench --device cpu,gpu --type f32,u8 --sizes 4Ki --quick --json rows.json --plot plot.svg");
    let rows: Vec<Value> = serde_json::from_slice(&folder.read("rows.json")).unwrap();
    for row in &rows {
        for number in ["median_ns", "min_ns", "gb_per_s"] {
            assert!(row[number].as_f64() > Some(0.0), "{row}");
        }
        assert!(row["min_ns"].as_f64() <= row["median_ns"].as_f64(), "{row}");
        assert!(row["bytes"].as_u64() >= row["elements"].as_u64(), "{row}");
        assert!(["cpu", "gpu", "software"].contains(&row["kind"].as_str().unwrap()), "{row}");
    }
    let variants = || wgclip::op::Op::variants().map(|(op, in_place)| (op, op.variant_name(in_place)));
    let ops: Vec<_> = variants().map(|(_, name)| name).collect();
    let gpu_baselines = ["copy_buffer", "copy_kernel"];
    for (of_cpu, baselines) in [(true, &["memcpy"][..]), (false, &gpu_baselines)] {
        for op in ops.iter().map(String::as_str).chain(baselines.iter().copied()) {
            for (r#type, elements) in [("f32", 4096), ("u8", 4096)] {
                let element = wgclip::ElementType::from_name(r#type).unwrap();
                if !variants().all(|(row, name)| name != op || row.is_for(element, false)) {
                    continue;
                }
                let found = rows.iter().any(|row| {
                    (row["kind"] == "cpu") == of_cpu
                        && row["engine"] == "wgclip"
                        && row["op"] == op
                        && row["type"] == r#type
                        && row["elements"] == elements
                });
                assert!(found, "{op} of {type} {elements}, cpu: {of_cpu}");
            }
        }
    }
    assert!(rows.iter().any(|row| row["engine"] == "raw_wgpu" && row["batch"] == 1));
    for op in ops {
        assert!(said.stdout.contains(&op), "{}", said.stdout);
    }
    let plot = String::from_utf8(folder.read("plot.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("clip_in_place") && plot.contains("4 Ki"));
}

#[test]
fn what_cannot_be_measured_is_refused_first() {
    let folder = Folder::new();
    for (args, code) in [
        ("bench --sizes 0", 2),
        ("bench --sizes 4Xi", 2),
        ("bench --op clamp", 2),
        ("bench --type f128", 2),
        ("bench --device no-such-device", 1),
        ("bench --device cpu --json no/such/folder.json", 1),
    ] {
        let outcome = folder.run(args);
        assert_eq!(outcome.code, code, "{args}: {outcome:?}");
        assert!(outcome.stderr.contains("error"), "{args}: {outcome:?}");
    }
    assert_eq!(folder.names(), Vec::<String>::new());
}
