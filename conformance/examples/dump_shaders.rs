//! Writes every kernel as text, and for some of them operands with what must come out, one JSON object per line: for
//! `scripts/shaders.sh`, which has Dawn's Tint compile and run them.
//!
//! `cargo run -p wgclip-conformance --example dump_shaders > shaders.jsonl`

use std::io::Write;

use wgclip::bounds::BroadcastInputs;
use wgclip::op::Op;
use wgclip::quantize::QuantRule;
use wgclip::reference::{self, Operands};
use wgclip::testing::{self, Source};
use wgclip::{BackwardRule, Element, ElementType, with_element};

/// Elements of the operands: more than a workgroup's, and no whole number of blocks.
const LEN: usize = 5003;

fn main() -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for &element in ElementType::ALL {
        let sources = testing::sources(element);
        for op in [Op::Clip, Op::ClipBackward, Op::ClipWithMask] {
            // Between values, by the default rule.
            let wanted = format!("{op} {element}, ");
            let source = sources.iter().find(|source| {
                source.name.starts_with(&wanted)
                    && source.name.contains("ties inclusive, layouts [Value, Value], shared false")
            });
            let source = source.unwrap_or_else(|| panic!("no kernel of {op} for {element}"));
            with_element!(element, T => run::<T>(&mut out, op, source))?;
        }
        for source in &sources {
            write(&mut out, source, "")?;
        }
    }
    out.flush()
}

/// A kernel with operands and the bytes that its outputs must have.
fn run<T: Element>(out: &mut impl Write, op: Op, source: &Source) -> std::io::Result<()> {
    let rng = &mut fastrand::Rng::with_seed(7);
    let mut values = || (0..LEN).map(|_| T::from_bits(rng.u64(..))).collect::<Vec<_>>();
    let (x, g) = (values(), values());
    let layout = T::TYPE.layout();
    let (lo, hi) = (Some(T::from_f64(2.0)), Some(T::from_bits(layout.mask() >> 2)));
    let (rule, quant) = (BackwardRule::default(), QuantRule::default());
    let evaluate = |op, x, g| {
        reference::evaluate(op, Operands { x, g, broadcast: &[lo, hi], rule, quant, params: &[], index: 0 })
            [0]
    };
    let y: Vec<T> = x.iter().map(|&x| evaluate(Op::Clip, x, T::ZERO)).collect();
    let gx: Vec<T> = x.iter().zip(&g).map(|(&x, &g)| evaluate(Op::ClipBackward, x, g)).collect();

    // A word of a mask holds the bits of blocks a workgroup apart.
    let (per_block, per_word) = (16 / size_of::<T>(), 2 * size_of::<T>());
    let blocks = LEN.div_ceil(per_block);
    let words = blocks.div_ceil(256 * per_word) * 256;
    let one = T::from_f64(1.0);
    let mut mask = vec![0u32; words];
    for (i, &x) in x.iter().enumerate() {
        let (block, e) = (i / per_block, i % per_block);
        let (group, rest) = (block / (256 * per_word), block % (256 * per_word));
        let (n, word) = (rest / 256, group * 256 + rest % 256);
        let passes = evaluate(Op::ClipBackward, x, one).to_bits() != 0;
        // Within a block, subword by subword: first the lowest elements of all words.
        let per_u32 = (4 / size_of::<T>()).max(1);
        let bit = e % per_u32 * (per_block / per_u32) + e / per_u32;
        mask[word] |= u32::from(passes) << (n * per_block + bit);
    }

    let bounds = BroadcastInputs::values(lo, hi).unwrap_or_else(|error| panic!("{error}"));
    let params = testing::params_bytes::<T>(&bounds, rule, LEN);
    let elements = |data: &[T]| hex(bytes(data));
    let words_hex = || hex(mask.iter().flat_map(|word| word.to_le_bytes()).collect());
    let (inputs, outputs) = match op {
        Op::ClipBackward => (vec![elements(&x), elements(&g)], vec![elements(&gx)]),
        Op::ClipWithMask => (vec![elements(&x)], vec![elements(&y), words_hex()]),
        _ => (vec![elements(&x)], vec![elements(&y)]),
    };
    let per_invocation = if op == Op::ClipWithMask { per_word } else { 4 };
    let workgroups = blocks.div_ceil(256 * per_invocation);
    let list = |all: Vec<String>| format!("[\"{}\"]", all.join("\",\""));
    let fields = format!(
        ",\"workgroups\":{workgroups},\"params\":\"{}\",\"inputs\":{},\"outputs\":{}",
        hex(params),
        list(inputs),
        list(outputs)
    );
    write(out, source, &fields)
}

fn bytes<T: Element>(data: &[T]) -> Vec<u8> {
    data.iter().flat_map(|v| v.to_bits().to_le_bytes()[..size_of::<T>()].to_vec()).collect()
}

fn hex(bytes: Vec<u8>) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(out: &mut impl Write, source: &Source, more: &str) -> std::io::Result<()> {
    let text = source.wgsl.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let bindings: Vec<_> =
        source.bindings.iter().map(|(i, read_only)| format!("[{i},{read_only}]")).collect();
    let (name, entry, bindings) = (&source.name, source.entry, bindings.join(","));
    writeln!(
        out,
        "{{\"name\":\"{name}\",\"entry\":\"{entry}\",\"bindings\":[{bindings}],\"wgsl\":\"{text}\"{more}}}"
    )
}
