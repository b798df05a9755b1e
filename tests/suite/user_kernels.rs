//! Kernels of the caller's that clip with the functions of `wgclip::wgsl`: run, and compared with the reference.

use wgclip::gpu::Kernels;
use wgclip::reference::Scaling;
use wgclip::{
    BackwardRule, Device, Element, ElementType, Error, NanRule, NormKind, NormLimit, OutsideRule, Tensor,
    TieRule, bf16, f16, reference, wgsl,
};
use wgclip_conformance::specials;

use crate::devices::{Suite, UserDevice, seed};

/// Blocks that the kernel works on.
const BLOCKS: usize = 1024;

fn kernel<T: Element>(rule: BackwardRule) -> String {
    let (functions, t) = (wgsl::functions(T::TYPE, rule).unwrap(), T::TYPE);
    format!(
        "{functions}
        @group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
        @group(0) @binding(1) var<storage, read> g: array<vec4<u32>>;
        @group(0) @binding(2) var<storage, read> lo: array<vec4<u32>>;
        @group(0) @binding(3) var<storage, read> hi: array<vec4<u32>>;
        @group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;
        @group(0) @binding(5) var<storage, read_write> gx: array<vec4<u32>>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
            let i = id.x;
            y[i] = wgclip_{t}_clip_block(x[i], lo[i], hi[i]);
            // By the functions of elements, through which every bit has to come.
            var upstream = vec4<u32>();
            for (var n = 0u; n < {}u; n++) {{
                wgclip_{t}_store_element(&upstream, n, wgclip_{t}_element_of(g[i], n));
            }}
            gx[i] = wgclip_{t}_clip_backward_block(x[i], upstream, lo[i], hi[i]);
        }}",
        16 / size_of::<T>()
    )
}

fn is_exact<T: Element>(user: &UserDevice, wgclip: &Device, rule: BackwardRule) {
    let mut rng = fastrand::Rng::with_seed(seed());
    let (specials, len) = (specials::<T>(), BLOCKS * 16 / size_of::<T>());
    let mut values = || -> Vec<T> {
        let special = |rng: &mut fastrand::Rng| specials[rng.usize(..specials.len())];
        let random = |rng: &mut fastrand::Rng| T::from_bits(rng.u64(..));
        (0..len).map(|_| if rng.u8(..) < 200 { special(&mut rng) } else { random(&mut rng) }).collect()
    };
    let [x, g, lo, hi] = [(); 4].map(|()| values());
    let poisoned = vec![T::from_bits(0xdead_beef_dead_beef); len];
    let tensors = [&x, &g, &lo, &hi, &poisoned, &poisoned].map(|data| wgclip.tensor(data, [len]).unwrap());
    let [.., y, gx] = &tensors;

    let device = &user.device;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(kernel::<T>(rule).into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let buffers = tensors.each_ref().map(|tensor: &Tensor<T>| tensor.buffer().unwrap().unwrap());
    let entries: Vec<_> = (0..)
        .zip(&buffers)
        .map(|(binding, slice)| wgpu::BindGroupEntry {
            binding,
            resource: slice.buffer().as_entire_binding(),
        })
        .collect();
    let layout = &pipeline.get_bind_group_layout(0);
    let group =
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(BLOCKS as u32 / 64, 1, 1);
    drop(pass);
    user.queue.submit([encoder.finish()]);

    let (y, gx) = (y.to_vec().unwrap(), gx.to_vec().unwrap());
    for i in 0..len {
        let (lo, hi) = (Some(lo[i]), Some(hi[i]));
        let operands = [x[i].to_bits(), g[i].to_bits()];
        let clipped = reference::clip(x[i], lo, hi);
        assert_eq!(
            y[i].to_bits(),
            clipped.to_bits(),
            "clip of {}, {operands:x?} between {lo:?} and {hi:?}",
            T::TYPE
        );
        let grad = reference::clip_backward(x[i], g[i], lo, hi, rule);
        assert_eq!(gx[i].to_bits(), grad.to_bits(), "{rule} of {}, {operands:x?}, {lo:?}, {hi:?}", T::TYPE);
    }
}

fn functions_of_every_type_are_exact(user: &UserDevice) {
    let wgclip = user.wgclip();
    let toward = BackwardRule { outside: OutsideRule::Toward, ties: TieRule::Half, nan: NanRule::Zero };
    for rule in [BackwardRule::default(), toward] {
        macro_rules! each {
            ($($t:ty),+) => { $(is_exact::<$t>(user, &wgclip, rule);)+ };
        }
        each!(f32, f16, bf16, f64, i8, u8, i16, u16, i32, u32, i64, u64);
    }
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

fn slice(tensor: &Tensor<u32>) -> wgpu::BufferSlice<'_> {
    tensor.buffer().unwrap().unwrap()
}

/// Norm, coefficient and scaling in one pass of the caller's, twice, over a tensor and an odd part of another.
fn norms_in_a_pass_of_the_callers(user: &UserDevice) {
    let (wgclip, kernels) = (user.wgclip(), Kernels::new(&user.device).unwrap());
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut values = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() * 1e30 - 5e29).collect() };
    let (a, b) = (values(5_000), values(1_003).into_iter().map(bf16::from_f32).collect::<Vec<_>>());
    let (x, y) = (wgclip.tensor(&a, [5_000]).unwrap(), wgclip.tensor(&b, [1_003]).unwrap());
    let words = |len: usize| wgclip.tensor(&vec![0xffff_ffffu32; len], [len]).unwrap();
    let (norm, scaling) = (words(4), words(4));
    let limit = NormLimit::new(1e30).eps(1e20);
    let (xs, ys) = (x.buffer().unwrap().unwrap(), y.buffer().unwrap().unwrap());
    for kind in NormKind::ALL {
        let scratch = words(Kernels::norm_scratch_bytes(kind) as usize / 4);
        let list = [(ElementType::F32, 5_000, xs), (ElementType::Bf16, 1_003, ys)];
        let (n, s) = (slice(&norm), slice(&scaling));
        let take = kernels.prepare_norm(&list, kind, slice(&scratch), n).unwrap();
        let decide = kernels.prepare_scaling(n, limit, s).unwrap();
        let apply = kernels.prepare_scale(ElementType::F32, xs, s).unwrap();
        let before = x.to_vec().unwrap();
        let all: Vec<f32> = before.iter().copied().chain(b.iter().map(|b| b.to_f32())).collect();
        let mut encoder = user.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for prepared in [&take, &take, &decide, &apply] {
            prepared.record(&mut pass);
        }
        drop(pass);
        user.queue.submit([encoder.finish()]);

        let expected = reference::norm(&all, kind);
        assert_eq!(norm.to_vec().unwrap()[0], expected.to_bits(), "{kind}");
        let by = reference::scaling(expected, &limit);
        let words = scaling.to_vec().unwrap();
        let coefficient = if let Scaling::By(by) = by { by } else { 1.0 };
        let action = u32::from(by != Scaling::Keep);
        assert_eq!(words, [expected.to_bits(), coefficient.to_bits(), action, 0], "{kind}");
        let scaled: Vec<_> = before.iter().map(|&x| reference::scale(x, by)).collect();
        assert_eq!(x.to_vec().unwrap(), scaled, "{kind}");
    }
    let (n, s) = (slice(&norm), slice(&scaling));
    assert!(matches!(kernels.prepare_scaling(n, -1.0, s), Err(Error::InvalidLimit { .. })));
    assert!(matches!(kernels.prepare_scale(ElementType::F64, xs, s), Err(Error::Unsupported { .. })));
    let long = [(ElementType::F32, 5_001, xs)];
    assert!(matches!(kernels.prepare_norm(&long, NormKind::L2, s, n), Err(Error::Unsupported { .. })));
    assert_eq!(user.errors(), 0, "the caller's handler was called");
}

pub(crate) fn register(suite: &mut Suite) {
    for (slug, adapter) in suite.adapters() {
        let other = adapter.clone();
        suite.add(format!("user_kernels::norms_in_a_pass_of_the_callers::{slug}"), move || {
            if let Some(user) = UserDevice::open(&other, true) {
                norms_in_a_pass_of_the_callers(&user);
            }
        });
        suite.add(format!("user_kernels::functions_of_every_type_are_exact::{slug}"), move || {
            if let Some(user) = UserDevice::open(&adapter, true) {
                functions_of_every_type_are_exact(&user);
            }
        });
    }
}
