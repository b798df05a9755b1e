//! The scales of a tensor, and its codes, part by part.

use anyhow::{Context, Result, anyhow, bail};
use wgclip::bounds::BroadcastInputs;
use wgclip::op::{Arguments, Op, Operand};
use wgclip::quantize::{Calibration, E2M1, Grid, QuantParams, QuantRule, Scheme, ValueRange};
use wgclip::{Bound, Device, DynTensor, Element, ElementType, Error, Shape, cpu, with_element};

use super::packed::Packing;
use crate::args::Codes;
use crate::norm::{axes_of, parts};
use crate::resources::Resources;
use crate::source::{CHUNK, Place, Source};

/// Which elements share a scale.
#[derive(Debug, Clone, Copy)]
enum Sharing {
    /// All of a tensor.
    Tensor,
    /// Those with the same index along an axis.
    Channel(i64),
    /// This many along the last axis.
    Group(usize),
}

/// How tensors are quantized.
pub(crate) struct Method {
    pub grid: Grid,
    pub to: ElementType,
    /// How codes are written, if they are packed.
    pub packing: Option<Packing>,
    /// Whether scales are written as the exponents of powers of two, in E8M0.
    pub exponents: bool,
    /// How a package divides and rounds; for integers with their range.
    rule: QuantRule,
    calibration: Calibration,
    sharing: Sharing,
}

impl Method {
    pub(crate) fn new(args: &Codes) -> Result<Self> {
        let sharing = match (args.per_channel, args.group()) {
            (Some(axis), _) => Sharing::Channel(axis),
            (None, Some(len)) => Sharing::Group(usize::try_from(len)?),
            (None, None) => Sharing::Tensor,
        };
        let grid = args.grid()?;
        let rule = match grid {
            Grid::Integers(rule) => rule,
            Grid::Floats(codes) => codes.format.rule(args.preset()),
        };
        let to = args.code_type();
        let (to, packing, exponents) = (to.element, to.packing, args.is_mx());
        Ok(Self { grid, to, packing, exponents, rule, calibration: args.calibration(), sharing })
    }

    /// How often a tensor is read.
    pub(crate) fn passes(&self) -> u64 {
        let more = match self.calibration.range {
            ValueRange::MinMax | ValueRange::Given { .. } => 0,
            ValueRange::Quantiles { .. } | ValueRange::SquaredError => 2,
        };
        // The parts of slices are calibrated in memory.
        2 + if matches!(self.sharing, Sharing::Tensor) { more } else { 0 }
    }

    /// Whether zero points are written: not if they are all 0.
    pub(crate) fn has_zero_points(&self) -> bool {
        let is_centred = matches!(self.calibration.scheme, Scheme::Symmetric | Scheme::SymmetricHalf);
        self.packing.is_none() && matches!(self.grid, Grid::Integers(rule) if !is_centred || rule.min >= 0)
    }

    /// The number of a code that is a byte, before its zero point is subtracted.
    pub(crate) fn number(&self, code: u8) -> f64 {
        match self.packing {
            Some(Packing::E2M1) => E2M1[usize::from(code & 15)].into(),
            _ => code.into(),
        }
    }

    /// The axes whose elements are in one part with each other.
    fn whole_axes(&self, rank: usize, what: &str) -> Result<Vec<usize>> {
        Ok(match self.sharing {
            Sharing::Tensor => Vec::new(),
            Sharing::Channel(axis) => {
                let [axis] = axes_of(&[axis], rank, what)?[..] else { return Ok(Vec::new()) };
                (0..rank).filter(|&other| other != axis).collect()
            }
            Sharing::Group(_) => rank.checked_sub(1).into_iter().collect(),
        })
    }

    /// The shape in which elements of these dimensions are calibrated, and the axes that share scales there.
    fn view(&self, dims: &[usize], what: &str) -> Result<(Vec<usize>, Vec<usize>)> {
        let rank = dims.len();
        match (self.sharing, dims) {
            (Sharing::Tensor, _) => Ok((dims.to_vec(), (0..rank).collect())),
            (Sharing::Channel(_), _) => Ok((dims.to_vec(), self.whole_axes(rank, what)?)),
            (Sharing::Group(_), []) => bail!("{what} is one number: leave it out with --except"),
            (Sharing::Group(len), [rows @ .., last]) => {
                if last % len != 0 {
                    bail!(
                        "{what} has {last} elements along its last axis, which groups of {len} do not divide: give another --group, or leave it out with --except"
                    );
                }
                Ok(([rows, &[last / len, len]].concat(), vec![rank]))
            }
        }
    }

    /// The shape of the scales of elements of these dimensions, as it is written.
    fn params_shape(&self, dims: &[usize], what: &str) -> Result<Vec<usize>> {
        let (view, axes) = self.view(dims, what)?;
        Ok(match self.sharing {
            Sharing::Tensor => Vec::new(),
            Sharing::Channel(_) => kept(&view, &axes),
            Sharing::Group(_) => view[..view.len() - 1].to_vec(),
        })
    }
}

/// Dimensions with those of some axes replaced by 1.
fn kept(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    dims.iter().enumerate().map(|(axis, &len)| if axes.contains(&axis) { 1 } else { len }).collect()
}

/// The scales and zero points of a tensor, in C order.
pub(crate) struct Params {
    pub shape: Vec<usize>,
    values: Vec<QuantParams>,
}

impl Params {
    /// The scales as f32, or as the exponents of powers of two: those of f32 from 2^-126, and 0 for 2^-127.
    pub(crate) fn scale_bytes(&self, exponents: bool) -> Vec<u8> {
        let scales = self.values.iter().map(|params| params.scale);
        match exponents {
            true => scales.map(|scale| (scale.to_bits() >> 23) as u8).collect(),
            false => scales.flat_map(f32::to_le_bytes).collect(),
        }
    }

    /// The zero points as integers of a type that holds them: the low bytes of an i32.
    pub(crate) fn zero_point_bytes(&self, to: ElementType) -> Vec<u8> {
        self.values
            .iter()
            .flat_map(|params| params.zero_point.to_le_bytes().into_iter().take(to.size()))
            .collect()
    }
}

/// Finds the scales of a tensor.
pub(crate) fn params(
    source: &mut Source,
    place: Place,
    method: &Method,
    resources: &mut Resources,
) -> Result<Params> {
    let (entry, what) = (source.entry(place).clone(), named(source, place));
    let dims = entry.shape.dims();
    let shape = method.params_shape(dims, &what)?;
    let (calibration, grid) = (method.calibration, method.grid);
    let mut values = Vec::new();
    with_element!(source.element(place)?, T => match method.sharing {
        Sharing::Tensor => {
            let found = cpu::calibrate_in_passes::<T, anyhow::Error>(calibration, grid, |take| {
                source.chunks::<T>(place, CHUNK, &mut |_, x| {
                    resources.progress(size_of_val(&x[..]));
                    take(x);
                    Ok(())
                })
            });
            values.push(found.map_err(|error| not_covered(&what, error))?);
        }
        _ => {
            let (axes, room) = (method.whole_axes(dims.len(), &what)?, resources.room());
            parts::<T>(source, place, &axes, room, &mut |x, dims| {
                resources.progress(size_of_val(&x[..]));
                let (view, axes) = method.view(dims, &what)?;
                let found = cpu::calibrate(&x, &Shape::new(view)?, &axes, calibration, grid);
                values.extend(found.map_err(|error| not_covered(&what, error.into()))?);
                Ok(())
            })?;
        }
    });
    Ok(Params { shape, values })
}

/// The name of a tensor before a colon.
pub(super) fn named(source: &Source, place: Place) -> String {
    source.describe(place).trim_end_matches(',').to_owned()
}

/// Why a tensor has no scales, in terms of options.
fn not_covered(what: &str, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Error::NonFiniteValues { count }) => anyhow!(
            "{what} holds {count} NaN or infinite: no codes cover these; --finite-only chooses scales by the other elements"
        ),
        _ => error.context(what.to_owned()),
    }
}

/// Elements of a tensor, their codes, and how they were found.
pub(crate) struct Part<'a, T> {
    pub x: Vec<T>,
    codes: DynTensor,
    /// In the order of runs of `run` elements, around and around.
    pub params: &'a [QuantParams],
    pub run: usize,
}

impl<T: Element> Part<'_, T> {
    /// The bytes of the codes, little-endian.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = self.codes.to_bytes()?;
        if cfg!(target_endian = "big") {
            bytes.chunks_mut(self.codes.element().size()).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}

/// Receives a part.
type TakePart<'a, T> = &'a mut dyn FnMut(Part<'_, T>) -> Result<()>;

/// Computes the codes of a tensor on the device, part by part.
pub(crate) fn each_part<T: Element>(
    source: &mut Source,
    place: Place,
    (method, params): (&Method, &Params),
    resources: &mut Resources,
    take: TakePart<'_, T>,
) -> Result<()> {
    let (entry, what) = (source.entry(place).clone(), named(source, place));
    let (device, axes) = (resources.device().clone(), method.whole_axes(entry.shape.dims().len(), &what)?);
    let (most, part) = resources.room();
    let part = part.min(resources.batch_bytes() as u64);
    let mut first = 0;
    parts::<T>(source, place, &axes, (most, part), &mut |x, dims| {
        resources.progress(size_of_val(&x[..]));
        let (view, axes) = method.view(dims, &what)?;
        let of_params = kept(&view, &axes);
        let count = of_params.iter().product::<usize>();
        let params = &params.values[first..first + count];
        // Parts of one slice share its scale.
        if !matches!(method.sharing, Sharing::Tensor) {
            first += count;
        }
        let run = match method.sharing {
            Sharing::Tensor => x.len(),
            Sharing::Group(len) => len,
            Sharing::Channel(_) => {
                let axis = (0..view.len()).find(|axis| !axes.contains(axis)).unwrap_or(0);
                view[axis + 1..].iter().product()
            }
        };
        let x = device.tensor_from_vec(x, &view[..])?;
        let codes = match T::TYPE {
            ElementType::F64 => codes_of::<f64>(&device, x.as_dyn(), (params, &of_params), method),
            _ => codes_of::<f32>(&device, x.as_dyn(), (params, &of_params), method),
        };
        let codes = codes.with_context(|| what.clone())?;
        take(Part { x: x.into_vec()?, codes, params, run: run.max(1) })
    })
}

/// The codes of elements, with scales and zero points of type `S`.
fn codes_of<S: Element>(
    device: &Device,
    x: &DynTensor,
    (params, shape): (&[QuantParams], &[usize]),
    method: &Method,
) -> Result<DynTensor> {
    let numbers = |of: fn(&QuantParams) -> f64| -> Result<Bound<S>> {
        let numbers: Vec<S> = params.iter().map(|params| S::from_f64(of(params))).collect();
        Ok(match numbers[..] {
            [number] => Bound::Value(number),
            _ => Bound::Tensor(device.tensor_from_vec(numbers, shape)?),
        })
    };
    let zero_point = match method.grid {
        Grid::Integers(_) => numbers(|params| params.zero_point.into())?,
        Grid::Floats(_) => Bound::Value(S::from_f64(0.0)),
    };
    let inputs = [numbers(|params| params.scale.into())?, zero_point];
    convert(Op::Quantize, x, &inputs, method.rule, method.to)
}

/// Converts to codes or from them, with this scale and this zero point.
pub(super) fn convert<S: Element>(
    op: Op,
    x: &DynTensor,
    inputs: &[Bound<S>; 2],
    quant: QuantRule,
    to: ElementType,
) -> Result<DynTensor> {
    let inputs = inputs.iter().map(|input| match input {
        Bound::Absent => Bound::Absent,
        Bound::Value(value) => Bound::Value(*value),
        Bound::Tensor(tensor) => Bound::Tensor((tensor.as_dyn(), tensor.shape())),
    });
    let broadcast = BroadcastInputs::new(op.info().broadcast, x.shape(), inputs)?;
    let arguments =
        Arguments { element: Some(x.element()), quant, to: Some(to), ..Arguments::new(&broadcast) };
    let converted = DynTensor::run(op, &[x], &[Operand::Y], &arguments)?;
    converted.into_iter().next().with_context(|| format!("{op} has no result"))
}
