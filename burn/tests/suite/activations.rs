//! Functions that bound their argument, with autodiff.

use burn::tensor::{DType, Device, Tensor};
use wgclip::reference;
use wgclip_burn::{Error, Sigmoid, Tanh, sigmoid, soft_cap, tanh};

use crate::support::{Float, bits, devices, elements, normal, tensor};

type Of<T> = fn(T) -> T;
type Backward<T> = fn(T, T) -> T;
type Applied = fn(Tensor<1>) -> wgclip_burn::Result<Tensor<1>>;

fn check<T: Float>(device: &Device, apply: Applied, of: Of<T>, backward: Backward<T>) {
    let rng = &mut fastrand::Rng::with_seed(11);
    let [x, g]: [Vec<T>; 2] = std::array::from_fn(|_| normal(1037, rng));
    let (of_x, of_g) = (tensor(&x, [1037], device).require_grad(), tensor(&g, [1037], device));
    let y = apply(of_x.clone()).unwrap();
    let grads = (y.clone() * of_g).sum().backward();
    let expected: Vec<T> = x.iter().map(|&x| of(x)).collect();
    assert_eq!(bits(&elements::<T, 1>(y)), bits(&expected), "{:?}", T::DTYPE);
    let gx: Vec<T> = expected.iter().zip(&g).map(|(&y, &g)| backward(y, g)).collect();
    assert_eq!(bits(&elements::<T, 1>(of_x.grad(&grads).unwrap())), bits(&gx), "{:?}", T::DTYPE);
}

#[test]
fn values_and_gradients_are_those_of_the_reference() {
    for device in devices() {
        let device = device.autodiff();
        check::<f32>(&device, tanh, reference::tanh, reference::tanh_backward);
        let capped = |y, g| reference::soft_cap_backward(y, g, 1.5);
        check::<f32>(&device, |x| soft_cap(x, 1.5), |x| reference::soft_cap(x, 1.5), capped);
        check::<f32>(&device, sigmoid, reference::sigmoid, reference::sigmoid_backward);
    }
    let flex = Device::flex().autodiff();
    check::<wgclip::f16>(&flex, tanh, reference::tanh, reference::tanh_backward);
    check::<wgclip::bf16>(&flex, sigmoid, reference::sigmoid, reference::sigmoid_backward);
}

#[test]
fn layers_are_the_functions() {
    let x = tensor(&[-3.0f32, 0.25, 9.0], [3], &Device::flex());
    assert_eq!(
        elements::<f32, 1>(Tanh::new().forward(x.clone())),
        elements::<f32, 1>(tanh(x.clone()).unwrap())
    );
    assert_eq!(
        elements::<f32, 1>(Sigmoid.forward(x.clone())),
        elements::<f32, 1>(sigmoid(x.clone()).unwrap())
    );
    assert!(matches!(soft_cap(x.clone(), 0.0), Err(Error::Cap { .. })));
    let error = tanh(x.cast(DType::F64)).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}
