//! What the command writes, against the reference.

use wgclip::{BackwardRule, OutsideRule, reference};

use crate::files::{DEVICES, Folder, bits, bytes, elements, finish, npy, npy_f32, sample, wait};

fn random(len: usize) -> Vec<f32> {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| f32::from_bits(rng.u32(..))).collect()
}

#[test]
fn value_writes_what_the_contract_says_on_every_device() {
    let folder = Folder::new();
    let x = random(100_003);
    folder.write("x.npy", &npy_f32(&x));
    let cases = [
        ("--min 0 --max 1", Some(0.0), Some(1.0)),
        ("--min -1", Some(-1.0), None),
        ("--min=-1 --max=-0.5", Some(-1.0), Some(-0.5)),
        ("--max -0", None, Some(-0.0)),
        ("--min -inf --max 1e-40", Some(f32::NEG_INFINITY), Some(1e-40)),
        ("--min -1e99 --max inf", Some(f32::NEG_INFINITY), Some(f32::INFINITY)),
        ("--min 2 --max 1", Some(2.0), Some(1.0)),
    ];
    for (args, lo, hi) in cases {
        let expected: Vec<f32> = x.iter().map(|&x| reference::clip(x, lo, hi)).collect();
        for device in DEVICES {
            folder.done(&format!("clip x.npy y.npy {args} --device {device}"));
            let y = elements(&folder.read("y.npy"));
            assert_eq!(bits(&y), bits(&expected), "{args} on {device}");
        }
    }
}

#[test]
fn grad_writes_what_the_contract_says_for_every_rule_on_every_device() {
    let folder = Folder::new();
    let (x, g) = (sample("digits-preactivations.npy"), sample("digits-upstream.npy"));
    let (xs, gs) = (elements(&std::fs::read(&x).unwrap()), elements(&std::fs::read(&g).unwrap()));
    for rule in BackwardRule::all() {
        let BackwardRule { outside, ties, nan } = rule;
        let expected: Vec<f32> = xs
            .iter()
            .zip(&gs)
            .map(|(&x, &g)| reference::clip_backward(x, g, Some(0.0), Some(1.0), rule))
            .collect();
        for device in DEVICES {
            let rule = format!("--rule {outside} --ties {ties} --nan {nan}");
            folder.done(&format!("backward {x} {g} gx.npy --min 0 --max 1 {rule} --device {device}"));
            let gx = elements(&folder.read("gx.npy"));
            assert_eq!(bits(&gx), bits(&expected), "{rule} on {device}");
        }
    }
}

#[test]
fn presets_set_ties_and_nan_and_options_override_them() {
    let folder = Folder::new();
    let x = [f32::NAN, 0.0, 1.0, 0.5, -2.0, 3.0];
    folder.write("x.npy", &npy_f32(&x));
    folder.write("g.npy", &npy_f32(&[3.0, 3.0, -3.0, f32::INFINITY, -3.0, f32::INFINITY]));
    let grad = |options: &str| {
        folder.done(&format!("backward x.npy g.npy gx.npy --min 0 --max 1 --device cpu {options}"));
        elements(&folder.read("gx.npy"))
    };
    let inf = f32::INFINITY;
    assert_eq!(grad("--like torch"), [0.0, 0.0, 0.0, inf, 0.0, 0.0]);
    assert_eq!(grad("--like torch-2.13"), [0.0, 3.0, -3.0, inf, 0.0, 0.0]);
    assert_eq!(grad("--like tensorflow"), [0.0, 3.0, -3.0, inf, 0.0, 0.0]);
    assert_eq!(grad("--like tfjs"), [0.0, 3.0, -3.0, inf, 0.0, 0.0]);
    assert_eq!(grad("--like hardtanh"), [3.0, 0.0, 0.0, inf, 0.0, 0.0]);
    assert_eq!(grad("--like burn"), [3.0, 3.0, -3.0, inf, 0.0, 0.0]);
    assert_eq!(grad("--like jax"), [0.0, 1.5, -1.5, inf, 0.0, 0.0]);
    assert_eq!(grad("--like lax"), [0.0, 0.0, 0.0, inf, 0.0, 0.0]);
    assert_eq!(grad(""), grad("--like burn"), "the default");
    assert_eq!(grad("--like jax --ties inclusive --nan pass"), grad(""));
    assert_eq!(grad("--like lax --rule toward"), [0.0, 0.0, 0.0, inf, -3.0, inf]);
    assert_eq!(grad("--like lax --rule straight-through"), elements(&folder.read("g.npy")));
    assert_eq!(OutsideRule::ALL.len(), 3, "a new rule wants its line here");
}

#[test]
fn shapes_are_kept_empty_and_scalar_ones_too() {
    let folder = Folder::new();
    for (shape, values) in [("(2, 3)", &[7.0f32; 6][..]), ("()", &[7.0]), ("(3, 0, 2)", &[]), ("(0,)", &[])] {
        folder.write("x.npy", &npy("<f4", false, shape, &bytes(values)));
        let clipped = npy("<f4", false, shape, &bytes(&vec![1.0; values.len()]));
        for device in DEVICES {
            folder.done(&format!("clip x.npy y.npy --max 1 --device {device}"));
            assert_eq!(folder.read("y.npy"), clipped, "{shape} on {device}");
        }
    }
}

#[test]
fn output_may_be_the_input_or_a_link_to_it() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[-1.0, 0.5, 2.0]));
    folder.write("g.npy", &npy_f32(&[1.0, 2.0, 3.0]));
    folder.done("backward x.npy g.npy g.npy --min 0 --max 1");
    assert_eq!(elements(&folder.read("g.npy")), [0.0, 2.0, 0.0]);
    folder.done("clip x.npy x.npy --min 0");
    assert_eq!(elements(&folder.read("x.npy")), [0.0, 0.5, 2.0]);

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("x.npy", folder.path("link.npy")).unwrap();
        folder.done("clip link.npy link.npy --max 1");
        assert_eq!(elements(&folder.read("x.npy")), [0.0, 0.5, 1.0]);
        assert!(folder.path("link.npy").is_symlink());
        std::os::unix::fs::symlink("new.npy", folder.path("dangling.npy")).unwrap();
        folder.done("clip x.npy dangling.npy --max 0");
        assert_eq!(elements(&folder.read("new.npy")), [0.0, 0.0, 0.0]);
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_is_readable_as_any_other_and_an_old_one_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
    folder.write("x.npy", &npy_f32(&[2.0]));
    folder.done("clip x.npy y.npy --max 1");
    assert_eq!(mode("y.npy"), mode("x.npy"));
    std::fs::set_permissions(folder.path("y.npy"), std::fs::Permissions::from_mode(0o640)).unwrap();
    folder.done("clip x.npy y.npy --max 0");
    assert_eq!(mode("y.npy"), 0o640);
    assert_eq!(elements(&folder.read("y.npy")), [0.0]);
}

/// Into a pipe, and appended to a file that the shell opened.
#[cfg(target_os = "linux")]
#[test]
fn a_tensor_written_to_stdout_is_the_tensor_alone() {
    let folder = Folder::new();
    let x = npy_f32(&[2.0]);
    folder.write("x.npy", &x);
    let args = "clip x.npy /dev/stdout --min 0";
    let piped = finish(&mut folder.command(args));
    assert_eq!(piped.stdout, x);
    assert!(String::from_utf8(piped.stderr).unwrap().starts_with("1 elements: "));

    folder.write("log", b"before");
    let log = std::fs::File::options().append(true).open(folder.path("log")).unwrap();
    assert!(wait(&mut folder.command(args).stdout(log).spawn().unwrap()).success());
    assert_eq!(folder.read("log"), [b"before", &x[..]].concat());
}

/// `/dev/full` refuses every byte.
#[cfg(target_os = "linux")]
#[test]
fn a_report_or_an_error_that_cannot_be_written_changes_nothing() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[2.0]));
    let run = |args: &str| {
        let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
        folder.command(args).stdout(full()).stderr(full()).status().unwrap().code()
    };
    assert_eq!(run("clip x.npy y.npy --min 1 --max 0"), Some(0));
    assert_eq!(elements(&folder.read("y.npy")), [0.0]);
    assert_eq!(run("clip missing.npy y.npy --min 0"), Some(1));
    assert_eq!(run("clip x.npy y.npy"), Some(2));
}

#[test]
fn one_line_says_what_happened_and_quiet_drops_it() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, f32::NAN]));
    let said = folder.done("clip x.npy y.npy --min 0 --max 1 --device cpu");
    let line = said.stdout.strip_suffix('\n').unwrap();
    assert!(line.starts_with("7 elements: 1 below, 2 above, 1 NaN; CPU, "), "{line}");
    assert!(line.ends_with(" GB/s") && line.contains(" s, ") && !line.contains('\n'), "{line}");
    assert_eq!(said.stderr, "");

    let gpu = folder.done("clip x.npy y.npy --min 0 --max 1 --device gpu");
    assert!(gpu.stdout.starts_with("7 elements: 1 below, 2 above, 1 NaN; "), "{gpu:?}");
    assert_eq!(gpu.stderr, "");

    let quiet = folder.done("clip x.npy y.npy --min 0 --max 1 --quiet");
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));

    let inverted = folder.done("clip x.npy y.npy --min 1 --max 0 --quiet");
    assert_eq!(inverted.stderr, "warning: --min is above --max, so every number becomes --max\n");
}
