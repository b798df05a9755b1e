//! The devices that the tests run on, and one test for each function and device.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use log::{Level, LevelFilter, Log, Metadata, Record};
use pollster::block_on;
use wgclip::Device;
use wgclip::device::{DeviceInfo, DeviceKind};
use wgclip::gpu::{Adapter, Context, adapters};

/// The variables that the tests heed, all of them: see docs/testing.md.
pub(crate) struct Settings {
    /// `WGCLIP_TEST_DEVICES`: parts of device names, `llvmpipe,cpu` for example. Others are left out.
    devices: Vec<String>,
    /// `WGCLIP_TEST_QUICK`: the part of the tests that takes little time.
    pub quick: bool,
    /// `WGCLIP_TEST_FULL`: all types meet the whole table on each driver, which takes three times as long.
    pub full: bool,
    /// Tests are asked for by name: none is left out by the seed.
    pub named: bool,
    /// `WGCLIP_TEST_STRESS`: seconds for which random programs run, and more rounds of what is random elsewhere.
    pub stress: Option<Duration>,
    /// `WGCLIP_TEST_TIMEOUT`: seconds after which a test has failed.
    timeout: Duration,
}

impl Settings {
    pub(crate) fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let names = var("WGCLIP_TEST_DEVICES").unwrap_or_default().to_lowercase();
        let seconds = |name| var(name).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Self {
            devices: names
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            quick: var("WGCLIP_TEST_QUICK").is_some(),
            full: var("WGCLIP_TEST_FULL").is_some(),
            named: false,
            stress: seconds("WGCLIP_TEST_STRESS"),
            timeout: seconds("WGCLIP_TEST_TIMEOUT").unwrap_or(Duration::from_secs(600))
                + seconds("WGCLIP_TEST_STRESS").unwrap_or_default(),
        }
    }

    /// How often something random is tried.
    pub(crate) fn rounds(&self, quick: usize, full: usize, stress: usize) -> usize {
        match (self.stress, self.quick) {
            (Some(_), _) => stress,
            (None, true) => quick,
            (None, false) => full,
        }
    }

    pub(crate) fn takes(&self, slug: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|name| slug.contains(name))
    }
}

/// Fresh each run. `WGCLIP_TEST_SEED` repeats one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("WGCLIP_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("WGCLIP_TEST_SEED={seed}");
    seed
}

/// The tests, each named `<what>::<device>`, so that `cargo test -- <part of a name>` chooses.
pub(crate) struct Suite {
    pub settings: Settings,
    adapters: Vec<(String, Adapter)>,
    trials: Vec<Trial>,
}

/// A test by its name.
type Named<A> = (&'static str, fn(A));

impl Suite {
    pub(crate) fn new(settings: Settings) -> Self {
        watch_validation();
        let found = block_on(adapters()).into_iter().map(|adapter| (slug(adapter.info()), adapter));
        let adapters: Vec<_> = found.filter(|(slug, _)| settings.takes(slug)).collect();
        Self { settings, adapters, trials: Vec::new() }
    }

    /// The tests; where there is no adapter, one that fails: a run without any would prove nothing about the kernels.
    pub(crate) fn into_trials(mut self) -> Vec<Trial> {
        if self.adapters.is_empty() && !self.settings.devices.iter().all(|name| name == "cpu") {
            self.trials.push(no_adapter());
        }
        if self.adapters.is_empty() && self.settings.devices.is_empty() {
            self.trials.push(no_adapter());
        }
        self.trials
    }

    /// A test of no device.
    pub(crate) fn once(&mut self, tests: &[(&'static str, fn())]) {
        for &(name, test) in tests {
            self.add(name.to_owned(), test);
        }
    }

    /// Tests that open an adapter as they need it.
    pub(crate) fn per_adapter(&mut self, tests: &[Named<Adapter>]) {
        for &(name, test) in tests {
            for (slug, adapter) in self.adapters.clone() {
                self.add(format!("{name}::{slug}"), move || test(adapter));
            }
        }
    }

    /// Tests on a device of each adapter.
    pub(crate) fn per_gpu(&mut self, tests: &[Named<Device>]) {
        for &(name, test) in tests {
            for (slug, adapter) in self.adapters.clone() {
                self.add(format!("{name}::{slug}"), move || test(open(&adapter, adapter.limits())));
            }
        }
    }

    /// Tests on the CPU path too.
    pub(crate) fn per_device(&mut self, tests: &[Named<Device>]) {
        for &(name, test) in tests.iter().filter(|_| self.settings.takes("cpu")) {
            self.trials
                .push(trial(format!("{name}::cpu"), self.settings.timeout, move || test(Device::cpu())));
        }
        self.per_gpu(tests);
    }

    /// The CPU path, and each adapter under its own limits and under tiny ones, by name.
    pub(crate) fn openers(&self) -> Vec<(String, Box<dyn Fn() -> Device + Send + Sync>)> {
        let mut all: Vec<(String, Box<dyn Fn() -> Device + Send + Sync>)> = Vec::new();
        if self.settings.takes("cpu") {
            all.push(("cpu".into(), Box::new(Device::cpu)));
        }
        for (slug, adapter) in &self.adapters {
            let (own, tiny) = (adapter.clone(), adapter.clone());
            all.push((slug.clone(), Box::new(move || open(&own, own.limits()))));
            all.push((format!("{slug}-tiny-limits"), Box::new(move || open(&tiny, with_tiny_limits(&tiny)))));
        }
        all
    }

    /// The adapters, each with its part of a test's name.
    pub(crate) fn adapters(&self) -> Vec<(String, Adapter)> {
        self.adapters.clone()
    }

    /// The first adapter.
    pub(crate) fn first_adapter(&self) -> Option<Adapter> {
        self.adapters.first().map(|(_, adapter)| adapter.clone())
    }

    pub(crate) fn add(&mut self, name: String, test: impl FnOnce() + Send + 'static) {
        self.trials.push(trial(name, self.settings.timeout, test));
    }
}

fn no_adapter() -> Trial {
    Trial::test("a_gpu_adapter_is_there", || {
        Err(Failed::from(
            "no GPU adapter: on Debian `apt-get install mesa-vulkan-drivers` brings a software one",
        ))
    })
}

/// A test in a thread of its own: it fails where it panics, and where it takes too long.
fn trial(name: String, timeout: Duration, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name.clone(), move || {
        let _time = Time { name, start: Instant::now() };
        let (done, result) = mpsc::channel();
        let run = move || {
            test();
            let _ = done.send(());
        };
        let thread = std::thread::Builder::new().name("test".into()).spawn(run)?;
        match result.recv_timeout(timeout) {
            Ok(()) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("not done within {timeout:?}").into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let panic = thread.join().err();
                let text = panic.as_ref().and_then(|panic| {
                    let owned = panic.downcast_ref::<String>().map(String::as_str);
                    owned.or_else(|| panic.downcast_ref::<&str>().copied())
                });
                Err(text.unwrap_or("panicked").into())
            }
        }
    })
}

/// Appends how long a test took to the file that `WGCLIP_TEST_TIMES` names.
struct Time {
    name: String,
    start: Instant,
}

impl Drop for Time {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("WGCLIP_TEST_TIMES") else { return };
        let line = format!("{:.3} {}\n", self.start.elapsed().as_secs_f64(), self.name);
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("WGCLIP_TEST_TIMES: {error}");
        }
    }
}

/// `llvmpipe-vulkan`, `cpu`: a device in the name of a test.
fn slug(info: &DeviceInfo) -> String {
    if info.kind == DeviceKind::Cpu {
        return "cpu".into();
    }
    let name = info.name.to_lowercase();
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let known = ["llvmpipe", "swiftshader"].into_iter().find(|known| name.contains(known));
    let short = known.map_or_else(|| words.take(4).collect::<Vec<_>>().join("-"), str::to_owned);
    format!("{short}-{}", info.backend)
}

/// Four workgroups a row and four rows, of 1024 words each, and bindings that hold little more than these: as few as
/// the mask of a 64-bit type allows. Small tensors are then split and folded.
pub(crate) fn with_tiny_limits(adapter: &Adapter) -> wgpu::Limits {
    wgpu::Limits {
        max_compute_workgroups_per_dimension: 4,
        max_storage_buffer_binding_size: 68 * 1024,
        ..adapter.limits()
    }
}

pub(crate) fn open(adapter: &Adapter, limits: wgpu::Limits) -> Device {
    let context = block_on(Context::request(adapter, limits));
    context.unwrap_or_else(|error| panic!("{}: {error}", adapter.info())).into()
}

/// A device of the caller's, as any WebGPU program gets it: default limits, no features.
pub(crate) struct UserDevice {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    errors: Arc<AtomicUsize>,
}

impl UserDevice {
    /// With a handler of its own that counts errors, or without any: wgpu then panics. `None` if the adapter has less than
    /// WebGPU's default limits.
    pub(crate) fn open(adapter: &Adapter, handler: bool) -> Option<Self> {
        let desc = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::default(), ..Default::default() };
        let (device, queue) = block_on(adapter.as_wgpu().request_device(&desc)).ok()?;
        let errors = Arc::new(AtomicUsize::new(0));
        if handler {
            let seen = errors.clone();
            device.on_uncaptured_error(Arc::new(move |error| {
                println!("uncaptured: {error}");
                seen.fetch_add(1, Ordering::Relaxed);
            }));
        }
        Some(Self { device, queue, errors })
    }

    /// The same as a device of this crate.
    pub(crate) fn wgclip(&self) -> Device {
        Device::from_wgpu(self.device.clone(), self.queue.clone()).unwrap()
    }

    /// How often the handler was called.
    pub(crate) fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Ends the run at the first word of the Vulkan validation layer, which wgpu turns on in builds for development where it
/// is installed. With `WGCLIP_TEST_VALIDATION` set it must be.
fn watch_validation() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Watch).unwrap();
        if std::env::var_os("WGCLIP_TEST_VALIDATION").is_some() {
            // That the layer is not there is said at this level, at which it also says much more.
            log::set_max_level(LevelFilter::Debug);
            drop(wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env()));
        }
        log::set_max_level(LevelFilter::Warn);
    });
}

struct Watch;

impl Log for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("wgpu_hal::vulkan")
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        // Layers of 2023 do not know that SPIR-V may come of WGSL, which it says if WGPU_DEBUG is not 0.
        let old = text.contains("Invalid source language operand");
        // wgpu 30 never frees its staging buffer of a write that fails, as on a device that is being destroyed.
        let of_wgpu = text.contains("(wgpu internal) Staging] has not been destroyed");
        let broken = record.level() <= Level::Warn && text.starts_with("VALIDATION") && !old && !of_wgpu;
        if self.enabled(record.metadata()) && (broken || text.contains("unable to find layer")) {
            // Past the test harness, which would keep it.
            let _ = writeln!(std::io::stderr(), "Vulkan validation: {text}");
            std::process::abort();
        }
    }

    fn flush(&self) {}
}
