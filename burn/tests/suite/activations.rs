//! Functions that bound their argument, with autodiff.

use burn::tensor::{DType, Device, Tensor};
use wgclip::reference;
use wgclip_burn::{Error, Sigmoid, Softmax, Tanh, sigmoid, soft_cap, softmax, tanh};

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

/// Rows of 17 x 61 elements, or columns.
fn check_softmax<T: Float>(device: &Device, dim: usize) {
    let rng = &mut fastrand::Rng::with_seed(12);
    let [x, g]: [Vec<T>; 2] = std::array::from_fn(|_| normal(17 * 61, rng));
    let (of_x, of_g) = (tensor(&x, [17, 61], device).require_grad(), tensor(&g, [17, 61], device));
    let y = softmax(of_x.clone(), dim).unwrap();
    let grads = (y.clone() * of_g).sum().backward();
    let (count, len, [step, stride]) = if dim == 1 { (17, 61, [61, 1]) } else { (61, 17, [1, 61]) };
    let (mut expected, mut gradients) = (x.clone(), x.clone());
    for slice in 0..count {
        let at = |n: usize| slice * step + n * stride;
        let [x, g] = [&x, &g].map(|of| (0..len).map(|n| of[at(n)]).collect::<Vec<T>>());
        let y = reference::softmax(&x);
        for (n, (&y, gx)) in y.iter().zip(reference::softmax_backward(&y, &g)).enumerate() {
            (expected[at(n)], gradients[at(n)]) = (y, gx);
        }
    }
    assert_eq!(bits(&elements::<T, 2>(y)), bits(&expected), "{:?} along {dim}", T::DTYPE);
    let gx = elements::<T, 2>(of_x.grad(&grads).unwrap());
    assert_eq!(bits(&gx), bits(&gradients), "{:?} along {dim}", T::DTYPE);
}

#[test]
fn softmax_goes_along_a_dimension() {
    for device in devices() {
        for dim in [0, 1] {
            check_softmax::<f32>(&device.clone().autodiff(), dim);
        }
    }
    check_softmax::<wgclip::f16>(&Device::flex().autodiff(), 1);
    let x = tensor(&[-3.0f32, 0.25, 9.0], [3], &Device::flex());
    assert_eq!(
        elements::<f32, 1>(Softmax::new(0).forward(x.clone())),
        reference::softmax(&[-3.0f32, 0.25, 9.0])
    );
    assert!(matches!(softmax(x.clone(), 1), Err(Error::InvalidAxes { .. })));
    assert!(matches!(softmax(x.cast(DType::F64), 0), Err(Error::Unsupported { .. })));
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
