//! Selects the tensors of a file to clip.

use std::collections::HashSet;

use anyhow::{Result, anyhow, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::source::{Place, Source};

/// The tensors to clip, and what to report about others.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// In the order of their files.
    pub chosen: Vec<Place>,
    /// Tensors that were not clipped only because they are not floats: name and type.
    pub kept: Vec<(String, String)>,
    /// How many others were left out because they were not selected.
    pub left: usize,
}

/// The tensors that are named or match a pattern (by default all), without those of `except`. If the file has floats at all,
/// only a name selects other types: integers next to floats are counters and indices.
///
/// # Errors
/// If a name or a pattern matches nothing, or nothing is left.
pub(crate) fn select(source: &Source, tensors: &[String], except: &[String]) -> Result<Selection> {
    let wanted = Names::new(source, tensors)?;
    let excepted = Names::new(source, except)?;
    let mut selection = Selection::default();
    let (mut floats, mut others) = (Vec::new(), Vec::new());
    for place in source.places() {
        let name = &source.entry(place).name;
        if excepted.matches(name) {
            selection.left += 1;
        } else if wanted.named.contains(name) {
            // An error if it is of a type that cannot be clipped.
            source.element(place)?;
            selection.chosen.push(place);
        } else if tensors.is_empty() || wanted.patterns.is_match(name) {
            match source.entry(place).element() {
                Some(element) if element.is_float() => floats.push(place),
                _ => others.push(place),
            }
        } else {
            selection.left += 1;
        }
    }
    // A file of only integers may hold images, so they are what the user wants to clip.
    let has_floats = !floats.is_empty() || !selection.chosen.is_empty();
    let (integers, kept) = match has_floats {
        true => (Vec::new(), others),
        false => others.into_iter().partition(|&place| source.entry(place).element().is_some()),
    };
    if floats.is_empty() && integers.is_empty() && selection.chosen.is_empty() {
        return Err(match kept.first() {
            Some(&place) => match source.element(place) {
                Err(error) => error,
                Ok(_) => anyhow!("nothing is left to clip"),
            },
            None => anyhow!("nothing is left to clip: --except leaves no tensor out of {}", selection.left),
        });
    }
    selection.chosen.extend(floats.into_iter().chain(integers));
    selection.chosen.sort_unstable_by_key(|place| (place.file, place.index));
    let describe = |place: Place| {
        let entry = source.entry(place);
        (entry.name.clone(), entry.kind.to_string())
    };
    selection.kept = kept.into_iter().map(describe).collect();
    Ok(selection)
}

/// How checkpoints name the scales of a tensor of 8-bit numbers: with a suffix to its name, or replacing its last part.
const SCALES: [&str; 8] =
    ["_scale", "_scale_inv", "_scale_2", "_scales", ".scale", ".scale_inv", ".scales", ".absmax"];

/// Refuses 8-bit numbers that are stored with a scale, and their scales, since they are not the values that they represent.
///
/// # Errors
/// If such a tensor was selected.
pub(crate) fn refuse_scaled(source: &Source, chosen: &[Place]) -> Result<()> {
    let is_chosen = |place: Place| chosen.contains(&place);
    for place in
        source.places().filter(|&place| source.entry(place).element().is_some_and(|of| of.size() == 1))
    {
        let name = &source.entry(place).name;
        let last = name.strip_suffix("weight").unwrap_or_default();
        let replaced = ["scale", "scales", "scale_inv", "scale_weight"].map(|scale| format!("{last}{scale}"));
        let of_last = replaced.into_iter().filter(|_| !last.is_empty());
        let scales = SCALES.iter().map(|suffix| format!("{name}{suffix}")).chain(of_last);
        let scales: Vec<_> = scales.filter_map(|scale| Some((source.find(&scale)?, scale))).collect();
        if let Some((_, of)) = scales.first()
            && (is_chosen(place) || scales.iter().any(|(scale, _)| is_chosen(*scale)))
        {
            bail!(
                "{} holds {}, scaled by '{of}': its numbers are not what they stand for; convert it to a longer type first, or \
                 choose with --tensor what to clip as it is",
                source.describe(place),
                source.element(place)?
            );
        }
    }
    Ok(())
}

/// Names and patterns.
struct Names {
    named: HashSet<String>,
    patterns: GlobSet,
}

impl Names {
    /// An exact name wins over a pattern, even if it contains pattern characters.
    fn new(source: &Source, texts: &[String]) -> Result<Self> {
        let (mut named, mut patterns) = (HashSet::new(), GlobSetBuilder::new());
        for text in texts {
            if source.find(text).is_some() {
                named.insert(text.clone());
                continue;
            }
            if !text.contains(['*', '?', '[', '{']) {
                return Err(source.no_such(text));
            }
            let glob = GlobBuilder::new(text).build();
            let glob = glob.map_err(|error| anyhow!("'{text}' is no pattern: {}", error.kind()))?;
            let matcher = glob.compile_matcher();
            if !source.places().any(|place| matcher.is_match(&source.entry(place).name)) {
                bail!("{}", source.no_such(text));
            }
            patterns.add(glob);
        }
        Ok(Self { named, patterns: patterns.build()? })
    }

    fn matches(&self, name: &str) -> bool {
        self.named.contains(name) || self.patterns.is_match(name)
    }
}
