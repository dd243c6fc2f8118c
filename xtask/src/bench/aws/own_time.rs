//! What of a command's time was not the cloud's: the rest of it once every span is taken away in which the cloud was busy.

use super::account::Span;

/// The milliseconds between two moments in which no span was.
pub(super) fn outside(from_ms: f64, to_ms: f64, spans: &[Span]) -> f64 {
    let mut within: Vec<(f64, f64)> = spans.iter().map(|s| (s.from_ms.max(from_ms), s.to_ms.min(to_ms))).collect();
    within.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut own, mut at) = (0.0, from_ms);
    for (begin, end) in within.into_iter().filter(|(begin, end)| begin < end) {
        own += (begin - at).max(0.0);
        at = at.max(end);
    }
    own + (to_ms - at).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_span_covers_is_left() {
        let span = |from_ms: f64, to_ms: f64| Span { from_ms, to_ms };
        for (spans, left) in [
            (vec![], 100.0),
            (vec![span(10.0, 20.0)], 90.0),
            (vec![span(30.0, 60.0), span(10.0, 40.0)], 50.0),
            (vec![span(10.0, 90.0), span(20.0, 30.0)], 20.0),
            (vec![span(-50.0, 10.0), span(95.0, 200.0)], 85.0),
            (vec![span(-50.0, -10.0), span(150.0, 200.0)], 100.0),
            (vec![span(-5.0, 500.0)], 0.0),
        ] {
            assert!((outside(0.0, 100.0, &spans) - left).abs() < 1e-9, "{spans:?}");
        }
    }
}
