//! Files that people have, with the results that numpy, ml_dtypes and the safetensors package give: `fixtures/make.py`
//! made both.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use wgclip::{Element, ElementType, with_element};
use zip::ZipArchive;

use crate::files::{Folder, Outcome};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn texts<'a>(case: &'a Value, key: &str) -> Vec<&'a str> {
    let list = case[key].as_array().map_or(&[][..], |list| list);
    list.iter().map(|text| text.as_str().unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// A tensor: what the file says of it, and its elements.
type Tensors = BTreeMap<String, (String, Vec<u8>)>;

/// The tensors of a file, whatever its container.
fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let npy = |bytes: &[u8]| {
        let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
        (String::from_utf8_lossy(&bytes[..len]).into_owned(), bytes[len..].to_vec())
    };
    if bytes.starts_with(b"PK") {
        let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
        let members = archive.len();
        let member = |index| {
            let mut file = archive.by_index(index).unwrap();
            let (name, mut bytes) = (file.name().unwrap().into_owned(), Vec::new());
            file.read_to_end(&mut bytes).unwrap();
            let array = bytes.starts_with(b"\x93NUMPY");
            (name, if array { npy(&bytes) } else { (String::new(), bytes) })
        };
        return (0..members).map(member).collect();
    }
    if bytes.starts_with(b"\x93NUMPY") {
        return [(String::new(), npy(&bytes))].into();
    }
    let len = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..len]).unwrap();
    let tensor = |(name, info): (String, Value)| {
        if name == "__metadata__" {
            return (name, (info.to_string(), Vec::new()));
        }
        let at = |n: usize| len + info["data_offsets"][n].as_u64().unwrap() as usize;
        (name, (format!("{}, {}", info["dtype"], info["shape"]), bytes[at(0)..at(1)].to_vec()))
    };
    header.into_iter().map(tensor).collect()
}

/// Whether two tensors differ in more than the payloads of NaN.
fn differ_in_numbers(left: &[u8], right: &[u8], element: ElementType) -> bool {
    with_element!(element, T => {
        let of = |bytes: &[u8]| -> Vec<u64> {
            let values = bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>);
            let sign = T::TYPE.layout().sign();
            values.map(|v| {
                let bits = Element::to_bits(v);
                if Element::is_nan(v) { u64::MAX << 1 | u64::from(bits & sign != 0) } else { bits }
            }).collect()
        };
        left.len() != right.len() || of(left) != of(right)
    })
}

/// What is wrong with the file that a case made.
fn compare(case: &Value, made: &Path, expected: &Path) -> Result<(), String> {
    if expected.is_dir() {
        let names = |path: &Path| -> Vec<_> {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        if names(made) != names(expected) {
            return Err(format!("{:?} in place of {:?}", names(made), names(expected)));
        }
        return names(made).iter().try_for_each(|name| compare(case, &made.join(name), &expected.join(name)));
    }
    if case["compare"] == "bytes"
        || !["npy", "npz", "safetensors"].iter().any(|e| made.extension() == Some(e.as_ref()))
    {
        let same = fs::read(made).unwrap() == fs::read(expected).unwrap();
        return if same { Ok(()) } else { Err(format!("{} is not {}", made.display(), expected.display())) };
    }
    let (made, expected) = (tensors(made), tensors(expected));
    let args = texts(case, "args");
    let to = args.iter().position(|&arg| arg == "--to").and_then(|at| ElementType::from_name(args[at + 1]));
    if made.keys().ne(expected.keys()) {
        return Err(format!("{:?} in place of {:?}", made.keys(), expected.keys()));
    }
    for ((name, (header, data)), (wanted_header, wanted)) in made.iter().zip(expected.values()) {
        if header != wanted_header {
            return Err(format!("tensor '{name}': {header} in place of {wanted_header}"));
        }
        let differs = match to.filter(|_| case["compare"] == "tensors-nan") {
            Some(to) => differ_in_numbers(data, wanted, to),
            None => data != wanted,
        };
        if differs {
            return Err(format!("tensor '{name}': {data:x?} in place of {wanted:x?}"));
        }
    }
    Ok(())
}

/// What is wrong with a case on a device.
fn run(case: &Value, device: &str) -> Result<(), String> {
    let folder = Folder::new();
    for input in texts(case, "inputs") {
        copy(&fixtures().join(input), &folder.path(input));
    }
    let output = folder.command("").args(texts(case, "args")).args(["--device", device]).output().unwrap();
    let outcome = Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    if i64::from(outcome.code) != case["code"].as_i64().unwrap_or(0) {
        return Err(format!("{outcome:?}"));
    }
    if outcome.code != 0 && folder.names().len() != texts(case, "inputs").len() {
        return Err(format!("it left {:?}", folder.names()));
    }
    let missing =
        |said: &str, key| texts(case, key).into_iter().find(|text| !said.contains(text)).map(str::to_owned);
    if let Some(text) = missing(&outcome.stderr, "stderr_has").or(missing(&outcome.stdout, "stdout_has")) {
        return Err(format!("it does not say '{text}': {outcome:?}"));
    }
    let (Some(made), Some(expected)) = (case["output"].as_str(), case["expected"].as_str()) else {
        return Ok(());
    };
    compare(case, &folder.path(made), &fixtures().join(expected))
}

#[test]
fn files_that_people_have_come_out_as_numpy_says() {
    let cases = fs::read(fixtures().join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() > 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        // Files are read in the same way whatever the device: every third reaches a GPU.
        for device in ["cpu", "gpu"].into_iter().take(if n % 3 == 0 { 2 } else { 1 }) {
            if let Err(what) = run(case, device) {
                wrong.push(format!(
                    "{} {} on {device}: wgclip {}\n    {what}",
                    case["kind"],
                    case["name"],
                    texts(case, "args").join(" ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
