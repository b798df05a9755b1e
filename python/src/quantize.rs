//! How values are quantised.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use wgclip::op::{Op, RuleUse};
use wgclip::{Result, quantize};

use crate::errors::exception;
use crate::rule::AnyRule;

/// How values are rounded to codes, and which gradient passes: the codes are ``min`` to ``max``. For the names see the class in Rust.
#[pyclass(frozen, eq, hash, from_py_object, module = "wgclip")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QuantRule(pub quantize::QuantRule);

#[pymethods]
impl QuantRule {
    #[new]
    #[pyo3(signature = (
        min = -128, max = 127, *, quotient = "exact", rounding = "half-even", nan = "nan", gradient = "rounded", nan_gradient = "pass"
    ))]
    fn new(
        min: i64,
        max: i64,
        quotient: &str,
        rounding: &str,
        nan: &str,
        gradient: &str,
        nan_gradient: &str,
    ) -> PyResult<Self> {
        let parsed = || -> Result<_> {
            Ok(quantize::QuantRule {
                quotient: quotient.parse()?,
                rounding: rounding.parse()?,
                nan: nan.parse()?,
                gradient: gradient.parse()?,
                nan_gradient: nan_gradient.parse()?,
                ..quantize::QuantRule::EXACT
            })
        };
        let rule = parsed().map_err(|_| {
            PyValueError::new_err(format!(
                "no rule is quotient={quotient:?}, rounding={rounding:?}, nan={nan:?}, gradient={gradient:?}, \
                 nan_gradient={nan_gradient:?}: quotient is {}; rounding is {}; nan is {}; gradient is {}; nan_gradient is {}",
                names(quantize::Quotient::ALL),
                names(quantize::Rounding::ALL),
                names(quantize::NanCode::ALL),
                names(quantize::QuantGradient::ALL),
                names(wgclip::NanRule::ALL),
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

    fn __repr__(&self) -> String {
        format!(
            "QuantRule({}, {}, quotient={:?}, rounding={:?}, nan={:?}, gradient={:?}, nan_gradient={:?})",
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
