//! The layers of a request and how each becomes a tree: files, and what was given on the command line. What the trees say is
//! read in `reader`; how they go together is in `resolve`.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Request,
    faults::{Draft, Place, Sink},
    file::Root,
    reader::{Reader, Rename},
};

/// A longer layer is refused.
pub const LAYER_BYTES_MAX: usize = 1 << 20;
/// More settings on one command line are refused.
const SETS_MAX: usize = 256;

/// One source of configuration: what it is called, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// For people: `environments/base.toml`.
    pub file: String,
    /// The text as it was read.
    pub text: String,
}

impl Layer {
    /// A layer.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Layer { file: file.into(), text: text.into() }
    }
}

/// Which layers count as one: keys of the same rank were meant together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Base,
    Overlay,
    Sets,
}

/// The layers of a request in the order in which they go over each other: base, overlay, each `--set`. Last, what else was
/// typed and may be wrong.
pub(crate) fn of(request: &Request<'_>) -> (Vec<Layer>, Vec<Rank>) {
    let mut layers = vec![request.base.clone()];
    let mut ranks = vec![Rank::Base];
    if let Some(overlay) = &request.overlay {
        layers.push(overlay.clone());
        ranks.push(Rank::Overlay);
    }
    for (index, (key, value)) in request.sets.iter().take(SETS_MAX).enumerate() {
        layers.push(Layer::new(format!("--set #{}", index + 1), format!("{key}={value}")));
        ranks.push(Rank::Sets);
    }
    layers.push(Layer::new("--env", request.environment));
    (layers, ranks)
}

/// Splits the argument of `--set` at the first `=` that is not within quotes.
pub fn split_set(argument: &str) -> Option<(String, String)> {
    let mut quote = None;
    let at = argument.char_indices().find_map(|(at, c)| {
        match (c, quote) {
            ('=', None) => return Some(at),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
        None
    })?;
    Some((argument[..at].to_owned(), argument[at + 1..].to_owned()))
}

/// What one layer says, and whether all of it could be understood as TOML.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) root: Root,
    pub(crate) whole: bool,
}

/// Reads a file.
pub(crate) fn read_file(layer: u16, text: &str, renames: &[Rename], sink: &mut Sink<'_>) -> Read {
    if text.len() > LAYER_BYTES_MAX {
        let draft = Draft::error(format!("the file is longer than {} KiB", LAYER_BYTES_MAX / 1024));
        sink.add(Place::whole(layer), draft);
        return Read { root: Root::default(), whole: false };
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mut broken = Vec::new();
    for error in &errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        // One mistake often ends in several complaints; the first of a line is the one that helps.
        if broken.iter().any(|line: &Range<usize>| line.start <= span.start && span.start <= line.end) {
            continue;
        }
        broken.push(line_of(text, &span, error.message() != TWICE));
        sink.add(Place::of(layer, span), syntax(error.message()));
        if broken.len() > super::FAULTS_MAX {
            break;
        }
    }
    let path = Vec::new();
    let root = Reader { layer, text, bare: false, renames, broken: &broken, path, sink }.table(tree.get_ref());
    Read { root, whole: errors.is_empty() }
}

/// How the parser calls a key or a header that was there before.
const TWICE: &str = "duplicate key";

fn syntax(message: &str) -> Draft {
    let draft = Draft::error(format!("this is not TOML: {message}"));
    match message {
        TWICE => Draft::error("this key is set twice").help("remove one of the two"),
        m if m.contains("string values must be quoted") => draft.help("text stands in double quotes"),
        _ => draft,
    }
}

/// The line, or lines, that a span touches. Behind a broken header nobody knows in which table the keys stand, so it breaks
/// all lines up to the next header.
fn line_of(text: &str, span: &Range<usize>, unreadable: bool) -> Range<usize> {
    let bytes = text.as_bytes();
    let start = bytes[..span.start.min(bytes.len())].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let from = span.end.clamp(start, bytes.len());
    let end = bytes[from..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| from + at);
    if unreadable && text[start..].trim_start().starts_with('[') {
        return start..text[end..].find("\n[").map_or(text.len(), |at| end + at);
    }
    start..end
}

/// Reads a setting from the command line: a dotted key, and a TOML value or else plain text.
pub(crate) fn read_set(
    layer: u16,
    (key, value): &(String, String),
    text: &str,
    renames: &[Rename],
    sink: &mut Sink<'_>,
) -> Read {
    let nothing = Read { root: Root::default(), whole: true };
    if text.len() > LAYER_BYTES_MAX {
        sink.add(Place::whole(layer), Draft::error(format!("the setting is longer than {LAYER_BYTES_MAX} bytes")));
        return nothing;
    }
    let with_zero = format!("{key}=0");
    let plain = DeTable::parse(&with_zero).ok().filter(|_| !key.contains(['\n', '\r']));
    let plain = plain.and_then(|tree| depth(tree.get_ref(), with_zero.len()).map(|depth| (tree, depth)));
    let Some((mut tree, depth)) = plain else {
        let draft = Draft::error("this is not a dotted key");
        sink.add(Place::of(layer, 0..key.len()), draft.help("write --set TABLE.KEY=VALUE, such as env.GREETING=hi"));
        return nothing;
    };
    // Only a value that is TOML by itself and stays the value of this one key is read as TOML; any other is plain text.
    let as_toml = DeTable::parse(text).ok().filter(|_| DeValue::parse(value.trim()).is_ok());
    match as_toml.filter(|tree| one_key(tree.get_ref(), depth)) {
        Some(read) => tree = read,
        None => {
            let at = key.len() + 1;
            let value = Spanned::new(at..at + value.len(), DeValue::String(value.as_str().into()));
            replace_leaf(tree.get_mut(), depth, value);
        }
    }
    let mut reader = Reader { layer, text, bare: true, renames, broken: &[], path: Vec::new(), sink };
    Read { root: reader.table(tree.get_ref()), whole: true }
}

/// How many keys deep the number is that stands in for a value; nothing where the table holds anything else.
fn depth(table: &DeTable<'_>, end: usize) -> Option<usize> {
    let mut values = table.values();
    let (value, more) = (values.next()?, values.next());
    match value.get_ref() {
        _ if more.is_some() => None,
        DeValue::Integer(_) => (value.span() == (end - 1..end)).then_some(1),
        DeValue::Table(inner) => depth(inner, end).map(|depth| depth + 1),
        _ => None,
    }
}

/// So many levels down there is one key each.
fn one_key(table: &DeTable<'_>, depth: usize) -> bool {
    let mut values = table.values();
    match (values.next().map(Spanned::get_ref), values.next()) {
        (Some(_), None) if depth == 1 => true,
        (Some(DeValue::Table(inner)), None) => one_key(inner, depth - 1),
        _ => false,
    }
}

fn replace_leaf<'i>(table: &mut DeTable<'i>, depth: usize, value: Spanned<DeValue<'i>>) {
    let Some((_, slot)) = table.iter_mut().next() else { return };
    match slot.get_mut() {
        DeValue::Table(inner) if depth > 1 => replace_leaf(inner, depth - 1, value),
        _ => *slot = value,
    }
}
