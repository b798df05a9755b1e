//! Past the limits of a device: bindings, workgroups, buffers, and memory.

use crate::devices::Suite;
use wgclip::{BackwardRule, Bounds, Device, Error, NeedsGrad};

use pollster::block_on;
use wgclip::gpu::{Adapter, Kernels};

use crate::devices::open;

const BUFFER: u64 = 1 << 20;

/// A device that executes nothing but validates all, under tiny limits.
fn validator(max_binding: u64, max_workgroups: u32) -> Device {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: max_binding,
        max_compute_workgroups_per_dimension: max_workgroups,
        max_buffer_size: BUFFER,
        ..wgpu::Limits::default()
    };
    let desc = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, queue) = wgpu::Device::noop(&desc);
    Device::from_wgpu(device, queue).unwrap()
}

/// Every operation on so many elements; wgpu's validation of each dispatch comes back as an error.
fn validate(device: &Device, len: usize) -> wgclip::Result<()> {
    let x = device.tensor(&vec![0u8; len], [len])?;
    let same = device.tensor(&vec![1u8; len], [len])?;
    for bounds in [Bounds::new(1, 2)?, Bounds::new(0, &same)?] {
        let y = x.clip(&bounds)?;
        let mut g = x.clip_backward(&y, &bounds, BackwardRule::default())?;
        x.clip_backward_in_place(&mut g, &bounds, BackwardRule::default())?;
        let (mut y, saved) = x.clip_with_mask(&bounds, BackwardRule::default())?;
        saved.backward(&g)?;
        saved.backward_in_place(&mut g)?;
        y.clip_in_place(&bounds)?;
        x.clip_backward_bounds(&y, &Bounds::new(1, &same)?, BackwardRule::default(), NeedsGrad::HI)?;
    }
    device.wait()
}

fn every_split_and_fold_is_valid_at_each_boundary() {
    // A workgroup works on 4096 bytes, a word of a mask stands for 8 times as many.
    const GROUP: u64 = 4096;
    for (max_binding, max_workgroups) in [(64 << 10, 65_535), (1 << 20, 3), (128 << 10, 5)] {
        let device = validator(max_binding, max_workgroups);
        let row = u64::from(max_workgroups) * GROUP;
        let whole = row * u64::from(max_workgroups);
        let boundaries = [16, 256, GROUP, row, 2 * row, whole, max_binding, 2 * max_binding, 8 * GROUP];
        for boundary in boundaries.into_iter().filter(|&boundary| boundary < BUFFER) {
            for len in [boundary - 1, boundary, boundary + 1] {
                validate(&device, len as usize)
                    .unwrap_or_else(|error| panic!("{len} bytes, bindings of {max_binding}: {error}"));
            }
        }
    }
}

fn a_tensor_may_fill_a_buffer_and_no_more() {
    let device = validator(64 << 10, 65_535);
    for len in [BUFFER - 1, BUFFER] {
        validate(&device, len as usize).unwrap();
    }
    let error = validate(&device, BUFFER as usize + 1).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    // A slice need not fit.
    device.clip_slice(&mut vec![0u8; 3 * BUFFER as usize + 1], Bounds::at_most(1).unwrap()).unwrap();
    validate(&device, 1000).unwrap();
}

/// Limits under which no kernel runs say so at once, by name; those that an operation needs say so when it is asked for.
fn limits_that_are_too_low_have_a_name(adapter: Adapter) {
    let open = |required_limits| {
        let desc = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
        let (device, queue) = block_on(adapter.as_wgpu().request_device(&desc)).unwrap();
        (device.clone(), Device::from_wgpu(device, queue))
    };
    let (device, opened) = open(wgpu::Limits::downlevel_webgl2_defaults());
    for error in [opened.map(drop).unwrap_err(), Kernels::new(&device).map(drop).unwrap_err()] {
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("max_compute_workgroups_per_dimension"), "{error}");
    }
    let (_, device) = open(wgpu::Limits { max_uniform_buffer_binding_size: 64, ..wgpu::Limits::default() });
    let error = device.unwrap_err();
    assert!(error.to_string().contains("max_uniform_buffer_binding_size"), "{error}");
    let (_, device) = open(wgpu::Limits { max_bindings_per_bind_group: 3, ..wgpu::Limits::default() });
    let error = device.unwrap_err();
    assert!(error.to_string().contains("max_bindings_per_bind_group"), "{error}");

    let device = open(wgpu::Limits::downlevel_defaults()).1.unwrap();
    let x = device.tensor(&[-1.0f32, 0.5, 2.0], [3]).unwrap();
    let bounds = Bounds::new(&x, &x).unwrap();
    let error = x.clip_backward_bounds(&x, &bounds, BackwardRule::default(), NeedsGrad::BOTH).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("max_storage_buffers_per_shader_stage = 4"), "{error}");
    assert_eq!(x.clip(Bounds::new(0.0, 1.0).unwrap()).unwrap().to_vec().unwrap(), [0.0, 0.5, 1.0]);
}

/// Whatever their other dimensions are.
fn empty_tensors_of_huge_dimensions_are_clipped(device: Device) {
    let most = usize::MAX;
    for dims in [vec![0, most, most], vec![most, most, 0], vec![most, 0, 2]] {
        let x = device.tensor::<f32>(&[], dims.clone()).unwrap();
        let bounds = Bounds::new(0.0, &x).unwrap();
        assert_eq!(x.clip(&bounds).unwrap().to_vec().unwrap(), [], "{dims:?}");
        let gradients = x.clip_backward_bounds(&x, &bounds, BackwardRule::default(), NeedsGrad::HI).unwrap();
        assert_eq!(gradients.hi.unwrap().to_vec().unwrap(), [], "{dims:?}");
    }
}

/// For once at full size: a tensor larger than the largest binding that every device has.
fn a_tensor_beyond_the_128_mib_binding_is_right(adapter: Adapter) {
    let len = (132 << 20) / 4 + 3;
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: wgpu::Limits::default().max_storage_buffer_binding_size,
        ..adapter.limits()
    };
    let device = open(&adapter, limits);
    let value = |i: usize| (i % 251) as f32;
    let data: Vec<f32> = (0..len).map(value).collect();
    let x = device.tensor_from_vec(data, [len]).unwrap();
    let y = x.clip(Bounds::new(10.0, 100.0).unwrap()).unwrap().to_vec().unwrap();
    let wrong = y.iter().enumerate().find(|&(i, y)| *y != value(i).clamp(10.0, 100.0));
    assert_eq!(wrong, None, "{device:?}");
}

/// Many chunks through a stream, in the memory of a few.
fn a_stream_takes_the_memory_of_a_few_chunks(device: Device) {
    let bounds = Bounds::new(-1000i16, 1000).unwrap();
    let mut stream = device.clip_stream(&bounds).unwrap();
    let chunk: Vec<i16> = (0..16 << 20).map(|i: i32| (i % 65_521) as i16).collect();
    let expected: Vec<i16> = chunk.iter().map(|v| (*v).clamp(-1000, 1000)).collect();
    let mut memory = vec![chunk.clone(); 3];
    let (mut pushed, mut seen) = (0, 0u64);
    while seen < 512 << 20 {
        let done = match memory.pop().filter(|_| pushed < 512 << 20) {
            Some(mut next) => {
                next.copy_from_slice(&chunk);
                pushed += size_of_val(&next[..]) as u64;
                stream.push(next).unwrap()
            }
            None => stream.pop().unwrap(),
        };
        if let Some(done) = done {
            assert!(done == expected, "{device:?}, after {seen} bytes");
            seen += size_of_val(&done[..]) as u64;
            memory.push(done);
        }
    }
    assert_eq!(stream.pop().unwrap(), None);
    let stats = device.stats();
    assert!(stats.peak_reserved_bytes <= 8 * (32 << 20), "{stats:?}");
    assert!(stats.buffers_created <= 8, "{stats:?}");
}

fn slices_of_any_length_are_clipped_where_they_are(device: Device) {
    let bounds = Bounds::new(10u8, 200).unwrap();
    for len in [0, 1, 15, 17, (16 << 20) - 1, (16 << 20) + 1, (64 << 20) + 5] {
        let value = |i: usize| (i % 251) as u8;
        let mut data: Vec<u8> = (0..len).map(value).collect();
        device.clip_slice(&mut data, &bounds).unwrap();
        let wrong = data.iter().enumerate().find(|&(i, v)| *v != value(i).clamp(10, 200));
        assert_eq!(wrong, None, "{device:?}, {len} elements");
    }
    let tensor = device.tensor(&[1u8], [1]).unwrap();
    let error = device.clip_slice(&mut [3u8], Bounds::at_least(tensor).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_adapter(&[
        (
            "limits::a_tensor_beyond_the_128_mib_binding_is_right",
            a_tensor_beyond_the_128_mib_binding_is_right,
        ),
        ("limits::limits_that_are_too_low_have_a_name", limits_that_are_too_low_have_a_name),
    ]);
    suite.per_device(&[
        (
            "limits::slices_of_any_length_are_clipped_where_they_are",
            slices_of_any_length_are_clipped_where_they_are,
        ),
        (
            "limits::empty_tensors_of_huge_dimensions_are_clipped",
            empty_tensors_of_huge_dimensions_are_clipped,
        ),
    ]);
    suite.per_gpu(&[(
        "limits::a_stream_takes_the_memory_of_a_few_chunks",
        a_stream_takes_the_memory_of_a_few_chunks,
    )]);
    suite.once(&[
        (
            "limits::every_split_and_fold_is_valid_at_each_boundary",
            every_split_and_fold_is_valid_at_each_boundary,
        ),
        ("limits::a_tensor_may_fill_a_buffer_and_no_more", a_tensor_may_fill_a_buffer_and_no_more),
    ]);
}
