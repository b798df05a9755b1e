//! The operations once more, in the plainest way: element by element, by the reference.

use wgclip::{Error, Gradient, Result, Wanted, reference};

/// Elements in C order.
#[derive(Debug, Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    pub fn check_same(&self, other: &Self) -> Result<()> {
        if self.dims == other.dims {
            return Ok(());
        }
        Err(Error::ShapeMismatch { left: self.dims.clone(), right: other.dims.clone() })
    }
}

/// One end of the interval.
#[derive(Debug, Clone)]
pub enum Limit {
    Absent,
    Value(f32),
    Array(Array),
}

/// The lower and the upper one.
pub type Limits = [Limit; 2];

const NAMES: [&str; 2] = ["lower", "upper"];

/// Limits that are values are numbers.
pub fn check_values(limits: &Limits) -> Result<()> {
    for (limit, side) in limits.iter().zip(NAMES) {
        if matches!(limit, Limit::Value(value) if value.is_nan()) {
            return Err(Error::NanBound { side });
        }
    }
    Ok(())
}

/// A limit as each element of x sees it.
struct Beside {
    values: Vec<Option<f32>>,
    /// Which element of the limit that is.
    places: Vec<usize>,
    /// Shape of the limit.
    dims: Vec<usize>,
}

impl Beside {
    fn new(x: &Array, limit: &Limit, side: &'static str) -> Result<Self> {
        let dims = match limit {
            Limit::Array(array) => array.dims.clone(),
            _ => vec![],
        };
        let Some(places) = places(&x.dims, &dims) else {
            return Err(Error::BroadcastMismatch { side, bound: dims, shape: x.dims.clone() });
        };
        let value = |&place: &usize| match limit {
            Limit::Absent => None,
            Limit::Value(value) => Some(*value),
            Limit::Array(array) => Some(array.data[place]),
        };
        Ok(Self { values: places.iter().map(value).collect(), places, dims })
    }

    fn both(x: &Array, limits: &Limits) -> Result<[Self; 2]> {
        Ok([Self::new(x, &limits[0], NAMES[0])?, Self::new(x, &limits[1], NAMES[1])?])
    }

    /// Adds up what each element of the limit receives.
    fn sums(&self, gradients: &[f32]) -> Array {
        let of = |element| {
            let received = gradients.iter().zip(&self.places).filter(|(_, place)| **place == element);
            reference::sum(&received.map(|(g, _)| *g).collect::<Vec<_>>())
        };
        Array { dims: self.dims.clone(), data: (0..self.dims.iter().product()).map(of).collect() }
    }
}

/// The element of a limit that belongs to each one of x, if the shapes broadcast.
fn places(x: &[usize], limit: &[usize]) -> Option<Vec<usize>> {
    let missing = x.len().checked_sub(limit.len())?;
    let x_dims = &x[missing..];
    if limit.iter().zip(x_dims).any(|(&len, &of_x)| len != 1 && len != of_x) {
        return None;
    }
    let place = |element: usize| {
        let (mut rest, mut stride, mut place) = (element, 1, 0);
        for (&len, &of_x) in limit.iter().zip(x_dims).rev() {
            place += if len == 1 { 0 } else { rest % of_x * stride };
            rest /= of_x;
            stride *= len;
        }
        place
    };
    Some((0..x.iter().product()).map(place).collect())
}

pub fn clip(x: &Array, limits: &Limits) -> Result<Array> {
    let [lo, hi] = Beside::both(x, limits)?;
    let one = |(i, &x): (usize, &f32)| reference::clip(x, lo.values[i], hi.values[i]);
    Ok(Array { dims: x.dims.clone(), data: x.data.iter().enumerate().map(one).collect() })
}

pub fn hard_sigmoid(x: &Array) -> Array {
    let one = |&x: &f32| reference::clip(reference::affine(x, 1.0 / 6.0, 0.5), Some(0.0), Some(1.0));
    Array { dims: x.dims.clone(), data: x.data.iter().map(one).collect() }
}

pub fn clip_grad(x: &Array, g: &Array, limits: &Limits, rule: Gradient) -> Result<Array> {
    x.check_same(g)?;
    let [lo, hi] = Beside::both(x, limits)?;
    let one = |i: usize| reference::clip_grad(x.data[i], g.data[i], lo.values[i], hi.values[i], rule);
    Ok(Array { dims: x.dims.clone(), data: (0..x.data.len()).map(one).collect() })
}

/// What x receives, and each limit whose gradient is wanted.
pub fn clip_grads(
    x: &Array,
    g: &Array,
    limits: &Limits,
    rule: Gradient,
    wanted: Wanted,
) -> Result<[Option<Array>; 3]> {
    x.check_same(g)?;
    for ((limit, wanted), side) in limits.iter().zip([wanted.lo, wanted.hi]).zip(NAMES) {
        if wanted {
            if matches!(limit, Limit::Absent) {
                return Err(Error::NoBound { side });
            }
            Beside::new(x, limit, side)?;
        }
    }
    let [lo, hi] = Beside::both(x, limits)?;
    let one = |i: usize| reference::clip_grads(x.data[i], g.data[i], lo.values[i], hi.values[i], rule);
    let grads: Vec<_> = (0..x.data.len()).map(one).collect();
    let of = |side: fn(&reference::Grads<f32>) -> f32| grads.iter().map(side).collect::<Vec<_>>();
    Ok([
        Some(Array { dims: x.dims.clone(), data: of(|grads| grads.x) }),
        wanted.lo.then(|| lo.sums(&of(|grads| grads.lo))),
        wanted.hi.then(|| hi.sums(&of(|grads| grads.hi))),
    ])
}
