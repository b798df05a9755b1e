//! The handwritten digits, and the order in which a seed sees them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Digits.
pub const CLASSES: usize = 10;
/// Images of a step.
pub const BATCH: usize = 64;

/// Images and labels on a device.
#[derive(Clone)]
pub struct Batch {
    /// Of shape `[images, PIXELS]`, from 0 to 1.
    pub images: Tensor<2>,
    pub labels: Tensor<1, Int>,
}

/// The data set, on the host.
pub struct Digits {
    images: Vec<f32>,
    labels: Vec<i32>,
}

impl Digits {
    pub fn load(folder: &Path) -> Result<Self> {
        let images = bytes(&folder.join("digits-images.npy"))?;
        let labels = bytes(&folder.join("digits-labels.npy"))?;
        Ok(Self {
            images: images.into_iter().map(|pixel| f32::from(pixel) / 16.0).collect(),
            labels: labels.into_iter().map(i32::from).collect(),
        })
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    /// Numbers of the images to train on and to test on: every fifth is tested on, whatever the seed.
    pub fn split(&self) -> (Vec<usize>, Vec<usize>) {
        (0..self.len()).partition(|n| n % 5 != 0)
    }

    pub fn batch(&self, numbers: &[usize], device: &Device) -> Batch {
        let pixels: Vec<f32> =
            numbers.iter().flat_map(|n| &self.images[n * PIXELS..(n + 1) * PIXELS]).copied().collect();
        let labels: Vec<i32> = numbers.iter().map(|&n| self.labels[n]).collect();
        Batch {
            images: Tensor::from_data(TensorData::new(pixels, [numbers.len(), PIXELS]), device),
            labels: Tensor::from_data(TensorData::new(labels, [numbers.len()]), device),
        }
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("{} holds no digits", path.display()))?;
    npyz::NpyFile::new(BufReader::new(file))?.into_vec().with_context(|| format!("{}", path.display()))
}
