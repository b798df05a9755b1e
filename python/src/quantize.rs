//! How values are quantised.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use wgclip::op::{Op, RuleUse};
use wgclip::{ElementType, Result, cpu, quantize, with_element};

use crate::bounds::axes;
use crate::errors::exception;
use crate::memory::{Memory, run};
use crate::norm::{check_reduced, kept};
use crate::rule::AnyRule;

/// How values are rounded to codes, and which gradient passes: the codes are ``min`` to ``max``. For the names see the class in Rust.
#[pyclass(frozen, eq, hash, from_py_object, module = "wgclip")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QuantRule(pub quantize::QuantRule);

#[pymethods]
impl QuantRule {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "named by callers")]
    #[pyo3(signature = (
        min = -128, max = 127, *, quotient = "exact", rounding = "half-even", nan = "nan", gradient = "rounded", nan_gradient = "pass", format = "integer", seed = 0
    ))]
    fn new(
        min: i64,
        max: i64,
        quotient: &str,
        rounding: &str,
        nan: &str,
        gradient: &str,
        nan_gradient: &str,
        format: &str,
        seed: u64,
    ) -> PyResult<Self> {
        let parsed = || -> Result<_> {
            Ok(quantize::QuantRule {
                quotient: quotient.parse()?,
                rounding: rounding.parse()?,
                nan: nan.parse()?,
                gradient: gradient.parse()?,
                nan_gradient: nan_gradient.parse()?,
                format: format.parse()?,
                seed,
                ..quantize::QuantRule::EXACT
            })
        };
        let rule = parsed().map_err(|_| {
            PyValueError::new_err(format!(
                "no rule is quotient={quotient:?}, rounding={rounding:?}, nan={nan:?}, gradient={gradient:?}, \
                 nan_gradient={nan_gradient:?}, format={format:?}: quotient is {}; rounding is {}; nan is {}; gradient is {}; nan_gradient is {}; \
                 format is {}",
                names(quantize::Quotient::ALL),
                names(quantize::Rounding::ALL),
                names(quantize::NanCode::ALL),
                names(quantize::QuantGradient::ALL),
                names(wgclip::NanRule::ALL),
                names(quantize::CodeFormat::ALL),
            ))
        })?;
        Self(rule).range(min, max)
    }

    /// The rule of a package, by name: one of `presets()`.
    #[staticmethod]
    fn like(preset: &str) -> PyResult<Self> {
        preset.parse().map(Self).map_err(|_| {
            PyValueError::new_err(format!(
                "no rule is called {preset:?}: the presets are {}; or give a QuantRule",
                Self::presets().join(", ")
            ))
        })
    }

    /// The names of the presets.
    #[staticmethod]
    fn presets() -> Vec<&'static str> {
        quantize::QuantRule::PRESETS.iter().map(|(name, _)| *name).collect()
    }

    /// The same rule for the codes from ``min`` to ``max``.
    fn range(&self, min: i64, max: i64) -> PyResult<Self> {
        // What an i32 cannot hold is refused as well.
        let [min, max] = [min, max].map(|code| code.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
        self.0.with_range(min, max).map(Self).map_err(exception)
    }

    /// The same rule for signed codes of this many bits.
    fn bits(&self, bits: u32) -> PyResult<Self> {
        self.0.bits(bits).map(Self).map_err(exception)
    }

    /// The same rule for codes that are 4-bit floats.
    fn e2m1(&self) -> Self {
        Self(quantize::FloatFormat::E2M1.rule(self.0))
    }

    /// The same rule with other random numbers.
    fn with_seed(&self, seed: u64) -> Self {
        Self(quantize::QuantRule { seed, ..self.0 })
    }

    #[getter]
    fn min(&self) -> i32 {
        self.0.min
    }

    #[getter]
    fn max(&self) -> i32 {
        self.0.max
    }

    #[getter]
    fn quotient(&self) -> &'static str {
        self.0.quotient.name()
    }

    #[getter]
    fn rounding(&self) -> &'static str {
        self.0.rounding.name()
    }

    #[getter]
    fn nan(&self) -> &'static str {
        self.0.nan.name()
    }

    #[getter]
    fn gradient(&self) -> &'static str {
        self.0.gradient.name()
    }

    #[getter]
    fn nan_gradient(&self) -> &'static str {
        self.0.nan_gradient.name()
    }

    #[getter]
    fn seed(&self) -> u64 {
        self.0.seed
    }

    #[getter]
    fn format(&self) -> &'static str {
        self.0.format.name()
    }

    fn __repr__(&self) -> String {
        let format = match self.0.format {
            quantize::CodeFormat::Integer => String::new(),
            format => format!(", format={:?}", format.name()),
        };
        let seed = if self.0.seed == 0 { String::new() } else { format!(", seed={}", self.0.seed) };
        format!(
            "QuantRule({}, {}, quotient={:?}, rounding={:?}, nan={:?}, gradient={:?}, nan_gradient={:?}{format}{seed})",
            self.min(),
            self.max(),
            self.quotient(),
            self.rounding(),
            self.nan(),
            self.gradient(),
            self.nan_gradient()
        )
    }
}

fn names<T: std::fmt::Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// The scale and zero point of all elements, or of slices along axes, for the codes of a rule, or for an 8-bit float and its rule of scales, into float32 and int32: with the shape of x, and a length of 1 along the axes.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "called by our own Python alone")]
pub(crate) fn calibrate(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    along: Option<Vec<i64>>,
    range: &str,
    scheme: &str,
    rule: &Bound<'_, PyAny>,
    finite_only: bool,
    floats: Option<(String, String)>,
    out: [Bound<'_, PyAny>; 2],
) -> PyResult<()> {
    let [x, scale, zero_point] = [Memory::of(x)?, Memory::of(&out[0])?, Memory::of(&out[1])?];
    let along = axes(along, &x.shape)?;
    let kept = kept(&x.shape, along.as_deref())?;
    check_reduced(&scale, ElementType::F32, &kept)?;
    check_reduced(&zero_point, ElementType::I32, &kept)?;
    let along = along.unwrap_or_else(|| (0..x.shape.dims().len()).collect());
    let scheme = scheme.parse().map_err(|_| {
        PyValueError::new_err(format!(
            "no scheme is called {scheme:?}: there are {}",
            names(quantize::Scheme::ALL)
        ))
    })?;
    let calibration = quantize::Calibration { range: range.parse().map_err(exception)?, scheme, finite_only };
    let codes: quantize::Grid = match floats {
        None => Rules::of(Op::Quantize, Some(rule))?.quant.into(),
        Some((to, scale)) => {
            let scale = scale.parse().map_err(|_| {
                PyValueError::new_err(format!(
                    "no rule of scales is called {scale:?}: there are {}",
                    names(quantize::FloatScale::ALL)
                ))
            })?;
            let named =
                |format: &&quantize::FloatFormat| format.name() == to || format.element().name() == to;
            let format = quantize::FloatFormat::ALL.iter().find(named);
            let format =
                *format.ok_or_else(|| PyTypeError::new_err(format!("{to} is no float that is a code")))?;
            quantize::FloatCodes { format, scale }.into()
        }
    };
    run(py, &[&x], &[&scale, &zero_point], |inputs, mut outputs| {
        let found = with_element!(x.element, T => {
            cpu::calibrate(bytemuck::cast_slice::<u8, T>(inputs[0]), &x.shape, &along, calibration, codes)?
        });
        let bytes = found.iter().map(|params| (params.scale.to_ne_bytes(), params.zero_point.to_ne_bytes()));
        let places = outputs.iter_mut().map(|out| out.chunks_exact_mut(size_of::<f32>()));
        let Ok([scales, zero_points]) = <[_; 2]>::try_from(places.collect::<Vec<_>>()) else { return Ok(()) };
        for ((scale, zero_point), (to_scale, to_zero_point)) in bytes.zip(scales.zip(zero_points)) {
            to_scale.copy_from_slice(&scale);
            to_zero_point.copy_from_slice(&zero_point);
        }
        Ok(())
    })
}

/// The rules that an argument gives an operation: a backward rule, or for one that quantises a `QuantRule` or the name of a preset.
#[derive(Default)]
pub(crate) struct Rules {
    pub rule: wgclip::BackwardRule,
    pub quant: quantize::QuantRule,
}

impl Rules {
    pub(crate) fn of(op: Op, given: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(given) = given else { return Ok(Self::default()) };
        if op.info().rule != RuleUse::Quant {
            return Ok(Self { rule: given.extract::<AnyRule>()?.0, ..Self::default() });
        }
        if let Ok(rule) = given.cast::<QuantRule>() {
            return Ok(Self { quant: rule.get().0, ..Self::default() });
        }
        let name: String = given
            .extract()
            .map_err(|_| PyTypeError::new_err("a rule is a QuantRule, or the name of a preset"))?;
        Ok(Self { quant: QuantRule::like(&name)?.0, ..Self::default() })
    }
}
