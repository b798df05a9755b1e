//! Norms of data held in several places: partial sums that are extracted, merged, and rounded once.

use crate::backend::{Backend, cpu};
use crate::norm::Scaling;
use crate::norm::exact::{ExactSum, Special};
use crate::tensor::{AnyTensor, Stored, with_storage};
use crate::{Element, ElementType, Error, NormKind, NormLimit, Result};

/// The exact norm so far of elements that are spread over several places: chunks of a tensor larger than memory, or the parts
/// of the ranks of a distributed program. States can be merged in any order, and the norm is rounded once: it has the same
/// bits as that of all elements together.
///
/// ```
/// use wgclip::norm::NormState;
/// use wgclip::NormKind;
///
/// let mut state = NormState::new(NormKind::L2);
/// for chunk in [3.0f32, 1e-30, -4.0, -1e-30].chunks(2) {
///     state.add_slice(chunk)?;
/// }
/// assert_eq!(state.norm::<f32>()?, 5.0);
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Across ranks
/// [`to_words`](Self::to_words) returns a state as integers, so that an all-reduce by integer SUM (by MAX for
/// [`NormKind::Max`]) gives the state of all ranks: each word has 32 bits of the sum, and room for the carries of 2^31
/// ranks.
///
/// ```
/// use wgclip::norm::NormState;
/// use wgclip::NormKind;
///
/// let ranks: Vec<_> = (0..7).map(|rank| {
///     std::thread::spawn(move || {
///         let gradients: Vec<f32> = (0..1000).map(|i| ((rank * 1000 + i) as f32).sin() * 1e30).collect();
///         let mut state = NormState::new(NormKind::L2);
///         state.add_slice(&gradients).map(|()| state.to_words())
///     })
/// }).collect();
/// // What an all-reduce does.
/// let mut all = vec![0i64; NormState::new(NormKind::L2).to_words().len()];
/// for rank in ranks {
///     let words = rank.join().expect("a rank")?;
///     all.iter_mut().zip(words).for_each(|(sum, word)| *sum += word);
/// }
/// let norm = NormState::from_words(NormKind::L2, &all)?.norm::<f32>()?;
///
/// let gradients: Vec<f32> = (0..7000).map(|i| (i as f32).sin() * 1e30).collect();
/// assert_eq!(norm.to_bits(), wgclip::reference::norm(&gradients, NormKind::L2).to_bits());
/// # Ok::<(), wgclip::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormState {
    kind: NormKind,
    sum: ExactSum,
    /// Whether any of the elements are f64.
    has_f64: bool,
}

/// The words after those of the sum: the number of parts with a NaN, and with an infinity.
const SPECIAL_WORDS: usize = 2;

/// The words after these in a wide state: the number of parts with f64 elements.
const F64_WORDS: usize = 1;

impl NormState {
    /// Creates an empty state for elements of up to 32 bits.
    pub fn new(kind: NormKind) -> Self {
        Self { kind, sum: ExactSum::new(32, kind.reduce_op()), has_f64: false }
    }

    /// Creates an empty state that also takes f64, with seven times as many words.
    pub fn wide(kind: NormKind) -> Self {
        Self { kind, sum: ExactSum::new(64, kind.reduce_op()), has_f64: false }
    }

    /// The kind of norm.
    pub fn kind(&self) -> NormKind {
        self.kind
    }

    /// The norm type that loses nothing: f64 if any element is an f64, else f32.
    pub fn norm_type(&self) -> ElementType {
        if self.has_f64 { ElementType::F64 } else { ElementType::F32 }
    }

    fn is_wide(&self) -> bool {
        self.sum.bits() == ElementType::F64.layout().bits
    }

    fn check_element(&self, element: ElementType) -> Result<()> {
        if element.is_float() && element.layout().bits <= self.sum.bits() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("a norm of {element} in this state"),
            device: "any device".into(),
            instead: "norms are of floats, those of f64 in NormState::wide".into(),
        })
    }

    /// Adds elements on the CPU, on all cores.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for integers, and for f64 in a state that is not [`wide`](Self::wide).
    pub fn add_slice<T: Element>(&mut self, elements: &[T]) -> Result<()> {
        self.add_list(&[(T::TYPE, bytemuck::cast_slice(elements))])
    }

    /// Adds several slices, whose types are given as values: bytes, aligned to their elements.
    ///
    /// ```
    /// use wgclip::norm::NormState;
    /// use wgclip::{ElementType, NormKind, f16};
    ///
    /// let (weight, bias) = ([3.0f32, 0.0], [f16::from_f32(-4.0)]);
    /// let mut state = NormState::new(NormKind::L2);
    /// state.add_list(&[
    ///     (ElementType::F32, bytemuck::cast_slice(&weight)),
    ///     (ElementType::F16, bytemuck::cast_slice(&bias)),
    /// ])?;
    /// assert_eq!(state.norm::<f32>()?, 5.0);
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`add_slice`](Self::add_slice); [`Error::Unsupported`] for bytes that are misaligned, or not a whole number of elements.
    /// The state is then unchanged.
    pub fn add_list(&mut self, list: &[(ElementType, &[u8])]) -> Result<()> {
        list.iter().try_for_each(|&(element, _)| self.check_element(element))?;
        cpu::reduce::accumulate_all(&mut self.sum, list)?;
        self.note_types(list.iter().map(|&(element, _)| element));
        Ok(())
    }

    fn note_types(&mut self, elements: impl IntoIterator<Item = ElementType>) {
        self.has_f64 |= ElementType::of_norm(elements) == ElementType::F64;
    }

    /// Adds the elements of tensors, on the device that holds them; only a few words are read back.
    ///
    /// # Errors
    /// As [`add_slice`](Self::add_slice), and [`Tensor::norm`](crate::Tensor::norm). The state is then unchanged.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn add(&mut self, tensors: &[&dyn AnyTensor]) -> Result<()> {
        pollster::block_on(self.add_async(tensors))
    }

    /// Adds the elements of tensors without blocking.
    ///
    /// # Errors
    /// As [`add_slice`](Self::add_slice), and [`Tensor::norm`](crate::Tensor::norm). The state is then unchanged.
    pub async fn add_async(&mut self, tensors: &[&dyn AnyTensor]) -> Result<()> {
        let tensors: Vec<_> = tensors.iter().map(|tensor| tensor.dynamic()).collect();
        tensors.iter().try_for_each(|tensor| self.check_element(tensor.element()))?;
        // All tensors of a device at once, so that it is read once.
        let (mut sum, mut left) = (self.sum.clone(), tensors.clone());
        while let Some(first) = left.first().map(|tensor| tensor.storage()) {
            with_storage!(first, backend, _first => {
                let there = left.iter().filter_map(|tensor| Some((tensor.element(), backend.downcast(tensor.storage())?)));
                let list: Vec<_> = there.collect();
                sum.merge(&backend.exact_sum(&list, self.kind.reduce_op(), self.sum.bits()).await?);
                left.retain(|tensor| backend.downcast(tensor.storage()).is_none());
            });
        }
        self.sum = sum;
        self.note_types(tensors.iter().map(|tensor| tensor.element()));
        Ok(())
    }

    /// Merges another state into this one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the other is of another norm, or is wide and this one is not.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.kind != other.kind || self.sum.bits() < other.sum.bits() {
            return Err(Error::Unsupported {
                what: "merging the states of different norms".into(),
                device: "any device".into(),
                instead: "give both the same kind, and make the one that takes in NormState::wide".into(),
            });
        }
        self.sum.merge(&other.sum);
        self.has_f64 |= other.has_f64;
        Ok(())
    }

    /// Returns the norm so far, rounded to f32 or f64 once, as [`reference::norm`](crate::reference::norm) says.
    ///
    /// ```
    /// use wgclip::norm::NormState;
    /// use wgclip::{ElementType, NormKind};
    ///
    /// let mut state = NormState::wide(NormKind::L2);
    /// state.add_slice(&[1e39f64])?;
    /// state.add_slice(&[1.0f32, 2.0])?;
    /// assert_eq!(state.norm_type(), ElementType::F64);
    /// assert_eq!(state.norm::<f64>()?, 1e39);
    /// assert!(state.norm::<f32>().is_err(), "beyond the range of f32");
    /// # Ok::<(), wgclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] for any other type, and for f32 if f64 elements are included and the norm would become
    /// infinite or 0.
    pub fn norm<N: Element>(&self) -> Result<N> {
        check_norm_type::<N>()?;
        let norm = N::from_bits(self.sum.round(N::TYPE));
        if self.has_f64 && N::TYPE == ElementType::F32 {
            let wide = f64::from_bits(self.sum.round(ElementType::F64));
            let kept = norm.to_f64();
            if wide.is_finite() && kept.is_infinite() || wide != 0.0 && kept == 0.0 {
                return Err(Error::Unsupported {
                    what: format!("the norm {wide:e} in f32"),
                    device: "any device".into(),
                    instead: "elements of f64 are among it: take it in f64".into(),
                });
            }
        }
        Ok(norm)
    }

    /// Returns the scaling that limits the norm of the elements: [`reference::scaling`](crate::reference::scaling).
    ///
    /// # Errors
    /// As [`norm`](Self::norm); [`Error::InvalidLimit`]; [`Error::NonFiniteNorm`] if the policy requests it.
    pub fn scaling<N: Element>(&self, limit: impl Into<NormLimit>) -> Result<Scaling<N>> {
        let (limit, norm) = (limit.into(), self.norm::<N>()?);
        limit.check()?;
        if limit.nonfinite == crate::NonFinitePolicy::Error && !norm.to_f64().is_finite() {
            return Err(Error::NonFiniteNorm { what: "these elements".into() });
        }
        Ok(match cpu::scaling::scaling_of(N::TYPE, norm.to_bits(), &limit) {
            Scaling::Keep => Scaling::Keep,
            Scaling::Zero => Scaling::Zero,
            Scaling::By(coefficient) => Scaling::By(N::from_f64(coefficient)),
        })
    }

    /// Returns the state as 32-bit words, each in an i64: states of the same kind are merged by adding them word by
    /// word (for [`NormKind::Max`] by taking the maximum), whatever carries there are, for up to 2^31 states.
    pub fn to_words(&self) -> Vec<i64> {
        let mut words = self.sum.to_words();
        let Special { nan, infinite } = self.sum.special;
        words.extend([nan, infinite[0] || infinite[1]].map(i64::from));
        if self.is_wide() {
            words.push(self.has_f64.into());
        }
        words
    }

    /// Creates a state from words, or from sums of words.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if their number is that of neither a narrow nor a wide state of the kind.
    pub fn from_words(kind: NormKind, words: &[i64]) -> Result<Self> {
        let narrow = Self::new(kind);
        if words.len() < SPECIAL_WORDS {
            let expected = narrow.to_words().len();
            return Err(Error::LengthMismatch { shape: vec![expected], expected, actual: words.len() });
        }
        let mut state = if narrow.to_words().len() == words.len() { narrow } else { Self::wide(kind) };
        let after = SPECIAL_WORDS + if state.is_wide() { F64_WORDS } else { 0 };
        let (sum, after) = words.split_at(words.len().saturating_sub(after));
        state.sum.set_words(sum)?;
        state.sum.special = Special { nan: after[0] > 0, infinite: [after[1] > 0, false] };
        state.has_f64 = after.get(SPECIAL_WORDS).is_some_and(|&parts| parts > 0);
        Ok(state)
    }
}

fn check_norm_type<N: Element>() -> Result<()> {
    if matches!(N::TYPE, ElementType::F32 | ElementType::F64) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("a norm in {}", N::TYPE),
        device: "any device".into(),
        instead: "take it in f32 or f64".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    /// The bits are the same for any partition, in any order, and for the words of any number of ranks.
    #[test]
    fn a_partition_makes_no_difference() {
        let rng = &mut fastrand::Rng::with_seed(7);
        let mut elements: Vec<f32> =
            (0..10_007).map(|_| f32::from_bits(rng.u32(..))).filter(|element| element.is_finite()).collect();
        for kind in NormKind::ALL {
            let expected = reference::norm(&elements, kind).to_bits();
            for ranks in [1, 2, 3, 7, 64] {
                rng.shuffle(&mut elements);
                let mut merged = NormState::new(kind);
                let mut words = vec![0; merged.to_words().len()];
                for part in elements.chunks(elements.len().div_ceil(ranks)) {
                    let mut state = NormState::new(kind);
                    state.add_slice(part).unwrap();
                    merged.merge(&state).unwrap();
                    for (all, word) in words.iter_mut().zip(state.to_words()) {
                        *all = if kind == NormKind::Max { word.max(*all) } else { *all + word };
                    }
                }
                assert_eq!(merged.norm::<f32>().unwrap().to_bits(), expected, "{ranks} parts");
                let reduced = NormState::from_words(kind, &words).unwrap();
                assert_eq!(reduced, merged, "the words of {ranks} ranks");
                let mut wide = NormState::wide(kind);
                wide.merge(&reduced).unwrap();
                assert_eq!(wide.norm::<f32>().unwrap().to_bits(), expected);
            }
        }
    }

    /// A single f64 makes the norm an f64, for every rank, and nothing of it is lost silently.
    #[test]
    fn f64_anywhere_is_told() {
        for (element, narrowed) in [(1e39, true), (1e-60, true), (3.0, false)] {
            let mut ranks = [NormState::wide(NormKind::L2), NormState::wide(NormKind::L2)];
            ranks[0].add_slice(&[0.0f32]).unwrap();
            ranks[1].add_slice(&[element]).unwrap();
            assert_eq!(ranks.each_ref().map(NormState::norm_type), [ElementType::F32, ElementType::F64]);
            let words = ranks[0].to_words().into_iter().zip(ranks[1].to_words());
            let all = NormState::from_words(NormKind::L2, &words.map(|(a, b)| a + b).collect::<Vec<_>>());
            let [merged, other] = &mut ranks;
            merged.merge(other).unwrap();
            assert_eq!(all.as_ref(), Ok(&ranks[0]));
            assert_eq!((ranks[0].norm_type(), ranks[0].norm::<f64>().unwrap()), (ElementType::F64, element));
            assert_eq!(ranks[0].norm::<f32>().is_err(), narrowed, "{element}");
        }
    }

    #[test]
    fn the_most_that_ranks_can_carry_fits() {
        let mut state = NormState::new(NormKind::L2);
        state.add_slice(&[2f32.powi(127)]).unwrap();
        let words: Vec<_> = state.to_words().iter().map(|word| word << 31).collect();
        let norm = NormState::from_words(NormKind::L2, &words).unwrap().norm::<f64>().unwrap();
        assert_eq!(norm, 2f64.powi(127) * 2f64.powi(31).sqrt());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut state = NormState::new(NormKind::L1);
        assert!(matches!(state.add_slice(&[1.0f64]), Err(Error::Unsupported { .. })));
        assert!(matches!(state.add_slice(&[1u8]), Err(Error::Unsupported { .. })));
        assert!(matches!(state.merge(&NormState::new(NormKind::Max)), Err(Error::Unsupported { .. })));
        assert!(matches!(state.merge(&NormState::wide(NormKind::L1)), Err(Error::Unsupported { .. })));
        assert!(matches!(NormState::from_words(NormKind::L1, &[1, 2, 3]), Err(Error::LengthMismatch { .. })));
        assert!(matches!(NormState::from_words(NormKind::L1, &[]), Err(Error::LengthMismatch { .. })));
        assert!(matches!(state.norm::<u8>(), Err(Error::Unsupported { .. })));
        assert!(matches!(state.scaling::<f32>(-1.0), Err(Error::InvalidLimit { .. })));
    }
}
