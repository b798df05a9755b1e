//! Mutation testing of the kernels: each fault planted here must be caught by the table of its operation. Some are derived
//! from the rows of the list, so that every operation has some.

use std::borrow::Cow;

use wgclip::op::{Codes, Operand};

use wgclip::ElementType::{
    self, Bf16, F8E4M3Fn, F8E5M2, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64,
};
use wgclip::op::Op::{
    self, Affine, Clip, ClipBackward, ClipBackwardBounds, ClipByGlobalNorm, ClipByNorm, ClipByNormBackward,
    ClipTo, ClipWithMask, Dequantize, FakeQuantize, FakeQuantizeBackward, MaskBackward, Norm, Pack4,
    Quantize, Sigmoid, SigmoidBackward, SoftCap, SoftCapBackward, Softmax, SoftmaxBackward, Sum, Tanh,
    TanhBackward, Unpack4,
};

/// A fault: a text replacement in the composed shaders.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Its effect.
    pub name: Cow<'static, str>,
    /// The operation whose table must catch it.
    pub op: Op,
    /// The type that reveals it.
    pub element: ElementType,
    /// The shader text to replace.
    pub find: Cow<'static, str>,
    /// The replacement.
    pub replace: Cow<'static, str>,
}

/// The faults of the table, and those derived from the rows of the list.
pub fn mutations() -> impl Iterator<Item = Mutation> {
    MUTATIONS.iter().cloned().chain(Op::ELEMENTWISE.iter().flat_map(|&op| of_row(op)))
}

/// Lost operands: an output that is not written, an input or a parameter that is not read.
fn of_row(op: Op) -> Vec<Mutation> {
    let info = op.info();
    let mut faults = Vec::new();
    // Conversions have their own loop.
    for output in info.outputs.iter().filter(|&&output| output != Operand::Mask && !info.converts) {
        let name = output.name();
        let value = if info.outputs.len() == 1 { "result".to_owned() } else { format!("result.{name}") };
        faults.push((format!("{name} not written"), format!("{name}_blocks[i] = {value};"), String::new()));
    }
    if let [x @ (Operand::X | Operand::Y), Operand::G] = info.inputs {
        let x = format!("{}_blocks[i]", x.name());
        let read = format!("let result = {op}({x}, ");
        faults.push(("g not read".into(), format!("{read}g_blocks[i]"), format!("{read}{x}")));
    }
    for (index, input) in info.broadcast.iter().enumerate().filter(|(_, input)| !input.is_bound()) {
        let (name, value) = (input.name(), format!("params.values[{index}].xy"));
        // Beside codes it is one word.
        let (read, zero) = match info.codes {
            Codes::None => (format!("splat({value})"), "vec4(0u)"),
            _ => (value, "vec2(0u)"),
        };
        let of = |value: &str| format!("let {name} = {value};");
        faults.push((format!("{name} not read"), of(&read), of(zero)));
    }
    if !info.params.is_empty() {
        let read = "let scalars = params.scalars;".to_owned();
        faults.push(("parameters not read".into(), read, "let scalars = vec4(0u);".into()));
    }
    let mutation = |(name, find, replace): (String, String, String)| Mutation {
        name: name.into(),
        op,
        element: if info.codes == Codes::Input { I8 } else { F32 },
        find: find.into(),
        replace: replace.into(),
    };
    faults.into_iter().map(mutation).collect()
}

const fn mutation(
    op: Op,
    element: ElementType,
    name: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Mutation {
    Mutation {
        name: Cow::Borrowed(name),
        op,
        element,
        find: Cow::Borrowed(find),
        replace: Cow::Borrowed(replace),
    }
}

/// Faults at one position each, with the operation and the type that reveal them.
#[rustfmt::skip]
const MUTATIONS: &[Mutation] = &[
    mutation(ClipBackward, F32, "less taken for less or equal", "compare_key(a) < compare_key(b)", "compare_key(a) <= compare_key(b)"),
    mutation(Clip, F32, "bounds swapped", "splat(params.values[0].xy),\n        splat(params.values[1].xy)", "splat(params.values[1].xy),\n        splat(params.values[0].xy)"),
    mutation(Clip, F32, "last block lost", "if i < blocks", "if i + 1u < blocks"),
    mutation(ClipWithMask, F32, "the last words of a mask lost", "block_of(invocation, 0u, BLOCKS_PER_MASK_WORD) >= blocks", "block_of(invocation, 1u, BLOCKS_PER_MASK_WORD) >= blocks"),
    mutation(Clip, F32, "rows of workgroups ignored", "id.y * params.stride + id.x", "id.x"),
    mutation(Clip, F32, "absent bound taken for one", "return in_range(v, bounds.ranges.zw);", "return in_range(v, bounds.ranges.zw) | ((v == vec4(MAX_NUMBER)) & !bounds.has_hi);"),
    mutation(Clip, F32, "a range too long", "< vec4(i32(range.y))", "<= vec4(i32(range.y))"),
    mutation(Clip, I16, "ranges that begin at the first key", "order_key(v) - vec4(range.x)", "order_key(v) ^ vec4(SIGN)"),
    mutation(Clip, F16, "negatives in the wrong order", "return v ^ (vec4<u32>(vec4<i32>(v) >> vec4(31u)) & vec4(MAGNITUDE));", "return v;"),
    mutation(Clip, F32, "NaN taken for a number", "lo_is_nan(bounds)) & !is_nan(v)", "lo_is_nan(bounds))"),
    mutation(Clip, F64, "wide NaN taken for a number", "(less(v, bounds.lo) | lo_is_nan(bounds)) & !is_nan(v)", "(less(v, bounds.lo) | lo_is_nan(bounds))"),
    mutation(Clip, F32, "NaN bounds dropped", "less(v, bounds.lo) | lo_is_nan(bounds)", "less(v, bounds.lo)"),
    mutation(Clip, F32, "the second NaN comes out", "& !is_nan(v) & !lo_is_nan(bounds);", "& !is_nan(v);"),
    mutation(Clip, F32, "crossed bounds give the lower", "return bounds.clamped_lo;", "return bounds.lo;"),
    mutation(Clip, F32, "crossed tensors give the lower", "select(bounds.lo, bounds.hi, crossed)", "bounds.lo"),
    mutation(Clip, F32, "NaN quieted", "return clip_subword(x, bounds);", "let y = clip_subword(x, bounds); return select(y, y | vec4(0x400000u), is_nan(y));"),
    mutation(Clip, F32, "subnormals flushed", "return clip_subword(x, bounds);", "return clip_subword(select(x, vec4(0u), (x & vec4(MAGNITUDE)) < vec4(MIN_NORMAL)), bounds);"),
    mutation(ClipBackward, F32, "minus zero below zero", "-magnitude,", "-magnitude - vec4(1),"),
    mutation(Clip, F32, "not in place", "clip(y_blocks[i], bounds)", "y_blocks[i]"),
    mutation(ClipBackwardBounds, F32, "gradient multiplied by a mask", "let rest = select(inside, zero, above);", "let rest = bitcast<vec4<u32>>(bitcast<vec4<f32>>(inside) * select(vec4(1.0), vec4(0.0), above));"),
    mutation(ClipBackward, F32, "ties mistaken", "TIES_EXCLUSIVE: u32 = 0x1u", "TIES_EXCLUSIVE: u32 = 0x3u"),
    mutation(ClipBackward, F32, "halves truncated", "return floor + (floor & v & vec4(LANE_LSB));", "return floor;"),
    mutation(ClipBackward, F32, "toward the wrong way", "less(zero, g)", "less(g, zero)"),
    mutation(ClipBackward, F32, "NaN gradient policy ignored", "select(g, zero, rule.nan_zero)", "g"),
    mutation(ClipBackward, U8, "absent bound ties", "bounds.has_lo & equal", "vec4(true) & equal"),
    mutation(Clip, I16, "subwords in the wrong order", "return (block << ", "return (block >> "),
    mutation(Clip, U8, "subwords not masked", "& vec4(~(LANE_LSB - 1u));", ";"),
    mutation(ClipBackward, U32, "unsigned taken for signed", "select(v ^ vec4(SIGN), v, SIGNED)", "v"),
    mutation(Clip, I64, "low word ignored", "((ka.high == kb.high) & (ka.low < kb.low))", "vec2(false)"),
    mutation(Clip, F64, "borrow of a wide negative lost", "select(vec2(0u), vec2(1u), low == vec2(0u))", "vec2(0u)"),
    mutation(Clip, F64, "NaN in the low word missed", "(infinity & (v.xz != vec2(0u)))", "vec2(false)"),
    mutation(ClipBackward, U64, "carry of a wide half lost", "rounded < low", "vec2(false)"),
    mutation(ClipBackwardBounds, I16, "other half rounded too", "    return v - half;", "    return half;"),
    mutation(Clip, F32, "strides of the bounds swapped", "position.elements += vec4(at) * params.strides[a - 1u];", "position.elements += vec4(at) * params.strides[a - 1u].yxzw;"),
    mutation(Clip, F32, "no carry from axis to axis", "carry = select(0u, 1u, at >= axis.x);", "carry = 0u;"),
    mutation(Clip, F32, "a dispatch that begins at the first element", "axis.y + rest % axis.x", "rest % axis.x"),
    mutation(Clip, F32, "rows of a dispatch that begin at the first", "params.axes[0].y + n / blocks", "n / blocks"),
    mutation(Clip, U8, "columns of the wrong width", "n % blocks", "n % (blocks + 1u)"),
    mutation(Clip, I16, "one bound for a few of its elements", "return vec4(element.x * (MAX / (MAX >> LANE_SHIFT)));", "return vec4(element.x);"),
    mutation(Clip, F32, "a row too long", "(*position).at[a - 1u] < length", "(*position).at[a - 1u] <= length"),
    mutation(ClipWithMask, F32, "mask bits shifted", "bits |= result.mask << ", "bits |= result.mask >> "),
    mutation(ClipWithMask, F32, "mask of a tie mistaken", "if TIES == TIES_EXCLUSIVE {\n        let", "if true {\n        let"),
    mutation(MaskBackward, F32, "words of the mask mixed up", "bits = mask_blocks[invocation];", "bits = mask_blocks[invocation ^ 1u];"),
    mutation(ClipBackward, F8E4M3Fn, "the greatest number not halved", "top > vec4(MAX_FINITE)", "top >= vec4(MAX_FINITE)"),
    mutation(Clip, F8E5M2, "infinity taken for NaN", "vec4(i32(MAX_NUMBER))", "vec4(i32(MAX_FINITE))"),
    mutation(MaskBackward, F32, "a mask not applied in place", "let result = mask_backward(bits >> (n * SUBWORDS * LANES_PER_SUBWORD), gx_blocks[i]);", "let result = gx_blocks[i];"),
    mutation(ClipBackward, F32, "the gradient not taken in place", "let result = clip_backward(x_blocks[i], gx_blocks[i], bounds, rule);", "let result = gx_blocks[i];"),
    mutation(ClipBackwardBounds, F32, "the lower bound's gradient in the upper's place", "ghi_blocks[i] = result.ghi;", "ghi_blocks[i] = result.glo;"),
    mutation(ClipBackwardBounds, F32, "toward for the bounds too", "bound_share(rest), ties_lo), rest, below)", "bound_share(to_t), ties_lo), to_t, below)"),
    mutation(ClipBackwardBounds, F32, "the last NaN supplies the output", "let nan_hi = hi_is_nan(bounds) & !nan_lo;", "let nan_hi = hi_is_nan(bounds);"),
    mutation(ClipBackwardBounds, F32, "the upper bound's gradient in the lower's place", "glo_blocks[i] = result.glo;", "glo_blocks[i] = result.ghi;"),
    mutation(Tanh, F32, "the remainder not looked at", "let exact = digits + select(0u, 1u, more) - (rest.y >> 31u);", "let exact = digits;"),
    mutation(Tanh, F32, "a power of two wrong in its 24th bit", "0xb504f333u", "0xb504f233u"),
    mutation(Tanh, F32, "an odd function taken for even", "round_word(value >= SIGN, y.word", "round_word(false, y.word"),
    mutation(Tanh, F32, "small numbers not themselves", "(size < 0x39800000u) | (size > F32_INFINITY)", "size > F32_INFINITY"),
    mutation(Tanh, F32, "digits taken for the whole quotient", "Quotient((exact << 6u) | 1u,", "Quotient((exact << 6u),"),
    mutation(SoftCap, F32, "a tangent not rounded to nearest", "(y.word >> 4u) | 1u)", "(y.word >> 4u) & 0xfffffff8u)"),
    mutation(SoftCapBackward, F32, "no quotient", "let t = select(ratio, F32_ONE, beyond);", "let t = to_f32(element_of(y, e).x);"),
    mutation(Sigmoid, F32, "a NaN computed", "element, size > F32_INFINITY);", "element, false);"),
    mutation(Sigmoid, F32, "ties near 1/2 taken for ties", "let sticky = select(0u, 1u, size > 0u);", "let sticky = 0u;"),
    mutation(Sigmoid, F32, "no subnormal results", "let dropped = min(30u - fraction + u32(clamp(least - exponent, 0, 31)), 31u);", "let dropped = 30u - fraction;"),
    mutation(TanhBackward, F32, "what lies below 96 bits of a product lost", "let below = ((top.y << up) | top.z) != 0u;", "let below = false;"),
    mutation(TanhBackward, F32, "a result beyond 1 taken for one", "(y > F32_ONE))", "false)"),
    mutation(SigmoidBackward, F32, "what falls off is nothing", ") != 0u;\n    let borrow", ") > MAGNITUDE;\n    let borrow"),
    mutation(SigmoidBackward, F32, "infinity by 0 taken for 0", "(zero & infinite));", "false);"),
    mutation(ClipTo, F32, "beyond the range to infinity", "narrow(value, TO_MAX_FINITE, TO_MAX_NUMBER)", "narrow(value, TO_MAX_FINITE + 1u, TO_MAX_NUMBER)"),
    mutation(ClipTo, F32, "infinity saturates too", "narrow(value, TO_MAX_FINITE, TO_MAX_NUMBER)", "narrow(value, TO_MAX_FINITE, TO_MAX_FINITE)"),
    mutation(ClipTo, F64, "rounded twice", "value = f64_to_f32(element, TO_BITS != 32u);", "value = f64_to_f32(element, false);"),
    mutation(ClipTo, F64, "an f32 that is odd", "value = f64_to_f32(element, TO_BITS != 32u);", "value = f64_to_f32(element, true);"),
    mutation(ClipTo, F64, "subnormals of f32 flushed", "let normal = max(exponent, 897u);", "if exponent < 897u { return sign; } let normal = max(exponent, 897u);"),
    mutation(ClipTo, F32, "subnormals not normal as f64", "exponent = 1u - up;", "exponent = 1u;"),
    mutation(ClipTo, F32, "NaN without its sign", "return sign | select(infinite, TO_QUIET_NAN, size > F32_INFINITY);", "return select(sign | infinite, TO_QUIET_NAN, size > F32_INFINITY);"),
    mutation(ClipTo, F32, "not clipped", "let result = clip(x_blocks[i], bounds);", "let result = x_blocks[i];"),
    mutation(ClipTo, F64, "the second block lost", "for (var b = 0u; b < GROUP; b++)", "for (var b = 0u; b < 1u; b++)"),
    mutation(ClipTo, F64, "half a word lost", "if shift > 0u && at <", "if false && at <"),
    mutation(Quantize, F32, "a NaN scale taken for a number", "is_nan_f32(value) || is_nan_f32(of_scale.x) || nan_zero", "is_nan_f32(value) || nan_zero"),
    mutation(Quantize, F16, "steps for codes", "var q = code.steps + code.zero;", "var q = code.steps;"),
    mutation(Quantize, F16, "codes with the bits of others", "bitcast<u32>(q) & (0xffffffffu >> (32u - min(to_bits(), 32u)))", "bitcast<u32>(q)"),
    mutation(Quantize, Bf16, "one scale for a block", "                    advance(&position);\n", ""),
    mutation(Dequantize, I8, "codes without their sign", "q = bitcast<i32>(code.x << LANE_SHIFT) >> LANE_SHIFT;", "q = bitcast<i32>(code.x);"),
    mutation(Dequantize, I32, "a product without its upper bits", "(high.y << 16u) | (high.x >> 16u)", "high.y << 16u"),
    mutation(Dequantize, I32, "codes of 24 bits", "product_48(steps >> 16u, significand)", "product_48((steps >> 16u) & 0xffu, significand)"),
    mutation(Dequantize, U16, "the sign of a product lost", "let negative = below != (of_scale.x >= SIGN);", "let negative = below;"),
    mutation(Quantize, F32, "codes of floats without what is below", "(digits.x << 1u) | select(0u, 1u, digits.y != 0u)", "digits.x << 1u"),
    mutation(Quantize, F32, "codes of floats beyond the range", "return sign | min(code.x, TO_MAX_FINITE);", "return sign | code.x;"),
    mutation(Quantize, F16, "codes of floats without a sign", "let sign = ((x ^ divisor) >> 31u)", "let sign = (x >> 31u)"),
    mutation(Dequantize, F8E4M3Fn, "values of floats without an exponent", "parts.exponents.x + parts.exponents.y - 254 - 3", "parts.exponents.x + parts.exponents.y - 254 - 2"),
    mutation(Dequantize, F8E5M2, "infinity times 0", "greatest > F32_INFINITY || (greatest == F32_INFINITY && least == 0u)", "greatest > F32_INFINITY"),
    mutation(Affine, F32, "offset forgotten", "add_f32(mul_f32(value, scalars.x), scalars.y)", "mul_f32(value, scalars.x)"),
    mutation(Affine, F32, "products truncated", "let up = select(0u, 1u, dropped > 4u || (dropped == 4u && (kept & 1u) == 1u));", "let up = 0u;"),
    mutation(Affine, F16, "NaN made canonical", "select(mapped, element, vec2((value & MAGNITUDE) > F32_INFINITY))", "mapped"),
    mutation(Affine, Bf16, "subnormal products flushed", "if exponent < 1 {", "if exponent < 1 { return sign;"),
    mutation(Quantize, F32, "4-bit floats with ties to odd", "size >= vec4(6u, 14u, 28u, 0xffffffffu)", "size > vec4(6u, 14u, 28u, 0xffffffffu)"),
    mutation(Quantize, F16, "4-bit floats without the rest of a quotient", "vec4(2u * ratio.whole + select(0u, 1u, ratio.part != 0u))", "vec4(2u * ratio.whole)"),
    mutation(Quantize, F32, "4-bit floats of a rounded quotient a quarter too small", "min(size + 0x1000000u, F32_INFINITY)", "size"),
    mutation(Dequantize, U8, "a subnormal 4-bit float taken for a normal one", "select(normal, 0x3f000000u, magnitude == 1u)", "normal"),
    mutation(Quantize, F32, "random numbers of a seed of one word", "params.random.xy", "vec2(params.random.x, 0u)"),
    mutation(Quantize, F32, "a fraction without its first digits", "(ratio.fraction << 16u) | next.x", "next.x"),
    mutation(FakeQuantize, F32, "one random number for a block", "(block << shift) + at.y", "(block << shift)"),
    mutation(FakeQuantize, F32, "random numbers that begin anew in each dispatch", "params.random.z + at.x", "at.x"),
    mutation(FakeQuantizeBackward, F32, "a random fraction cut off", "(significand >> lost) << (max(exponent, 118u) - 118u)", "(significand >> lost)"),
    mutation(Pack4, U16, "all bits of a code", "(pair.x & 0xfu)", "(pair.x & 0xffu)"),
    mutation(Unpack4, U8, "negative codes without their sign", "pair | ((pair & sign) * 0x1eu)", "pair"),
    mutation(Unpack4, U8, "unsigned codes with a sign", "select(0u, 0x808u, codes.x < 0)", "0x808u"),
    mutation(FakeQuantize, F32, "halves up", "half_up = (ratio.whole & 1u) == 1u;", "half_up = true;"),
    mutation(FakeQuantize, F32, "an estimate that is one too low", "let more = rest >= significand;", "let more = false;"),
    mutation(FakeQuantize, F32, "greater quotients beyond all codes", "let far = exponent > 17 ||", "let far = exponent > 12 ||"),
    mutation(FakeQuantize, F32, "codes not clipped", "code.steps = clamp(unclipped, codes.x, codes.y) - zero;", "code.steps = unclipped - zero;"),
    mutation(FakeQuantize, F32, "the zero point not clipped", "clamp(integer_of(ratio_of(zero_point), HALF_EVEN, 0u), codes.x, codes.y)", "integer_of(ratio_of(zero_point), HALF_EVEN, 0u)"),
    mutation(FakeQuantize, Bf16, "a NaN of the zero point dropped", "code.from_zero = is_nan_f32(zero_point)", "code.from_zero = false"),
    mutation(FakeQuantizeBackward, F16, "0 by 0 beyond all codes", "| F32_INFINITY, 0u, (x & MAGNITUDE) == 0u);", "| F32_INFINITY, F32_INFINITY, (x & MAGNITUDE) == 0u);"),
    mutation(FakeQuantize, F16, "values of short floats truncated", "let product = u32(abs(steps)) * significand;", "let product = (u32(abs(steps)) * significand) & 0xfffffff0u;"),
    mutation(FakeQuantizeBackward, F32, "the greatest code outside", "unclipped <= codes.y;", "unclipped < codes.y;"),
    mutation(FakeQuantizeBackward, F32, "the least code inside", "codes.x < unclipped &&", "codes.x <= unclipped &&"),
    mutation(FakeQuantizeBackward, F32, "compared when rounded down", "&& up <= codes.y - zero;", "&& down <= codes.y - zero;"),
    mutation(FakeQuantizeBackward, F32, "a quotient of floats truncated", "second.x | select(0u, 1u, second.y != 0u)", "second.x"),
    mutation(FakeQuantizeBackward, F32, "the zero point's gradient with the wrong sign", "mul_f32(upstream, of_scale ^ SIGN)", "mul_f32(upstream, of_scale)"),
    mutation(FakeQuantizeBackward, F32, "NaN that passes", "code.nan_x && NAN_PASSES", "code.nan_x"),
    mutation(Sum, F32, "a carry between limbs lost", "select(before + value < value, before < value, negative)", "false"),
    mutation(Sum, F32, "a borrow taken for a carry", "select(before + value < value, before < value, negative)", "before + value < value"),
    mutation(Sum, F32, "a carry of a window lost", "let c1 = select(vec4(0u), vec4(1u), (s1 < a1) | (t1 < c0));", "let c1 = vec4(0u);"),
    mutation(Sum, F32, "complements without their one", "(*window).negatives -= flip;", ""),
    mutation(Sum, F32, "further windows forgotten", "highest = select(highest, high, distance == 0);", ""),
    mutation(Sum, F32, "lower windows forgotten", "lowest = select(lowest, low, distance == 0);", ""),
    mutation(Sum, F32, "a term in the wrong half of a window", "let far = (shift & vec4(32)) != vec4(0);", "let far = vec4(false);"),
    mutation(Sum, F32, "NaN forgotten", "select(infinity, vec4(MET_NAN), nan)", "select(infinity, vec4(0u), nan)"),
    mutation(Sum, F32, "infinities of both signs", "(flags & both) == both", "false"),
    mutation(Sum, F32, "the ends of a row forgotten", "end = end_block(work, n, lane, false);", ""),
    mutation(Sum, F32, "what is beyond a row", "if start + e >= row_begin && start + e < row_end {", "if true {"),
    mutation(Sum, F32, "parts that overlap", "+ lane % GROUP, first + end, GROUP", "+ lane % GROUP, first + end + 1u, GROUP"),
    mutation(Sum, F32, "a carry of a workgroup lost", "value = select(0u, 1u, before + value < value);", "value = 0u;"),
    mutation(Sum, F32, "ties away from even", "rest == 3u || (rest == 2u && (value.x & 1u) == 1u)", "rest >= 2u"),
    mutation(Sum, F32, "the sticky bit lost", "significand | vec2(select(0u, 1u, sticky), 0u)", "significand"),
    mutation(Sum, F32, "axes taken for each other", "if axis.z != 0u {", "if axis.z == 0u {"),
    mutation(Sum, F16, "subnormal terms flushed", "max(exponent, vec4(1u))", "exponent"),
    mutation(Sum, F16, "columns of the other subword", "at += vec4(work.subword)", "at += vec4(SUBWORDS - 1u - work.subword)"),
    mutation(Sum, F64, "low words of f64 forgotten", "select(vec4(0u), low, finite)", "vec4(0u)"),
    mutation(Sum, F8E4M3Fn, "a sum beyond the range saturates", "let bits = min(value.x + (biased << (fraction & 31u)), TO_MAX_FINITE + 1u);", "let bits = min(value.x + (biased << (fraction & 31u)), TO_MAX_FINITE);"),
    mutation(Sum, I8, "a sum wraps", "select(min(magnitude.x, reach), reach, beyond)", "magnitude.x"),
    mutation(Sum, U64, "a wide sum wraps", "vec2(beyond || less64(reach, magnitude))", "vec2(false)"),
    mutation(Sum, I64, "signs forgotten", "let negative = (high >= vec4(SIGN)) & vec4(SIGNED);", "let negative = vec4(false);"),
    mutation(Norm, F32, "squares without their middle", "let cross = a * d + b * c;", "let cross = a * d;"),
    mutation(Norm, F32, "the root of half", "let odd = ((exponent - 63) & 1) != 0;", "let odd = false;"),
    mutation(Norm, F32, "a root truncated", "let inexact = lost || sticky || any(rest != vec2(0u));", "let inexact = false;"),
    mutation(Norm, F16, "the greatest of a few", "greatest = max(greatest, finite_magnitudes(v));", "greatest = max(greatest, finite_magnitudes(extract_subword(end, s)));"),
    mutation(Norm, Bf16, "positions of squares not doubled", "return multiplied(significand, significand, position + position, vec4(false));", "return multiplied(significand, significand, position, vec4(false));"),
    mutation(ClipByNorm, F32, "scaled at the limit", "if norm <= limit && limit <= F32_INFINITY {", "if norm < limit && limit <= F32_INFINITY {"),
    mutation(ClipByNorm, F32, "eps forgotten", "add_f32(norm, params.eps)", "norm"),
    mutation(ClipByNorm, F32, "a quotient truncated", "vec2(select(0u, 1u, rest != 0u), quotient)", "vec2(0u, quotient)"),
    mutation(ClipByNorm, F32, "products without what is below", "let significand = all | select(vec4(0u), vec4(1u), lost);", "let significand = all;"),
    mutation(ClipByNorm, F32, "ties of products away from even", "((rest == half) & ((kept & vec4(1u)) != vec4(0u)))", "(rest == half)"),
    mutation(ClipByNorm, F16, "products that all lose a bit", "min(dropped, vec4(32)) - vec4(1)", "min(dropped, vec4(31)) - vec4(1)"),
    mutation(ClipByNorm, F32, "subnormal products flushed", "max(-exponent, vec4(0));", "select(vec4(0), vec4(32), exponent < vec4(0));"),
    mutation(ClipByNorm, F32, "the policy ignored", "if norm >= F32_INFINITY && policy != PROPAGATE {", "if false {"),
    mutation(ClipByNorm, F32, "an error kept silent", "select(0u, 1u, policy == REPORT)", "0u"),
    mutation(ClipByNorm, F32, "the scaling of another slice", "at += rest % axis.x * axis.y;", "at += rest % axis.x;"),
    mutation(ClipByNormBackward, F32, "signs of products forgotten", "positions(v) + positions(factors), (v ^ factors) >= vec4(SIGN)", "positions(v) + positions(factors), v >= vec4(SIGN)"),
    mutation(ClipByNormBackward, F32, "the elements for the factors", "return factors[i];", "return elements[i];"),
    mutation(ClipByNormBackward, F16, "positions of the factors forgotten", "positions(v) + positions(factors), (v", "positions(v) + positions(v), (v"),
    mutation(ClipByNormBackward, F32, "infinity times zero", "(min(a, b) == vec4(0u))", "vec4(false)"),
    mutation(ClipByNormBackward, F32, "the ends of the factors forgotten", "end_factors = end_block(work, n, lane, true);", ""),
    mutation(ClipByNormBackward, F32, "a dot product that is not scaled", "rounded_output(i * STRIDE, unit_exponent(norm))", "rounded_output(i * STRIDE, 0)"),
    mutation(ClipByNormBackward, F32, "eps forgotten in the gradient", "mul_f32(add_f32(norm, params.eps), unit)", "mul_f32(norm, unit)"),
    mutation(ClipByNormBackward, F32, "units of large norms", "exponent < -126);", "false);"),
    mutation(ClipByNormBackward, F32, "a gradient of an infinite norm", "if along.z != 0u || ", "if "),
    mutation(ClipByNormBackward, Bf16, "the projection added", "removed ^ SIGN", "removed"),
    mutation(ClipByNormBackward, F32, "elements of zero that receive a gradient", "if by.z == ZERO {\n            element = vec2(0u);\n        } else ", ""),
    mutation(Softmax, F32, "the greatest of neighbours", "select(vec4(0u), keys_of(floats_of(block, s)), lanes_inside(share, i, s))", "keys_of(floats_of(block, s))"),
    mutation(Softmax, F32, "a NaN overlooked", "return select(key, vec4(KEY_OF_NAN), (v & vec4(MAGNITUDE)) > vec4(F32_INFINITY));", "return key;"),
    mutation(Softmax, F32, "cubes forgotten", " + ((cube * 10923u) >> 24u)", ""),
    mutation(Softmax, F32, "ln 2 to 16 bits", "let low = halvings * 0x17f7d2u;", "let low = 0u;"),
    mutation(Softmax, F32, "units beyond 2^31", "let large = max(v & MAGNITUDE, greatest & MAGNITUDE) >= 0x4f000000u;", "let large = false;"),
    mutation(Softmax, F32, "small terms forgotten", "let vanishes = e.y > 61u;", "let vanishes = e.y > 20u;"),
    mutation(Softmax, F32, "halves that do not carry", "let half = atomicLoad(&slice_words[at + SUM_WORD + n]) + carry;", "let half = atomicLoad(&slice_words[at + SUM_WORD + n]);"),
    mutation(Softmax, F32, "a sum truncated", "let rounded = kept + select(0u, 1u, rounds_up);", "let rounded = kept;"),
    mutation(Softmax, F32, "a share truncated", "let digits = near + select(0u, 1u, more);", "let digits = near;"),
    mutation(Softmax, F8E4M3Fn, "a tie taken for more", "let sticky = select(word & 1u, 1u, !exact);", "let sticky = 1u;"),
    mutation(Softmax, F16, "the sum of the row before", "let beyond = index >= vec4(end);", "let beyond = vec4(false);"),
    mutation(Softmax, F32, "the spacing of columns forgotten", "var index = share.first + i * params.width;", "var index = share.first + i;"),
    mutation(Softmax, F32, "slices counted wrong", "slices_before *= axis.x;", "slices_before += axis.x;"),
    mutation(Softmax, F32, "infinity taken for a number", "(key >= KEY_OF_INFINITY)", "(key > KEY_OF_INFINITY)"),
    mutation(SoftmaxBackward, F32, "the dot product added", "along ^ SIGN", "along"),
    mutation(SoftmaxBackward, F32, "products with the difference forgotten", "mul_f32(to_f32(element_of(results, e).x), difference)", "difference"),
    mutation(ClipByGlobalNorm, F32, "zero kept", "return vec4(norm, 0u, ZERO, 0u);", "return vec4(norm, 0u, KEEP, 0u);"),
    mutation(ClipByGlobalNorm, Bf16, "types of other units", "+ vec4(POSITION - 1)", "+ vec4(-1)"),
];
