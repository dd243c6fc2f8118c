//! Which requests of a release failed. It decides how many kinds of them are told apart, so that little is kept whatever
//! clients ask for; it never decides what counts as a failure.

use std::time::Duration;

use http::Method;

/// What failed besides the kinds that have a row of their own.
pub const OTHERS: &str = "(others)";
/// Kinds with a row of their own.
const NAMED_MAX: usize = 24;
/// Rows of others, one for each status; the last is for all further ones.
const OTHERS_MAX: usize = 8;
/// Bytes of a path that are kept.
const PATH_BYTES_MAX: usize = 80;
/// Bytes of a method that are kept.
const METHOD_BYTES_MAX: usize = 15;

/// Requests of one kind that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Method and path without its query, as `POST /score`; or [`OTHERS`].
    pub request: String,
    /// The status; 0 where there was no answer to its end, and for others of more statuses than are told apart.
    pub status: u16,
    /// How many.
    pub count: u64,
    /// How long the slowest took.
    pub slowest: Duration,
}

/// Requests that failed, by kind: at most 24 and 8 rows. Every failure is in one of them. Where there are more kinds, the
/// rarest one gives its row away and is counted among the others from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    named: Vec<Failing>,
    others: Vec<Failing>,
}

impl Failures {
    /// Counts some more.
    pub fn add(&mut self, failing: Failing) {
        if failing.request == OTHERS {
            return self.put_aside(failing);
        }
        if let Some(same) = find(&mut self.named, &failing) {
            return same.add(&failing);
        }
        if self.named.len() < NAMED_MAX {
            return self.named.push(failing);
        }
        // Of equally rare ones the oldest: a kind that comes back soon stays.
        let rarest = self.named.iter().enumerate().min_by_key(|(_, known)| known.count);
        match rarest.filter(|(_, known)| known.count <= failing.count).map(|(at, _)| at) {
            Some(at) => {
                let rarest = self.named.remove(at);
                self.named.push(failing);
                self.put_aside(rarest);
            }
            None => self.put_aside(failing),
        }
    }

    /// Counts all that another one counted.
    pub fn merge(&mut self, other: Failures) {
        other.named.into_iter().chain(other.others).for_each(|failing| self.add(failing));
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.others.is_empty()
    }

    /// What failed, most first, others last.
    #[must_use]
    pub fn into_rows(self) -> Vec<Failing> {
        let Self { mut named, mut others } = self;
        // By name as well, so that the same numbers are always told in the same order.
        named.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| (&a.request, a.status).cmp(&(&b.request, b.status))));
        others.sort_by_key(|failing| (std::cmp::Reverse(failing.count), failing.status));
        named.append(&mut others);
        named
    }

    fn put_aside(&mut self, failing: Failing) {
        let mut failing = Failing { request: OTHERS.to_owned(), ..failing };
        if find(&mut self.others, &failing).is_none() {
            let statuses = self.others.iter().filter(|known| known.status != 0).count();
            if statuses >= OTHERS_MAX - 1 {
                failing.status = 0;
            }
        }
        match find(&mut self.others, &failing) {
            Some(same) => same.add(&failing),
            None => self.others.push(failing),
        }
    }
}

impl Failing {
    fn add(&mut self, more: &Failing) {
        self.count = self.count.saturating_add(more.count);
        self.slowest = self.slowest.max(more.slowest);
    }
}

fn find<'a>(rows: &'a mut [Failing], like: &Failing) -> Option<&'a mut Failing> {
    rows.iter_mut().find(|known| known.status == like.status && known.request == like.request)
}

/// What a client asked for, kept until it is answered, in case that fails. Noting it allocates nothing.
pub(super) struct Asked {
    text: [u8; METHOD_BYTES_MAX + 1 + PATH_BYTES_MAX],
    length: usize,
    cut: bool,
}

impl Asked {
    pub(super) fn nothing() -> Self {
        Self { text: [0; METHOD_BYTES_MAX + 1 + PATH_BYTES_MAX], length: 0, cut: false }
    }

    pub(super) fn note(&mut self, method: &Method, path: &str) {
        let (method, path) = (method.as_str().as_bytes(), path.as_bytes());
        let method = &method[..method.len().min(METHOD_BYTES_MAX)];
        self.cut = path.len() > PATH_BYTES_MAX;
        let path = &path[..path.len().min(PATH_BYTES_MAX)];
        let begin = method.len() + 1;
        self.length = begin + path.len();
        self.text[..method.len()].copy_from_slice(method);
        self.text[method.len()] = b' ';
        self.text[begin..self.length].copy_from_slice(path);
    }

    /// In words; whatever a terminal could take for a command is not among them.
    pub(super) fn name(&self) -> String {
        let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
        let mut name: String = self.text[..self.length].iter().map(plain).collect();
        if self.cut {
            name.push('…');
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Uri;
    use proptest::prelude::*;

    fn failing(request: &str, status: u16, count: u64) -> Failing {
        Failing { request: request.to_owned(), status, count, slowest: Duration::from_millis(count) }
    }

    fn rows(failures: Failures) -> Vec<(String, u16, u64)> {
        failures.into_rows().into_iter().map(|row| (row.request, row.status, row.count)).collect()
    }

    #[test]
    fn a_kind_is_a_request_with_a_status() {
        let mut failures = Failures::default();
        assert!(failures.is_empty());
        for (request, status, count) in
            [("GET /a", 500, 1), ("GET /a", 502, 2), ("POST /a", 500, 2), ("GET /a", 500, 4)]
        {
            failures.add(failing(request, status, count));
        }
        assert_eq!(failures.clone().into_rows()[0].slowest, Duration::from_millis(4));
        let expected = [("GET /a", 500, 5), ("GET /a", 502, 2), ("POST /a", 500, 2)];
        assert_eq!(rows(failures), expected.map(|(request, status, count)| (request.to_owned(), status, count)));
    }

    #[test]
    fn a_frequent_kind_keeps_its_row_among_ever_new_ones() {
        let mut failures = Failures::default();
        for n in 0..10_000_u64 {
            failures.add(failing(&format!("GET /birds/{n}"), 500, 1));
            if n % 10 == 0 {
                failures.add(failing("POST /score", 503, 1));
            }
        }
        let rows = rows(failures);
        assert_eq!(rows[0], ("POST /score".to_owned(), 503, 1000));
        assert_eq!(rows.last().unwrap(), &(OTHERS.to_owned(), 500, 10_000 - (NAMED_MAX as u64 - 1)));
        assert_eq!(rows.len(), NAMED_MAX + 1);
    }

    #[test]
    fn a_request_is_told_in_plain_words_and_not_at_any_length() {
        let long = "/y".repeat(60);
        for (method, target, name) in [
            ("POST", "/score?key=secret", "POST /score".to_owned()),
            ("GET", "http://bird:80/a/b?c", "GET /a/b".to_owned()),
            ("OPTIONS", "*", "OPTIONS *".to_owned()),
            ("GET", long.as_str(), format!("GET {}…", "/y".repeat(40))),
            ("AVERYLONGMETHODINDEED", "/", "AVERYLONGMETHOD /".to_owned()),
            ("GET", "/\u{9b}31m", "GET /??31m".to_owned()),
        ] {
            let mut asked = Asked::nothing();
            asked.note(&Method::GET, "/something/longer/that/was/asked/before");
            let target: Uri = target.parse().unwrap();
            asked.note(&method.parse().unwrap(), target.path());
            assert_eq!(asked.name(), name);
        }
    }

    proptest! {
        /// In whatever order kinds come, alone or already counted together: few rows, and nothing is lost.
        #[test]
        fn every_failure_is_in_one_of_few_rows(parts in prop::collection::vec(
            prop::collection::vec((0..60_u16, 0..12_u16, 1..5_u64), 0..120), 1..5,
        )) {
            let mut all = Failures::default();
            let mut total = 0;
            for part in parts {
                let mut failures = Failures::default();
                for (path, status, count) in part {
                    total += count;
                    failures.add(failing(&format!("GET /{path}"), if status == 0 { 0 } else { 500 + status }, count));
                }
                all.merge(failures);
                prop_assert!(all.named.len() <= NAMED_MAX && all.others.len() <= OTHERS_MAX);
            }
            let rows = rows(all);
            prop_assert_eq!(rows.iter().map(|(_, _, count)| count).sum::<u64>(), total);
            prop_assert!(rows.iter().enumerate().all(|(at, row)| !rows[..at].iter().any(|other| (&other.0, other.1) == (&row.0, row.1))));
        }
    }
}
