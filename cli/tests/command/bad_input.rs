//! Wrong files and wrong usage: a message of one or two lines, the exit code, and nothing touched.

use crate::files::{Folder, Outcome, bytes, npy, npy_f32, sample, wait, within};

/// Runs what must fail, with `out.npy` there before.
fn refused(folder: &Folder, args: &str, code: i32, message: &str) {
    folder.write("out.npy", b"precious");
    let before = folder.names();
    let Outcome { code: actual, stdout, stderr } = folder.run(args);
    assert_eq!(actual, code, "wgclip {args}: {stderr}");
    assert!(stderr.contains(message), "wgclip {args}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() <= 2, "wgclip {args}: {stderr}");
    assert_eq!(stdout, "");
    assert_eq!(folder.read("out.npy"), b"precious", "wgclip {args}");
    assert_eq!(folder.names(), before, "wgclip {args} left a file");
}

#[test]
fn files_that_hold_no_tensor_are_refused() {
    let data = bytes(&[1.0, 2.0, 3.0]);
    let good = npy_f32(&[1.0, 2.0, 3.0]);
    let f4 = |shape: &str| npy("<f4", false, shape, &data);
    let deep = [b"\x93NUMPY\x01\x00\x00\x10".to_vec(), vec![b'['; 2048], vec![b']'; 2048]].concat();
    let endless = [b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), vec![b'{'; 100]].concat();
    let files: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "is empty"),
        ("text", b"# Not a tensor, but a text of some length\n".repeat(10), "not a .npy file"),
        ("magic alone", b"\x93NUMPY".to_vec(), "not a .npy file"),
        ("cut in the header", good[..40].to_vec(), "not a .npy file"),
        ("cut in the data", good[..good.len() - 1].to_vec(), "promises 12 bytes of data, but it holds 11"),
        ("data beyond", [&good[..], b"x"].concat(), "promises 12 bytes of data, but it holds 13"),
        ("lies of terabytes", f4("(1000000000000,)"), "promises 4000000000000 bytes"),
        ("overflows", f4("(4294967296, 4294967296, 4294967296)"), "impossible shape"),
        ("negative", f4("(-3,)"), "no 'shape' of lengths"),
        ("shape of text", f4("'three'"), "no 'shape' of lengths"),
        ("nested deep", deep, "too deep"),
        ("header of gigabytes", endless, "too long"),
        ("complex numbers", npy("<c8", false, "(3,)", &data), "<c8, not f32"),
        ("objects", npy("|O", false, "(3,)", &data), "|O, not f32"),
        ("a zip of nothing known", b"PK\x03\x04 and then nothing of a zip".to_vec(), "not a .npz file"),
    ];
    for (name, content, message) in files {
        let folder = Folder::new();
        folder.write("in.npy", content);
        println!("{name}");
        refused(&folder, "clip in.npy out.npy --min 0", 1, message);
        refused(&folder, "backward in.npy in.npy out.npy --min 0", 1, message);
    }
}

#[test]
fn paths_that_cannot_be_read_or_written_are_refused() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0]));
    std::fs::create_dir(folder.path("folder")).unwrap();
    refused(&folder, "clip missing.npy out.npy --min 0", 1, "cannot open missing.npy");
    refused(&folder, "clip folder out.npy --min 0", 1, "folder is a folder");
    refused(&folder, "clip x.npy folder --min 0", 1, "it is a folder");
    refused(&folder, "clip x.npy new/ --min 0", 1, "it names no file");
    refused(&folder, "clip x.npy nowhere/y.npy --min 0", 1, "there is no folder nowhere");
    refused(&folder, "clip x.npy x.npy/y.npy --min 0", 1, "cannot write x.npy/y.npy");

    let mut mode = std::fs::metadata(folder.path("x.npy")).unwrap().permissions();
    mode.set_readonly(true);
    folder.write("locked.npy", b"locked");
    std::fs::set_permissions(folder.path("locked.npy"), mode).unwrap();
    refused(&folder, "clip x.npy locked.npy --min 0", 1, "read-only");
    assert_eq!(folder.read("locked.npy"), b"locked");

    #[cfg(target_os = "linux")]
    refused(&folder, "clip x.npy /dev/full --min 0", 1, "No space left on device");
}

#[test]
fn wrong_usage_exits_with_two() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0]));
    folder.write("u8.npy", &npy("|u1", false, "(1,)", &[7]));
    for (args, message) in [
        ("clip x.npy out.npy", "--min"),
        ("clip x.npy out.npy --quiet --device cpu", "--min"),
        ("clip x.npy out.npy --min nan", "NaN"),
        ("clip x.npy out.npy --max NaN", "NaN"),
        ("clip x.npy out.npy --min one", "not a number"),
        ("clip x.npy out.npy --min", "--min"),
        ("clip x.npy out.npy --min 1e99", "outside the range of f32"),
        ("clip x.npy out.npy --max -1e99", "outside the range of f32"),
        ("clip u8.npy out.npy --min 300", "outside the range of u8"),
        ("clip u8.npy out.npy --max -1", "outside the range of u8"),
        ("clip u8.npy out.npy --max 0.5", "not a whole number, but the tensor holds u8"),
        ("backward x.npy x.npy out.npy --min 0 --max-grad out.npy", "--max"),
        ("clip x.npy --min 0", "<OUT>"),
        ("clip x.npy out.npy more --min 0", "more"),
        ("clip x.npy out.npy --min 0 --sideways", "'--sideways'"),
        (
            "clip x.npy out.npy --min 0 --devic cpu",
            "'--device'; for more information, try 'wgclip clip --help'",
        ),
        ("vale x.npy out.npy --min 0", "'value'; for more information, try 'wgclip --help'"),
        ("backward x.npy x.npy out.npy --min 0 --rule sideways", "sideways"),
        ("backward x.npy x.npy out.npy --min 0 --like caffe", "caffe"),
        ("clamp x.npy out.npy --min 0", "clip"),
    ] {
        refused(&folder, args, 2, message);
    }
}

#[test]
fn tensors_that_differ_in_shape_are_refused() {
    let folder = Folder::new();
    folder.write("x.npy", &npy("<f4", false, "(2, 3)", &bytes(&[0.0; 6])));
    folder.write("g.npy", &npy("<f4", false, "(3, 2)", &bytes(&[0.0; 6])));
    for rule in ["masked", "straight-through", "toward"] {
        let args = format!("backward x.npy g.npy out.npy --min 0 --rule {rule}");
        refused(&folder, &args, 1, "x.npy has shape [2, 3], but g.npy has [3, 2]");
    }
    let images = sample("digits-images.npy");
    refused(
        &folder,
        &format!("backward x.npy {images} out.npy --min 0"),
        1,
        "holds u8: both need the same type",
    );
}

#[test]
fn unknown_devices_are_refused_with_a_list() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0]));
    for device in ["abacus", "99", "-1"] {
        let args = format!("clip x.npy out.npy --min 0 --device={device}");
        refused(&folder, &args, 1, &format!("no device matches '{device}'; available: CPU, "));
    }
}

/// The input is a pipe that gives a header and then nothing, so the run is in the middle of its work.
/// The same command with the signals that end a process as they are by default: under nohup, and in the background of some
/// shells, they are ignored, and a process that was started so leaves them.
#[cfg(unix)]
fn with_default_signals(command: &std::process::Command) -> std::process::Command {
    let mut perl = std::process::Command::new("perl");
    perl.args(["-e", "$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM); exec { $ARGV[0] } @ARGV or die $!"]);
    perl.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => perl.env(name, value),
            None => perl.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        perl.current_dir(folder);
    }
    perl
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    let folder = Folder::new();
    folder.write("out.npy", b"precious");
    let before = folder.names();
    // In memory, and in the middle of a stream.
    let whole = ("clip /dev/stdin out.npy --min 0", npy("<f4", false, "(1000,)", &[]));
    let half = npy("<f4", false, "(100000,)", &[0; 200_000]);
    let stream = ("clip /dev/stdin out.npy --min 0 --memory 1KiB", half);
    let signals = [("-INT", 2), ("-TERM", 15), ("-HUP", 1)];
    for ((args, content), (signal, number)) in
        [whole, stream].iter().flat_map(|run| signals.map(|signal| (run, signal)))
    {
        let mut run = with_default_signals(&folder.command(args)).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = run.stdin.take().unwrap();
        input.write_all(content).unwrap();
        let begun = within(|| {
            assert!(run.try_wait().unwrap().is_none(), "ended early");
            (folder.names() != before).then_some(())
        });
        assert!(begun.is_some(), "no file was begun");
        Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap();
        let status = wait(&mut run);
        assert_eq!(folder.names(), before, "{signal} left a file: {status}");
        assert_eq!(status.signal(), Some(number), "ended as by the signal itself");
        assert_eq!(folder.read("out.npy"), b"precious");
        drop(input);
    }
}
