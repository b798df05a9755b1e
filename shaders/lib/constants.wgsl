// The constants known when a kernel is compiled. These are for f32 with scalar bounds, so that every file can be read
// and parsed by itself; src/wgsl/specialization.rs replaces them for each kernel.

// Bits of an element, and how to read them: as a float, or as a signed or unsigned integer.
const BITS: u32 = 32u;
const FLOAT: bool = true;
const SIGNED: bool = false;
// A float left-aligned in a word: the greatest magnitude that is a number (infinity if the type has one; NaN is beyond it),
// the greatest finite one, the smallest normal one (below it, the bit pattern is the value, in units of the smallest
// subnormal), and the bits of its exponent.
const MAX_NUMBER: u32 = 0x7f800000u;
const MAX_FINITE: u32 = 0x7f7fffffu;
const MIN_NORMAL: u32 = 0x800000u;
const EXPONENT_BITS: u32 = 8u;
// Subwords of a block, elements of a subword, the lowest bit of an element that is left-aligned in its word, and the
// index of that bit.
const SUBWORDS: u32 = 1u;
const LANES_PER_SUBWORD: u32 = 4u;
const LANE_LSB: u32 = 0x1u;
const LANE_SHIFT: u32 = 0u;

// The type of the output, in the low bits: that of the elements, except for a clip into another type.
const TO_BITS: u32 = 32u;
const TO_EXPONENT_BITS: u32 = 8u;
const TO_MAX_FINITE: u32 = 0x7f7fffffu;
const TO_MAX_NUMBER: u32 = 0x7f800000u;
const TO_QUIET_NAN: u32 = 0x7fc00000u;

// Who receives the gradient of a tie.
const TIES: u32 = 0u;
const TIES_INCLUSIVE: u32 = 0u;
const TIES_EXCLUSIVE: u32 = 1u;
const TIES_HALF: u32 = 2u;

// How values are quantised: the choices of a rule, by their numbers in src/quantize.rs.
const QUOTIENT: u32 = 0u;
const ROUNDING: u32 = 0u;
const NAN_CODE: u32 = 0u;
const NAN_PASSES: bool = true;
const QUANT_GRADIENT: u32 = 0u;
const E2M1_CODES: bool = false;

// Whether no broadcast input is a tensor.
const SCALAR_BOUNDS: bool = true;

// The operation of a reduction; the limbs of its outputs, the power of two that bit 0 of the first is worth, and how many
// bits above it the smallest number of the type is (half as many as its square); and how the elements of an output lie.
const REDUCE: u32 = 0u;
const REDUCE_SUM: u32 = 0u;
const REDUCE_SUM_ABS: u32 = 1u;
const REDUCE_SUM_SQUARES: u32 = 2u;
const REDUCE_MAX_ABS: u32 = 3u;
const REDUCE_PRODUCTS: u32 = 4u;
const LIMBS: u32 = 12u;
const UNIT: i32 = -149;
const POSITION: i32 = 0;
const ORDER: u32 = 0u;
const ORDER_ROWS: u32 = 0u;
const ORDER_COLUMNS: u32 = 1u;
const ORDER_STRIDED: u32 = 2u;

// Invocations of a workgroup, blocks that an invocation works on, and blocks whose bits fill a word of a mask.
const WORKGROUP: u32 = 256u;
const BLOCKS_PER_INVOCATION: u32 = 4u;
const BLOCKS_PER_MASK_WORD: u32 = 8u;
