//! Faults of a configuration as plain values: what is wrong, where, and what would be right. Nothing is printed and no
//! source text is quoted here; the command line draws the carets.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::Layer;

/// More faults than this are counted, not described.
pub const FAULTS_MAX: usize = 100;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The policy's code, `DB007`, where a policy was broken.
    pub code: Option<&'static str>,
    /// Whether it stops the command.
    pub severity: Severity,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// Where: the layer's name, `environments/prod.toml` or `--set #1`.
    pub file: String,
    /// Bytes of that layer's text; empty at 0 where something is missing from the file as a whole.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What could stand in place of the span.
    pub suggestion: Option<String>,
    /// What to do, in a sentence.
    pub help: Option<String>,
}

/// Whether a fault stops the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It is only said.
    Warning,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {kind}", self.file, self.line, self.column)?;
        if let Some(code) = self.code {
            write!(f, "[{code}]")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean {suggestion}?")?;
        }
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Every fault of a configuration that can't be used, warnings included, in the order of the layers and their lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// How many of them stop the command.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|f| f.severity == Severity::Error).count()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Some bytes of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) layer: u16,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Place {
    /// A layer as a whole: 1:1, nothing underlined.
    pub(crate) fn whole(layer: u16) -> Self {
        Place { layer, start: 0, end: 0 }
    }

    /// These bytes of a layer. Layers are at most [`super::LAYER_BYTES_MAX`] long, so the narrowing loses nothing.
    pub(crate) fn of(layer: u16, span: Range<usize>) -> Self {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Place { layer, start: narrow(span.start), end: narrow(span.end.max(span.start)) }
    }
}

/// What a fault says, before it is known how its place reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) code: Option<&'static str>,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    pub(crate) help: Option<String>,
}

impl Draft {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Draft { code: None, severity: Severity::Error, message: message.into(), suggestion: None, help: None }
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Draft { severity: Severity::Warning, ..Draft::error(message) }
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<Option<String>>) -> Self {
        self.suggestion = suggestion.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Collects faults over some layers, at most [`FAULTS_MAX`] of them.
#[derive(Debug)]
pub(crate) struct Sink<'s> {
    layers: &'s [Layer],
    faults: Vec<(Place, Fault)>,
    left_off: usize,
}

impl<'s> Sink<'s> {
    pub(crate) fn new(layers: &'s [Layer]) -> Self {
        Sink { layers, faults: Vec::new(), left_off: 0 }
    }

    pub(crate) fn add(&mut self, place: Place, draft: Draft) {
        if self.is_full() {
            return self.count();
        }
        let layer = &self.layers[usize::from(place.layer)];
        let span = clamp(&layer.text, place.start as usize..place.end as usize);
        let (line, column) = position(&layer.text, span.start);
        let Draft { code, severity, message, suggestion, help } = draft;
        let file = layer.file.clone();
        self.faults.push((place, Fault { code, severity, message, file, span, line, column, suggestion, help }));
    }

    /// Further faults are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    /// Counts a fault that is not described.
    pub(crate) fn count(&mut self) {
        self.left_off += 1;
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.faults.iter().any(|(_, f)| f.severity == Severity::Error)
    }

    /// The faults in the order of the layers and their lines.
    pub(crate) fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|(place, fault)| (place.layer, place.start, fault.severity));
        self.faults.dedup_by(|a, b| a.1 == b.1);
        let mut faults: Vec<Fault> = self.faults.into_iter().map(|(_, fault)| fault).collect();
        if self.left_off > 0
            && let Some(last) = faults.last().cloned()
        {
            let message = format!("and {} more, not shown", self.left_off);
            faults.push(Fault { code: None, suggestion: None, help: None, message, ..last });
        }
        faults
    }
}

/// The span within the text and on its character boundaries, so that whoever draws it can slice.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
    start..end
}

/// Line and column of a byte, both from 1; a byte order mark takes no column.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before[line_start..].trim_start_matches('\u{feff}').chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        for (text, at, want) in [
            ("", 0, (1, 1)),
            ("a = 1", 4, (1, 5)),
            ("a\nbc", 3, (2, 2)),
            ("a\r\nbc", 4, (2, 2)),
            ("é = 1", 3, (1, 3)),
            ("\u{feff}a = 1", 3, (1, 1)),
        ] {
            assert_eq!(position(text, at), want, "{text:?} at {at}");
        }
    }

    #[test]
    fn spans_never_cut_a_character() {
        assert_eq!(clamp("é", 1..1), 0..2);
        assert_eq!(clamp("éa", 1..99), 0..3);
        assert_eq!(clamp("", 3..5), 0..0);
    }

    #[test]
    fn a_flood_of_faults_is_counted() {
        let layers = [Layer::new("base.toml", "x")];
        let mut sink = Sink::new(&layers);
        for i in 0..FAULTS_MAX + 7 {
            sink.add(Place::whole(0), Draft::error(format!("fault {i}")));
        }
        let faults = sink.into_faults();
        assert_eq!(faults.len(), FAULTS_MAX + 1);
        assert_eq!(faults[FAULTS_MAX].message, "and 7 more, not shown");
    }
}
