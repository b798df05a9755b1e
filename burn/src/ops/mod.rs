//! The operations of every backend, called through Burn's dispatch: kernels where they run, otherwise Burn's own operations.

mod autodiff;
pub mod composed;
mod cube;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType};
use wgclip::bounds::BroadcastInputs;
use wgclip::op::{self, MAX_BROADCAST, MAX_OUTPUTS, Op, Operand};
use wgclip::quantize::QuantRule;
use wgclip::{BackwardRule, Element, ElementType, Error, NormKind, NormLimit, Result, Shape, with_element};

/// Unwraps a result that was checked before.
fn checked<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("wgclip: {error}"))
}

/// The element type, if it has kernels.
pub(crate) fn element_of(dtype: DType) -> Option<ElementType> {
    match dtype {
        DType::F64 => Some(ElementType::F64),
        DType::F32 => Some(ElementType::F32),
        DType::F16 => Some(ElementType::F16),
        DType::BF16 => Some(ElementType::Bf16),
        _ => None,
    }
}

/// The type of the norm of elements of a type.
pub(crate) fn norm_dtype(elements: DType) -> FloatDType {
    if elements == DType::F64 { FloatDType::F64 } else { FloatDType::F32 }
}

/// A bound of a tensor.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Bound<B: Backend> {
    /// No bound: infinities stay.
    Absent,
    /// One value for all elements, rounded to their type.
    Value(f64),
    /// A tensor that broadcasts to the clipped one by numpy's rules.
    Tensor(FloatTensor<B>),
}

impl<B: Backend> Bound<B> {
    pub(crate) fn tensor(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The same with another tensor, and its shape.
    pub(crate) fn map<T>(
        &self,
        tensor: impl FnOnce(&FloatTensor<B>) -> Result<(T, Shape)>,
    ) -> Result<Input<T>> {
        Ok(match self {
            Self::Absent => wgclip::Bound::Absent,
            Self::Value(value) => wgclip::Bound::Value(*value),
            Self::Tensor(of) => wgclip::Bound::Tensor(tensor(of)?),
        })
    }
}

/// A broadcast input as an engine takes it.
pub(crate) type Input<T> = wgclip::Bound<f64, (T, Shape)>;

/// The broadcast inputs of an operation, in the order of the list: absent beyond those.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Broadcast<B: Backend> {
    /// The first.
    #[extension_type]
    pub first: Bound<B>,
    /// The second.
    #[extension_type]
    pub second: Bound<B>,
    /// The third.
    #[extension_type]
    pub third: Bound<B>,
    /// The fourth.
    #[extension_type]
    pub fourth: Bound<B>,
}

impl<B: Backend> Broadcast<B> {
    /// Takes up to four.
    pub fn new(inputs: impl IntoIterator<Item = Bound<B>>) -> Self {
        let mut inputs = inputs.into_iter();
        let [first, second, third, fourth] = std::array::from_fn(|_| inputs.next().unwrap_or(Bound::Absent));
        Self { first, second, third, fourth }
    }

    /// All four.
    fn each_ref(&self) -> [&Bound<B>; MAX_BROADCAST] {
        [&self.first, &self.second, &self.third, &self.fourth]
    }

    /// All four.
    pub fn into_array(self) -> [Bound<B>; MAX_BROADCAST] {
        [self.first, self.second, self.third, self.fourth]
    }
}

/// A tensor that may be absent: the upstream gradient of a forward pass, an output that is not needed.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Optional<B: Backend> {
    /// Absent.
    None,
    /// The tensor.
    Some(FloatTensor<B>),
}

impl<B: Backend> From<Option<FloatTensor<B>>> for Optional<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::None, Self::Some)
    }
}

impl<B: Backend> Optional<B> {
    /// As an [`Option`].
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::None => None,
            Self::Some(tensor) => Some(tensor),
        }
    }
}

/// The outputs of an operation, in the order of the list: those that are needed. The gradient of a broadcast input has its shape, `[1]` for a
/// value.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Outputs<B: Backend> {
    /// The first.
    #[extension_type]
    pub first: Optional<B>,
    /// The second.
    #[extension_type]
    pub second: Optional<B>,
    /// The third.
    #[extension_type]
    pub third: Optional<B>,
    /// The fourth.
    #[extension_type]
    pub fourth: Optional<B>,
}

impl<B: Backend> Outputs<B> {
    fn new(outputs: [Option<FloatTensor<B>>; MAX_OUTPUTS]) -> Self {
        let [first, second, third, fourth] = outputs.map(Optional::from);
        Self { first, second, third, fourth }
    }

    /// All four.
    pub fn into_array(self) -> [Option<FloatTensor<B>>; MAX_OUTPUTS] {
        [self.first, self.second, self.third, self.fourth].map(Optional::into_option)
    }

    /// The first.
    fn into_first(self) -> FloatTensor<B> {
        let Optional::Some(first) = self.first else { panic!("wgclip: an operation without its output") };
        first
    }
}

/// An operation of the list, with the arguments that are no tensors.
#[derive(Debug, Clone)]
pub struct Call {
    /// The operation.
    pub op: Op,
    /// Which outputs are needed.
    pub needs: [bool; MAX_OUTPUTS],
    /// The rule for gradients.
    pub rule: BackwardRule,
    /// How values are quantised.
    pub quant: QuantRule,
    /// The parameters.
    pub params: Vec<f64>,
    /// The type of the output of a conversion.
    pub to: Option<DType>,
}

impl Call {
    /// A call for the first output, of an operation that takes bounds and a rule.
    pub fn new(op: Op, rule: BackwardRule) -> Self {
        let needs = std::array::from_fn(|index| index == 0);
        Self { op, needs, rule, quant: QuantRule::default(), params: Vec::new(), to: None }
    }

    /// Whether the gradient of x depends on x.
    fn needs_x(&self) -> bool {
        !(self.op == Op::Clip && self.rule.is_identity())
    }

    /// Whether the gradients are computed from the result instead of x.
    pub(crate) fn needs_y(&self) -> bool {
        let backward = self.backward(true, [false; MAX_BROADCAST]);
        backward.is_some_and(|backward| backward.op.info().inputs.contains(&Operand::Y))
    }

    /// The call for the gradients of x and of broadcast inputs, as they are needed. `None` for an operation that [`ClipOps::recorded`] does not take.
    pub fn backward(&self, of_x: bool, of_inputs: [bool; MAX_BROADCAST]) -> Option<Self> {
        let op = match self.op {
            Op::Clip if !of_inputs.contains(&true) => Op::ClipBackward,
            Op::Clip => Op::ClipBackwardBounds,
            Op::HardShrink => Op::HardShrinkBackward,
            Op::LeakyClip => Op::LeakyClipBackward,
            Op::FakeQuantize => Op::FakeQuantizeBackward,
            Op::Tanh => Op::TanhBackward,
            Op::SoftCap => Op::SoftCapBackward,
            Op::Sigmoid => Op::SigmoidBackward,
            _ => return None,
        };
        let mut call = Self { op, needs: [true; MAX_OUTPUTS], ..self.clone() };
        let outputs: Vec<_> = call.outputs().collect();
        call.needs = [false; MAX_OUTPUTS];
        for (index, of) in outputs {
            call.needs[index] = of.map_or(of_x, |of| of_inputs[of]);
        }
        Some(call)
    }

    /// The type of an output.
    fn to(&self, x: DType) -> DType {
        self.to.filter(|_| self.op.info().converts).unwrap_or(x)
    }

    /// The arguments for an engine.
    fn arguments<'a, B>(&'a self, x: DType, broadcast: &'a BroadcastInputs<B>) -> op::Arguments<'a, B> {
        let (rule, quant, params, to) = (self.rule, self.quant, &self.params, element_of(self.to(x)));
        op::Arguments { rule, quant, params, to, ..op::Arguments::new(broadcast) }
    }

    /// The outputs that are needed, each with its index and the broadcast input whose gradient it is.
    fn outputs(&self) -> impl Iterator<Item = (usize, Option<usize>)> {
        let info = self.op.info();
        let of = |of: Operand| info.broadcast.iter().position(|&input| input == of);
        let outputs = info.outputs.iter().enumerate().filter(|&(index, _)| self.needs[index]);
        outputs.map(move |(index, output)| (index, output.gradient_of().and_then(of)))
    }
}

/// Broadcast inputs of x, each rounded to its type. `operand` converts a tensor to an operand.
///
/// # Errors
/// [`Error::NanBound`], [`Error::BroadcastMismatch`] or [`Error::TooManyAxes`].
pub(crate) fn resolve<'a, S, T>(
    op: Op,
    element: ElementType,
    x: &Shape,
    inputs: &'a [Input<S>],
    operand: impl Fn(&'a S) -> T,
) -> Result<BroadcastInputs<T>> {
    let row = op.info().broadcast;
    let bits = |(input, of): (&'a Input<S>, &Operand)| match input {
        wgclip::Bound::Value(value) if value.is_nan() => Err(Error::NanBound { operand: of.noun() }),
        wgclip::Bound::Value(value) => Ok(wgclip::Bound::Value(
            with_element!(element, E => <E as Element>::to_bits(Element::from_f64(*value))),
        )),
        wgclip::Bound::Tensor((tensor, shape)) => Ok(wgclip::Bound::Tensor((operand(tensor), shape))),
        wgclip::Bound::Absent => Ok(wgclip::Bound::Absent),
    };
    let inputs = inputs.iter().zip(row).map(bits).collect::<Result<Vec<_>>>()?;
    BroadcastInputs::of_bits(element, row, x, inputs)
}

/// A clipped tensor, and one bit per element: whether the gradient passes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Masked<B: Backend> {
    /// The clipped elements.
    pub y: FloatTensor<B>,
    /// The bits, in a format of the backend's own.
    pub mask: IntTensor<B>,
}

/// A norm and its scaling.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Limited<B: Backend> {
    /// The norm, of shape `[1]`.
    pub norm: FloatTensor<B>,
    /// The scaling of the elements, in a format of the backend's own.
    pub scaling: IntTensor<B>,
}

/// The operations of wgclip on a Burn backend. Use the functions of the crate, which check the operands and dispatch to
/// these.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait ClipOps: Backend {
    /// The output of an operation of one input whose gradients are in the list: [`Op::Clip`], [`Op::HardShrink`], [`Op::LeakyClip`],
    /// [`Op::FakeQuantize`], [`Op::Tanh`], [`Op::SoftCap`] and [`Op::Sigmoid`]. Autodiff records it.
    #[fusion(dtype = x, shape = x)]
    fn recorded(
        x: FloatTensor<Self>,
        #[extension_type] broadcast: Broadcast<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        Self::run(x, Optional::None, broadcast, call).into_first()
    }

    /// Runs an operation of the list: its first input, the second if there is one, its broadcast inputs, and the other arguments. Autodiff does
    /// not record it.
    #[fusion(meta = composed::outputs_metadata)]
    fn run(
        x: FloatTensor<Self>,
        #[extension_type] g: Optional<Self>,
        #[extension_type] broadcast: Broadcast<Self>,
        call: Call,
    ) -> Outputs<Self>;

    /// A clip that keeps a mask, for a rule that [fits one](BackwardRule::fits_mask).
    #[fusion(meta = |x, _, _, _| cube::masked_metadata(x))]
    fn clip_with_mask(
        x: FloatTensor<Self>,
        #[extension_type] lo: Bound<Self>,
        #[extension_type] hi: Bound<Self>,
        rule: BackwardRule,
    ) -> Masked<Self>;

    /// The gradient of the clipped tensor.
    #[fusion(dtype = g, shape = g)]
    fn mask_backward(g: FloatTensor<Self>, mask: IntTensor<Self>) -> FloatTensor<Self>;

    /// The exact sum for a norm of x, in a format of the backend's own.
    #[fusion(meta = |_, kind| cube::sum_spec(*kind))]
    fn start_norm(x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self>;

    /// Adds the elements of x to a sum, possibly in place.
    #[fusion(dtype = sum, shape = sum)]
    fn add_norm(sum: IntTensor<Self>, x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self>;

    /// Rounds the sum to a norm, an f32 or an f64, and computes the scaling.
    #[fusion(meta = |_, _, to| cube::limited_metadata(*to))]
    fn limit_norm(sum: IntTensor<Self>, limit: NormLimit, to: FloatDType) -> Limited<Self>;

    /// Scales elements.
    #[fusion(dtype = x, shape = x)]
    fn scale(x: FloatTensor<Self>, scaling: IntTensor<Self>) -> FloatTensor<Self>;

    /// x, scaled so that its 2-norm is at most a limit.
    #[fusion(dtype = x, shape = x)]
    fn clip_by_norm(x: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self> {
        let to = norm_dtype(x.dtype());
        let Limited { scaling, .. } = Self::limit_norm(Self::start_norm(x.clone(), limit.kind), limit, to);
        Self::scale(x, scaling)
    }

    /// The gradient of x, which is scaled by its own 2-norm, for the upstream gradient `g`.
    #[fusion(dtype = x, shape = x)]
    fn scale_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self>;

    /// The softmax of x along some axes.
    #[fusion(dtype = x, shape = x)]
    fn softmax_along(x: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self>;

    /// The gradient of what became y by a softmax along some axes, for the upstream gradient `g`.
    #[fusion(dtype = y, shape = y)]
    fn softmax_backward(y: FloatTensor<Self>, g: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self>;
}
