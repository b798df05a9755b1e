//! Operations that share a submission: their order, their buffers, their budget.

use std::thread;

use wgclip::{Bounds, Device, Gradient, Tensor};

use crate::devices::gpus;

/// More operations than a submission takes, each of which undoes what a lost or reordered one would leave.
#[test]
fn operations_run_in_order_beyond_the_budget_of_a_submission() {
    for device in gpus() {
        let mut x = device.tensor(&[0.0f32; 300], [300]).unwrap();
        for step in 1..=1500 {
            x.clip_in_place(&Bounds::min(step as f32).unwrap()).unwrap();
            if step % 3 == 0 {
                x = x.clip(&Bounds::max(step as f32 - 0.5).unwrap()).unwrap();
            }
        }
        assert_eq!(x.to_vec().unwrap(), [1499.5; 300], "{device:?}");
    }
}

/// The queue writes before the pending pass runs, so an upload must not get a buffer that the pass reads.
#[test]
fn an_upload_does_not_overwrite_what_is_pending() {
    for device in gpus() {
        let wide = Bounds::new(-100.0f32, 100.0).unwrap();
        let mut results = Vec::new();
        for i in 0..20 {
            let x = device.tensor(&[i as f32; 64], [64]).unwrap();
            results.push(x.clip(&wide).unwrap());
            drop(x);
            drop(device.tensor(&[-1.0f32; 64], [64]).unwrap());
        }
        for (i, y) in results.iter().enumerate() {
            assert_eq!(y.to_vec().unwrap(), [i as f32; 64], "{device:?}");
        }
    }
}

#[test]
fn threads_share_a_device() {
    for device in gpus() {
        thread::scope(|scope| {
            for t in 0..8 {
                let device = device.clone();
                scope.spawn(move || work(&device, t as f32));
            }
        });
    }
}

fn work(device: &Device, t: f32) {
    for i in 0..25 {
        let len = 1000 + 17 * i;
        let x = device.tensor(&vec![t; len], [len]).unwrap();
        let g = device.tensor(&vec![-t; len], [len]).unwrap();
        let bounds = Bounds::new(0.0, 3.0).unwrap();
        let y = x.clip(&bounds).unwrap();
        let gx = x.clip_grad(&g, &bounds, Gradient::default()).unwrap();
        drop((x, g));
        let wrong = |tensor: Tensor<f32>, expected: f32| {
            tensor.to_vec().unwrap().into_iter().enumerate().find(|(_, v)| *v != expected)
        };
        assert_eq!(wrong(y, t.min(3.0)), None, "{device:?}, thread {t}, step {i}");
        let expected = if t <= 3.0 { -t } else { 0.0 };
        assert_eq!(wrong(gx, expected), None, "{device:?}, thread {t}, step {i}");
    }
}

/// Submissions cost hundreds of microseconds each, so ten thousand small operations must not take as many.
#[test]
fn ten_thousand_clips_and_a_read_are_a_few_submissions() {
    for device in gpus() {
        let mut x = device.tensor(&[0.0f32; 64], [64]).unwrap();
        let before = device.stats();
        for i in 0..10_000 {
            x.clip_in_place(&Bounds::min(i as f32).unwrap()).unwrap();
        }
        assert_eq!(x.to_vec().unwrap(), [9999.0; 64]);
        let after = device.stats();
        assert_eq!(after.dispatches - before.dispatches, 10_000);
        assert!(after.submissions - before.submissions <= 21, "{device:?}: {after:?}");
    }
}
