//! How the elements of a tensor lie in a file.

use wgclip::{Element, Shape};

/// Relative to native byte order, and to C order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// Whether the byte order is not the native one.
    pub swapped: bool,
    /// Whether elements are in Fortran order.
    pub fortran: bool,
}

impl Layout {
    /// Converts from the file's layout to native byte order and C order.
    pub fn decode<T: Element>(self, mut data: Vec<T>, shape: &Shape) -> Vec<T> {
        self.swap(&mut data);
        if self.is_c(shape) { data } else { places(shape).map(|fortran| data[fortran]).collect() }
    }

    /// The inverse.
    pub fn encode<T: Element>(self, mut data: Vec<T>, shape: &Shape) -> Vec<T> {
        self.swap(&mut data);
        if self.is_c(shape) {
            return data;
        }
        let mut there = data.clone();
        places(shape).zip(data).for_each(|(fortran, v)| there[fortran] = v);
        there
    }

    fn is_c(self, shape: &Shape) -> bool {
        !self.fortran || shape.dims().iter().filter(|&&len| len != 1).count() < 2 || shape.is_empty()
    }

    /// Converts between the file's byte order and the native one.
    pub fn swap<T: Element>(self, data: &mut [T]) {
        self.swap_bytes(size_of::<T>(), bytemuck::cast_slice_mut(data));
    }

    /// The same for elements of this many bytes.
    pub fn swap_bytes(self, size: usize, data: &mut [u8]) {
        fn swap<const N: usize>(data: &mut [u8]) {
            data.as_chunks_mut::<N>().0.iter_mut().for_each(|element| element.reverse());
        }
        match size {
            2 if self.swapped => swap::<2>(data),
            4 if self.swapped => swap::<4>(data),
            8 if self.swapped => swap::<8>(data),
            _ => {}
        }
    }
}

/// The index in Fortran order of each element, in C order.
fn places(shape: &Shape) -> impl Iterator<Item = usize> {
    let dims = shape.dims().to_vec();
    let strides: Vec<usize> =
        dims.iter().scan(1, |stride, len| Some(std::mem::replace(stride, *stride * len))).collect();
    let mut at = vec![0; dims.len()];
    let mut place = 0;
    (0..shape.len()).map(move |_| {
        let here = place;
        for d in (0..dims.len()).rev() {
            at[d] += 1;
            place += strides[d];
            if at[d] < dims[d] {
                break;
            }
            place -= at[d] * strides[d];
            at[d] = 0;
        }
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_go_both_ways() {
        let shape = Shape::new([2, 3, 1, 2]).unwrap();
        let fortran = Layout { fortran: true, swapped: true };
        let file: Vec<u16> = (0..12).map(|v: u16| v.swap_bytes()).collect();
        let c = fortran.decode(file.clone(), &shape);
        // numpy.arange(12).reshape(2, 3, 1, 2, order='F').ravel()
        assert_eq!(c, [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]);
        assert_eq!(fortran.encode(c, &shape), file);
    }
}
