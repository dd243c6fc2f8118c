//! Filter patterns: words that must be there, `-word` that must not, `?word` of which one must, and `{ $.field = value }` for
//! lines that are JSON. Anything else is refused rather than read wrongly.

use serde_json::Value;

use crate::aws::Fault;

/// A pattern.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
    json: Option<(String, bool, String)>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let invalid = || Fault::new("InvalidParameterException", "Invalid filter pattern");
        if let Some(inner) = text.strip_prefix('{') {
            let inner = inner.strip_suffix('}').ok_or_else(invalid)?.trim();
            let (field, rest) = inner.strip_prefix("$.").ok_or_else(invalid)?.split_once('=').ok_or_else(invalid)?;
            if rest.contains("&&") || rest.contains("||") || field.contains(['<', '>', '[']) {
                return Err(invalid());
            }
            let (field, equal) = field.strip_suffix('!').map_or((field, true), |field| (field, false));
            let json = Some((field.trim().to_owned(), equal, rest.trim().trim_matches('"').to_owned()));
            return Ok(Pattern { json, ..Pattern::default() });
        }
        if text.starts_with(['[', '%']) {
            return Err(invalid());
        }
        let mut pattern = Pattern::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (list, tail) = match rest.as_bytes()[0] {
                b'-' => (&mut pattern.none, &rest[1..]),
                b'?' => (&mut pattern.any, &rest[1..]),
                _ => (&mut pattern.all, rest),
            };
            let (word, tail) = match tail.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(invalid)?,
                None => tail.split_once(' ').unwrap_or((tail, "")),
            };
            list.push(word.to_owned());
            rest = tail.trim_start();
        }
        Ok(pattern)
    }

    pub(super) fn matches(&self, line: &str) -> bool {
        if let Some((field, equal, wanted)) = &self.json {
            let Ok(object) = serde_json::from_str::<Value>(line) else { return false };
            let Some(found) = object.pointer(&format!("/{}", field.replace('.', "/"))) else { return false };
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            let same = found == *wanted;
            return same == *equal;
        }
        self.all.iter().all(|word| line.contains(word))
            && !self.none.iter().any(|word| line.contains(word))
            && (self.any.is_empty() || self.any.iter().any(|word| line.contains(word)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, line, matches) in [
            ("", "anything", true),
            ("ERROR", "an ERROR here", true),
            ("ERROR disk", "an ERROR here", false),
            ("ERROR -here", "an ERROR here", false),
            ("?WARN ?ERROR", "an ERROR here", true),
            ("?WARN ?INFO", "an ERROR here", false),
            ("\"ERROR here\"", "an ERROR here", true),
            ("\"here ERROR\"", "an ERROR here", false),
            ("{ $.level = \"error\" }", r#"{"level":"error"}"#, true),
            ("{ $.level != \"error\" }", r#"{"level":"error"}"#, false),
            ("{ $.http.status = 503 }", r#"{"http":{"status":503}}"#, true),
            ("{ $.level = \"error\" }", "level error", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(line), matches, "{pattern} on {line}");
        }
        for pattern in ["{ $.a = 1", "[a, b]", "\"open", "{ $.a > 1 }", "%a%"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
