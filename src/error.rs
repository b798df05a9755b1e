//! The crate's only error type.

use crate::ElementType;

/// Everything that can go wrong, with what to do about it.
///
/// No public function panics on bad input, and a failed call changes neither tensors nor host data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A scalar bound is NaN, which can only be a mistake.
    #[error("the {operand} is NaN: give a number, or leave the bound out")]
    NanBound {
        /// `"lower bound"` or `"upper bound"`.
        operand: &'static str,
    },

    /// A scalar bound for integers is not a whole number.
    #[error("the {operand} is not a whole number, but the tensor holds {element}: give a whole one")]
    FractionalBound {
        /// `"lower bound"` or `"upper bound"`.
        operand: &'static str,
        /// The type of the elements.
        element: ElementType,
    },

    /// A scalar bound is outside the range of the type, on the side where no value could satisfy it.
    #[error(
        "the {operand} is outside the range of {element}, so no value could satisfy it: give one that fits"
    )]
    ImpossibleBound {
        /// `"lower bound"` or `"upper bound"`.
        operand: &'static str,
        /// The type of the elements.
        element: ElementType,
    },

    /// The data does not fill the shape.
    #[error("shape {shape:?} holds {expected} elements, but {actual} were given: make them agree")]
    LengthMismatch {
        /// The requested shape.
        shape: Vec<usize>,
        /// Elements that the shape holds.
        expected: usize,
        /// Elements that were given.
        actual: usize,
    },

    /// Two tensors of one operation differ in shape.
    #[error("shapes {left:?} and {right:?} differ: both tensors need the same shape")]
    ShapeMismatch {
        /// Shape of the first tensor.
        left: Vec<usize>,
        /// Shape of the second tensor.
        right: Vec<usize>,
    },

    /// The shape of a broadcast input, a tensor of bounds for example, does not broadcast to that of x.
    #[error(
        "the {operand}'s shape {from:?} does not broadcast to {shape:?}: each of its dimensions, counted from the last, must be the same or 1"
    )]
    BroadcastMismatch {
        /// `"lower bound"` or `"upper bound"`.
        operand: &'static str,
        /// Its shape.
        from: Vec<usize>,
        /// Shape of the tensor to clip.
        shape: Vec<usize>,
    },

    /// An axis that the tensor does not have, or that is given twice.
    #[error("invalid axes {axes:?} for shape {shape:?}: each must be less than the rank and appear once")]
    InvalidAxes {
        /// The axes.
        axes: Vec<usize>,
        /// Shape of the tensor.
        shape: Vec<usize>,
    },

    /// Broadcast inputs that vary along too many separate axes.
    #[error(
        "bounds broadcast to {shape:?} along {axes} separate axes, 8 are supported: give bounds of the tensor's own shape"
    )]
    TooManyAxes {
        /// Shape of the tensor to clip.
        shape: Vec<usize>,
        /// Axes that cannot be joined.
        axes: usize,
    },

    /// The gradient of an absent bound.
    #[error("there is no {operand}, so it has no gradient: do not ask for it, or give the bound")]
    NoBound {
        /// `"lower bound"` or `"upper bound"`.
        operand: &'static str,
    },

    /// An operation has no kernel for a rule.
    #[error("{op} has no kernel for the rule '{rule}': {advice}")]
    RuleWithoutKernel {
        /// The operation.
        op: &'static str,
        /// The rule.
        rule: String,
        /// What to do.
        advice: &'static str,
    },

    /// No rule or preset has this name.
    #[error(
        "no rule is called '{name}': BackwardRule::PRESETS and QuantRule::PRESETS list the presets, OutsideRule::ALL what else there is"
    )]
    UnknownRule {
        /// The name.
        name: String,
    },

    /// Codes of a [`QuantRule`](crate::quantize::QuantRule) that are no range of 16 bits.
    #[error(
        "no codes from {min} to {max}: give a least one that is not above the greatest, at most 65535 apart, and both between -65535 and 65535"
    )]
    QuantRange {
        /// The least code.
        min: i32,
        /// The greatest code.
        max: i32,
    },

    /// A soft cap that is not a positive finite f32.
    #[error("a soft cap of {cap}: give a positive finite number")]
    Cap {
        /// The cap.
        cap: String,
    },

    /// A text that is no [`ValueRange`](crate::quantize::ValueRange).
    #[error(
        "'{text}' is no range of values: give minmax, mse, a percentile such as p99.9, two such as p1..p99, or two numbers such as -1..1"
    )]
    UnknownRange {
        /// The text.
        text: String,
    },

    /// Values for which there are no [`QuantParams`](crate::quantize::QuantParams).
    #[error(
        "no scale covers the values from {lo} to {hi}: give finite ends, the lower one first, with a scale that f32 holds, and a rule of more codes than one"
    )]
    InvalidRange {
        /// The lower end.
        lo: String,
        /// The upper end.
        hi: String,
    },

    /// Elements to be covered by codes include NaN or infinity.
    #[error(
        "{count} elements are NaN or infinite, and no codes cover these: look for their source, or leave them out of the calibration"
    )]
    NonFiniteValues {
        /// How many.
        count: u64,
    },

    /// No kind of norm, policy or preset has this name.
    #[error(
        "unknown name '{name}': expected a norm (l1, l2, max), a policy (propagate, zero, skip, error) or a preset (torch, tensorflow, optax)"
    )]
    UnknownName {
        /// The name.
        name: String,
    },

    /// The limit of a norm, or the eps added to the norm, is invalid.
    #[error("invalid limit {limit} (eps {eps}): both must be at least 0, and eps finite")]
    InvalidLimit {
        /// The limit.
        limit: String,
        /// The eps added to the norm.
        eps: String,
    },

    /// A quantile whose share is not between 0 and 1.
    #[error("{share} is no share of elements: give quantiles of 0 to 1")]
    InvalidShare {
        /// The share.
        share: String,
    },

    /// Quantiles of elements that include no number.
    #[error("there are no numbers to take a quantile of: give a bound instead")]
    NoNumbers,

    /// A norm is NaN or infinite under [`NonFinitePolicy::Error`](crate::NonFinitePolicy::Error). The elements to be clipped by it are unchanged.
    #[error(
        "the norm of {what} is NaN or infinite, so nothing was clipped by it: look for the source of such elements, or choose what else becomes of them"
    )]
    NonFiniteNorm {
        /// What has this norm, as far as known.
        what: String,
    },

    /// Operands of one operation are of different types.
    #[error("operands of {left} and {right} do not mix: all of them need one type")]
    TypeMismatch {
        /// Type of the first operand.
        left: ElementType,
        /// Type of the other.
        right: ElementType,
    },

    /// Something that the device or the type cannot do.
    #[error("{what} is not supported on {device}: {instead}")]
    Unsupported {
        /// What was requested.
        what: String,
        /// The device.
        device: String,
        /// What to do.
        instead: String,
    },

    /// Two tensors of one operation live on different devices.
    #[error(
        "the tensors are on devices that were opened apart ({left} and {right}): use clones of one Device, or move one with to_vec() and Device::tensor()"
    )]
    DeviceMismatch {
        /// Device of the first tensor.
        left: String,
        /// Device of the second tensor.
        right: String,
    },

    /// More elements or bytes than can be addressed or held.
    #[error("{what} is larger than {limit}: split it and clip the parts")]
    TooLarge {
        /// What was requested.
        what: String,
        /// The limit that it breaks.
        limit: String,
    },

    /// No device matches the name or index.
    #[error("no device matches '{requested}'; available: {known}")]
    NoSuchDevice {
        /// The requested name or index.
        requested: String,
        /// The available devices.
        known: String,
    },

    /// A GPU adapter exists but could not be opened.
    #[error("could not open {device}: {reason}; update its driver, or use another device")]
    DeviceRequest {
        /// The adapter.
        device: String,
        /// What wgpu said.
        reason: String,
    },

    /// The GPU device was lost (driver reset, unplugged, destroyed). Every later call on it returns this error.
    #[error("the device {device} was lost ({reason}): open a new Device and upload again")]
    DeviceLost {
        /// The device.
        device: String,
        /// What the driver said.
        reason: String,
    },

    /// A wgpu buffer of the caller, or one that `Tensor::buffer` returned, cannot be used. The operations on it are
    /// skipped, and their outputs report the same error; the device stays usable.
    #[error(
        "a buffer of yours cannot be used on {device}: {reason}; it must be of this device, not mapped and not destroyed when what uses it is submitted"
    )]
    InvalidBuffer {
        /// The device.
        device: String,
        /// What wgpu said.
        reason: String,
    },

    /// A callback of the caller blocks the device for others. Recorded operations stay recorded.
    #[error("{device} is blocked: {reason}")]
    Blocked {
        /// The device.
        device: String,
        /// What blocks it.
        reason: String,
    },

    /// A buffer did not fit into the memory of the device or of the host.
    #[error("out of memory for {bytes} bytes on {device}: free tensors, or clip in smaller parts")]
    OutOfMemory {
        /// The device, or "the host".
        device: String,
        /// Size of the allocation that failed.
        bytes: u64,
    },

    /// An operation was called with operands that its row in the list does not have. No tensor method does that.
    #[error("{op} was called {what}: this is a bug of wgclip, please report it")]
    Internal {
        /// The operation.
        op: &'static str,
        /// How it was called.
        what: String,
    },

    /// wgpu or the driver refused a call that should have been valid.
    #[error(
        "{device} refused an operation: {reason}; this is a bug of wgclip or of the driver, please report it"
    )]
    Gpu {
        /// The device.
        device: String,
        /// What wgpu said.
        reason: String,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
