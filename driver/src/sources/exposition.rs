//! Reads Prometheus's text format, as far as the analysis needs it. Any bytes may come: lines of other metrics are skipped
//! unread, and one of ours that can't be read is an error with its line, never a number.

use super::reading::{Labels, Sheet};

/// Labels of one series.
const LABELS_MAX: usize = 64;

/// Reads a page. `metrics` is its own path.
///
/// # Errors
/// Why it can't be read, as a sentence.
pub(super) fn read(page: &[u8], metrics: &str) -> Result<Sheet, String> {
    let mut sheet = Sheet::default();
    let mut is_exposition = page.iter().all(u8::is_ascii_whitespace);
    for (at, line) in page.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let end = line.iter().position(|b| *b == b'{' || b.is_ascii_whitespace()).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let name = std::str::from_utf8(name).unwrap_or_default();
        let Some(known) = Sheet::known(name) else {
            is_exposition = is_exposition || is_foreign(name, rest);
            continue;
        };
        is_exposition = true;
        let read = std::str::from_utf8(rest)
            .map_err(|_| "is not UTF-8".to_owned())
            .and_then(series)
            .and_then(|(labels, value)| sheet.add(known, labels, value, metrics));
        read.map_err(|why| format!("line {}: {known} {why}", at + 1))?;
    }
    if is_exposition { Ok(sheet) } else { Err("that is not a page of metrics".to_owned()) }
}

/// A comment that only this format has, or a series of another name.
fn is_foreign(name: &str, rest: &[u8]) -> bool {
    let rest = std::str::from_utf8(rest).unwrap_or_default().trim_ascii_start();
    match name {
        "" => false,
        "#" => rest.starts_with("TYPE ") || rest.starts_with("HELP ") || rest == "EOF",
        _ => series(rest).is_ok(),
    }
}

/// What follows the name: labels, value; a time and an exemplar after it are nobody's business here.
fn series(rest: &str) -> Result<(Labels, f64), String> {
    let mut labels = Labels::new();
    let mut rest = rest.trim_ascii_start();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_ascii_start();
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, value) = rest.split_once('=').ok_or("has labels without an end")?;
            let (value, after) = quoted(value.trim_ascii_start())?;
            if labels.len() >= LABELS_MAX || labels.insert(name.trim_ascii().to_owned(), value).is_some() {
                return Err(format!("has a label twice, or more than {LABELS_MAX}"));
            }
            let after = after.trim_ascii_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next,
                None if after.starts_with('}') => after,
                None => return Err("has labels without an end".to_owned()),
            };
        }
    }
    let value = rest.split_ascii_whitespace().next().ok_or("has no value")?;
    let value = value.parse().map_err(|_| "has a value that is no number".to_owned())?;
    Ok((labels, value))
}

/// A value in quotes and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let text = text.strip_prefix('"').ok_or("has a label without quotes")?;
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                // Others mean themselves, with the backslash.
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("has a label without an end".to_owned())
}

#[cfg(test)]
mod tests {
    use dbird_core::ReleaseId;
    use proptest::prelude::*;

    use super::*;
    use crate::sources::reading::Counts;

    const PAGE: &str = r#"# HELP http_requests_total HTTP requests answered, "all"
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/game/{id}",status="200"} 10 1700000000000
http_requests_total {route="/a\"b\\,}\n", status = "500" , } 2 # {trace_id="abc"} 1 1.5
http_requests_total{status="503"}	+1
  # a comment
http_request_duration_seconds_bucket{status="200",le="0.05"} 8.0
http_request_duration_seconds_bucket{status="200",le="+Inf"} 1.1e1
http_request_duration_seconds_sum{status="200"} NaN
process_start_time_seconds 1.7000000005e9
something_else{that="can't be read
# EOF
"#;

    #[test]
    fn a_page_with_everything() {
        for page in [PAGE.to_owned(), PAGE.replace('\n', "\r\n")] {
            let reading = read(page.as_bytes(), "/metrics").unwrap().reading();
            assert_eq!(reading.started_ms, Some(1_700_000_000_500));
            let mut sum = Counts::default();
            sum.add_between(&Counts::default(), &reading.counts);
            let samples = sum.samples(ReleaseId(1), 0);
            assert_eq!((samples.requests, samples.errors), (13, 3));
            assert_eq!(samples.latency_ms.into_iter().collect::<Vec<_>>(), [(50, 8), (u64::MAX, 3)]);
            let failing: Vec<_> = samples.failing.iter().map(|f| (f.request.as_str(), f.status, f.count)).collect();
            assert_eq!(failing, [("/a\"b\\,}", 500, 2), ("any request", 503, 1)]);
        }
    }

    #[test]
    fn pages_that_are_none_and_lines_that_are_broken() {
        for (page, expected) in [
            (&b""[..], Ok(false)),
            (b"\n \n", Ok(false)),
            (b"# HELP up x\n", Ok(false)),
            (b"go_goroutines 7\n", Ok(false)),
            (b"go_info{version=\"1\"} 1\n\xff\xfe\n", Ok(false)),
            (b"http_requests_total{status=\"200\"} 1", Ok(true)),
            (b"http_request_duration_seconds_count{code=\"200\"} 1", Ok(true)),
            (b"<!doctype html>\n<p>Hello", Err("that is not a page of metrics")),
            (b"{\"status\":\"ok\"}", Err("that is not a page of metrics")),
            (b"Not found", Err("that is not a page of metrics")),
            (b"\x1f\x8b\x08\x00", Err("that is not a page of metrics")),
            (b"a 1\nhttp_requests_total{status=\"200\"}", Err("line 2: http_requests_total has no value")),
            (b"http_requests_total{status=\"200\" 5", Err("line 1: http_requests_total has labels without an end")),
            (b"http_requests_total{status=200} 5", Err("line 1: http_requests_total has a label without quotes")),
            (b"http_requests_total{status=\"20", Err("line 1: http_requests_total has a label without an end")),
            (b"http_requests_total{a=\"1\",a=\"2\"} 5", Err("line 1: http_requests_total has a label twice")),
            (b"http_requests_total{status=\"200\"} many", Err("line 1: http_requests_total has a value that")),
            (b"http_requests_total{status=\"\xff\"} 5", Err("line 1: http_requests_total is not UTF-8")),
            (b"http_requests_total 5", Err("line 1: http_requests_total has no label `status`")),
            (b"http_requests_total{status=\"200\"} nan", Err("line 1: http_requests_total is NaN, which is no count")),
        ] {
            let found = read(page, "/metrics").map(|sheet| sheet.counts_requests());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{}", page.escape_ascii()),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{}: {found}", page.escape_ascii()),
                (found, _) => panic!("{}: {found:?}", page.escape_ascii()),
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            drop(read(&bytes, "/metrics"));
        }

        #[test]
        fn damaged_pages_are_survived(at in 0..PAGE.len(), byte: u8, cut in 0..PAGE.len()) {
            let mut page = PAGE.as_bytes().to_vec();
            page[at] = byte;
            page.truncate(cut.max(1));
            drop(read(&page, "/metrics"));
        }

        #[test]
        fn labels_come_through(value in "\\PC*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let (labels, number) = series(&format!("{{a=\"{escaped}\"}} 7")).unwrap();
            prop_assert_eq!((labels["a"].as_str(), number), (value.as_str(), 7.0));
        }
    }
}
