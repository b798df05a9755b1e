//! A folder of a test's own, `.npy` files, and the command run in it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// Both kinds of device. `gpu` takes a software adapter too; without any, tests of it fail.
pub(crate) const DEVICES: [&str; 2] = ["cpu", "gpu"];

/// What the command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A folder that is gone after the test.
pub(crate) struct Folder {
    dir: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The names of all files, sorted: what a failed run leaves behind shows here.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs `wgclip` in the folder, with the arguments between the spaces of `args`.
    pub(crate) fn run(&self, args: &str) -> Outcome {
        self.run_with(args, &[])
    }

    /// The command, to be run in the folder.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wgclip"));
        command.current_dir(self.dir.path()).args(args.split_whitespace());
        command.env_remove("WGCLIP_DEVICE").env_remove("RUST_LOG");
        command
    }

    pub(crate) fn run_with(&self, args: &str, env: &[(&str, &str)]) -> Outcome {
        let output = finish(self.command(args).envs(env.iter().copied()));
        Outcome {
            code: output.status.code().expect("ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs what must succeed.
    pub(crate) fn done(&self, args: &str) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.code, 0, "wgclip {args}: {outcome:?}");
        outcome
    }
}

/// How long a run of the command may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a command to its end, which must come within the limit.
pub(crate) fn finish(command: &mut Command) -> Output {
    let mut run = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (run.stdout.take().unwrap(), run.stderr.take().unwrap());
    // Both pipes are read at once, so that neither fills up.
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        })
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let status = wait(&mut run);
    Output { status, stdout: out.join().unwrap().unwrap(), stderr: err.join().unwrap().unwrap() }
}

/// Waits for a process, which must end within the limit.
pub(crate) fn wait(run: &mut Child) -> ExitStatus {
    within(|| run.try_wait().unwrap()).unwrap_or_else(|| {
        let _ = run.kill();
        panic!("the command did not end within {LIMIT:?}")
    })
}

/// Asks again and again until there is an answer, or the limit is past.
pub(crate) fn within<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        thread::yield_now();
    }
    None
}

/// The bytes of a `.npy` file, version 1.0.
pub(crate) fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    // Padded so that the data begins at a multiple of 64, as numpy does.
    let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((len as u16).to_le_bytes());
    bytes.extend(format!("{text:width$}\n", width = len - 1).bytes());
    bytes.extend(data);
    bytes
}

/// The same for a vector of f32.
pub(crate) fn npy_f32(values: &[f32]) -> Vec<u8> {
    npy("<f4", false, &format!("({},)", values.len()), &bytes(values))
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The elements of a file as this command writes it, after a header of one block of 64 bytes or more.
pub(crate) fn elements(npy: &[u8]) -> Vec<f32> {
    let header = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    npy[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// A file of the samples.
pub(crate) fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name).display().to_string()
}

/// Writes a `.safetensors` file of tensors with one axis: names, types and bytes.
pub(crate) fn write_tensors(folder: &Folder, name: &str, tensors: &[(&str, Dtype, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, data)| {
        let len = data.len() * 8 / dtype.bitsize();
        (*name, TensorView::new(*dtype, vec![len], data).unwrap())
    });
    folder.write(name, &safetensors::serialize(views, None).unwrap());
}

/// The bytes of a tensor in a `.safetensors` file.
pub(crate) fn tensor(folder: &Folder, file: &str, name: &str) -> Vec<u8> {
    SafeTensors::deserialize(&folder.read(file)).unwrap().tensor(name).unwrap().data().to_vec()
}
