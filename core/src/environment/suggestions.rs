//! What somebody probably meant: the nearest of some names. It never changes what was written.

/// The nearest name, if one is near enough that the two are more alike than not.
pub(crate) fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if written.chars().count() > 64 {
        return None;
    }
    let plain = plain(written);
    names
        .into_iter()
        .map(|name| (likeness(&plain, name), name))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Of misspelling and of writing only a part, whichever is nearer.
fn likeness(written: &str, name: &str) -> f64 {
    let name = plain(name);
    let spelled = strsim::normalized_damerau_levenshtein(written, &name);
    let shorter = written.len().min(name.len());
    let part = shorter >= 3 && (name.starts_with(written) || written.starts_with(name.as_str()));
    if part { spelled.max(0.7) } else { spelled }
}

/// Case, dashes and underscores are not what somebody means.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// `a, b or c`
pub(crate) fn one_of(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_what_was_meant_or_nothing() {
        let names = ["memory_mib", "port", "port_env", "cpu", "stop_grace", "blue-green"];
        for (written, want) in [
            ("memory", Some("memory_mib")),
            ("memoryMib", Some("memory_mib")),
            ("prot", Some("port")),
            ("BlueGreen", Some("blue-green")),
            ("stop_grce", Some("stop_grace")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), want, "{written}");
        }
    }
}
