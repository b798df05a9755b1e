//! The forward and backward pass of a clipped layer, as a training loop has them.
//!
//! `cargo run --release --example layer [DEVICE]`

use wgclip::{BackwardRule, Device, OutsideRule, Result};

fn main() -> Result<()> {
    let device = Device::select(&std::env::args().nth(1).unwrap_or("auto".into()))?;
    println!("on {}", device.info());

    // What the layer puts out, and what comes back from the loss.
    let x = device.tensor(&[-1.5f32, -0.2, 0.0, 0.4, 1.0, 2.5, f32::INFINITY, f32::NAN], [2, 4])?;
    let upstream = device.tensor(&[0.1f32, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8], [2, 4])?;

    let y = x.clip(0.0..=1.0)?;
    println!("clipped to [0, 1]    {:?}", y.to_vec()?);

    let torch: BackwardRule = "torch".parse()?;
    let rules = [
        ("masked", BackwardRule::default()),
        ("as torch does", torch),
        ("straight through", BackwardRule { outside: OutsideRule::StraightThrough, ..torch }),
        ("toward the interval", BackwardRule { outside: OutsideRule::Toward, ..torch }),
    ];
    for (name, rule) in rules {
        println!("{name:20} {:?}", x.clip_backward(&upstream, 0.0..=1.0, rule)?.to_vec()?);
    }
    Ok(())
}
