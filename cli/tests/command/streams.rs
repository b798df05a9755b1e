//! Files larger than the memory that the command may take.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::process::Stdio;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::files::{DEVICES, Folder, npy, wait};

/// As little as it takes: chunks of 64 KiB.
const LITTLE: &str = "--memory 1KiB";

fn random(bytes: usize) -> Vec<u8> {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| rng.u8(..)).collect()
}

/// Runs the command with all memory and with little, and returns both files and reports.
fn both(folder: &Folder, args: &str, name: &str) -> [(Vec<u8>, String); 2] {
    ["", LITTLE].map(|memory| {
        let stdout = folder.done(&format!("{args} {memory}")).stdout;
        (folder.read(name), stdout.split(';').next().unwrap().to_owned())
    })
}

#[test]
fn a_stream_writes_what_a_run_in_memory_writes() {
    let folder = Folder::new();
    for (descr, fortran, shape) in
        [("<f4", false, "(100, 1003)"), (">f8", true, "(100, 501)"), ("|i1", false, "(401201,)")]
    {
        let elements: usize =
            shape.split(|c: char| !c.is_ascii_digit()).flat_map(str::parse::<usize>).product();
        let size: usize = descr[2..].parse().unwrap();
        folder.write("x.npy", &npy(descr, fortran, shape, &random(elements * size)));
        for device in DEVICES {
            let args = format!("clip x.npy y.npy --min -1 --max 6 --device {device}");
            let [whole, stream] = both(&folder, &args, "y.npy");
            assert!(whole == stream, "{descr} {device}: {} {}", whole.1, stream.1);
            assert_ne!(whole.0, folder.read("x.npy"));
        }
    }
}

#[test]
fn archives_stream_member_by_member() {
    let folder = Folder::new();
    let [a, b] =
        [npy("<f4", false, "(50003,)", &random(200_012)), npy("<f2", false, "(7, 13)", &random(182))];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, method) in [
        ("a.npy", &a, CompressionMethod::Deflated),
        ("readme.txt", &b"as it was".to_vec(), CompressionMethod::Stored),
        ("b.npy", &b, CompressionMethod::Stored),
        ("kept.npy", &a, CompressionMethod::Deflated),
    ] {
        zip.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(content).unwrap();
    }
    folder.write("x.npz", &zip.finish().unwrap().into_inner());
    for device in DEVICES {
        let args = format!("clip x.npz y.npz --min -1 --max 6 --tensor a b --device {device}");
        let [whole, stream] = both(&folder, &args, "y.npz").map(|(file, report)| {
            let mut zip = ZipArchive::new(Cursor::new(file)).unwrap();
            let mut members = Vec::new();
            for index in 0..zip.len() {
                let mut member = zip.by_index(index).unwrap();
                let mut content = Vec::new();
                member.read_to_end(&mut content).unwrap();
                members.push((member.name().unwrap().into_owned(), member.compression(), content));
            }
            (members, report)
        });
        assert!(whole == stream, "{device}: {} {}", whole.1, stream.1);
        assert!(stream.0[0].2 != a && stream.0[1].2 == b"as it was" && stream.0[3].2 == a, "{device}");
    }
}

#[test]
fn safetensors_stream_tensor_by_tensor() {
    let folder = Folder::new();
    let (w, h) = (random(300_000), random(150_002));
    let file = safetensors::serialize(
        [
            ("w", TensorView::new(Dtype::F32, vec![75, 1000], &w).unwrap()),
            ("h", TensorView::new(Dtype::BF16, vec![75_001], &h).unwrap()),
            ("kept", TensorView::new(Dtype::F32, vec![75_000], &w).unwrap()),
        ],
        Some(HashMap::from([("format".to_owned(), "pt".to_owned())])),
    );
    folder.write("x.safetensors", &file.unwrap());
    for device in DEVICES {
        let args =
            format!("clip x.safetensors y.safetensors --min -1 --max 6 --tensor w h --device {device}");
        let [whole, stream] = both(&folder, &args, "y.safetensors");
        assert!(whole == stream, "{device}: {} {}", whole.1, stream.1);
        let stream = SafeTensors::deserialize(&stream.0).unwrap();
        assert!(stream.tensor("kept").unwrap().data() == w && stream.tensor("w").unwrap().data() != w);
    }
}

#[test]
fn a_pipe_streams_too() {
    let folder = Folder::new();
    let x = npy("<f4", false, "(100000,)", &random(400_000));
    folder.write("x.npy", &x);
    folder.done("clip x.npy y.npy --max 1");
    let mut run = folder.command(&format!("clip /dev/stdin z.npy --max 1 {LITTLE}"));
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    run.stdin.take().unwrap().write_all(&x).unwrap();
    assert!(wait(&mut run).success());
    assert!(folder.read("z.npy") == folder.read("y.npy"));
}

#[test]
fn what_goes_wrong_on_the_way_leaves_nothing() {
    let folder = Folder::new();
    let x = npy("<f4", false, "(2, 50000)", &random(400_000));
    folder.write("short.npy", &x[..300_000]);
    folder.write("lo.npy", &npy("<f4", true, "(2, 50000)", &[0; 400_000]));
    folder.write("x.npy", &x);
    folder.write("out.npy", b"precious");
    let before = folder.names();
    for (args, message) in [
        ("short.npy out.npy --min 0", "its header promises 400000 bytes of data, but it holds"),
        (
            "x.npy out.npy --min lo.npy",
            "lo.npy is not read in the order of its file, so its 400000 bytes are held in memory",
        ),
        ("x.npy out.npy --min nan", "NaN bounds nothing"),
        ("x.npy out.npy --min 0 --memory 0.5x", "--memory <SIZE>"),
    ] {
        let memory = if args.contains("--memory") { "" } else { LITTLE };
        let outcome = folder.run(&format!("clip {args} {memory}"));
        assert!(outcome.code > 0 && outcome.stderr.contains(message), "{outcome:?}");
        assert!(outcome.stderr.lines().count() <= 2, "{outcome:?}");
    }
    let mut run = folder.command(&format!("clip /dev/stdin out.npy --max 1 {LITTLE}"));
    let mut run = run.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    run.stdin.take().unwrap().write_all(&x[..300_000]).unwrap();
    wait(&mut run);
    let output = run.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("its data ends too early"), "{output:?}");
    assert_eq!((folder.names(), folder.read("out.npy")), (before, b"precious".to_vec()));
}

/// A tensor that is large enough to be clipped between values although a file gives them.
#[test]
fn a_bound_of_one_element_bounds_a_large_tensor() {
    let folder = Folder::new();
    let len = (1 << 18) + 3;
    folder.write("x.npy", &npy("<f4", false, &format!("({len},)"), &random(4 * len)));
    folder.write("lo.npy", &npy("<f4", false, "(1,)", &(-0.5f32).to_le_bytes()));
    folder.write("nan.npy", &npy("<f4", false, "()", &f32::NAN.to_le_bytes()));
    for device in DEVICES {
        folder.done(&format!("clip x.npy y.npy --min -0.5 --max 2 --device {device}"));
        folder.done(&format!("clip x.npy z.npy --min lo.npy --max 2 --device {device}"));
        assert!(folder.read("y.npy") == folder.read("z.npy"), "{device}");
        let done = folder.done(&format!("clip x.npy z.npy --min nan.npy --device {device}"));
        assert!(done.stderr.contains("hold NaN"), "{done:?}");
        let z = folder.read("z.npy");
        let data = &z[z.len() - 4 * len..];
        assert!(data.chunks_exact(4).all(|v| f32::from_le_bytes(v.try_into().unwrap()).is_nan()), "{device}");
    }
}
