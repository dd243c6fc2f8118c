//! Makes run identities that only grow within a process, so that the database's index of them is appended to instead of
//! being written all over. They look like UUIDs of version 7.

use uuid::Builder;

use crate::score::RunId;

/// A source of run identities.
#[derive(Debug, Default)]
pub(crate) struct RunIds {
    last_ms: u64,
    count: u16,
}

impl RunIds {
    /// The next identity. A clock that steps back is ignored until it has caught up.
    pub(crate) fn next(&mut self, now_ms: i64) -> Option<RunId> {
        const COUNT_MAX: u16 = 0x0FFF;
        let now_ms = u64::try_from(now_ms).unwrap_or_default();
        if now_ms > self.last_ms {
            (self.last_ms, self.count) = (now_ms, 0);
        } else if self.count == COUNT_MAX {
            (self.last_ms, self.count) = (self.last_ms + 1, 0);
        } else {
            self.count += 1;
        }
        let random = fastrand::u64(..).to_ne_bytes();
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&self.count.to_be_bytes());
        bytes[2..].copy_from_slice(&random);
        let mut text = uuid::Uuid::encode_buffer();
        RunId::new(
            Builder::from_unix_timestamp_millis(self.last_ms, &bytes).into_uuid().hyphenated().encode_lower(&mut text),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::RunIds;

    #[test]
    fn grow_whatever_the_clock_does() {
        let mut ids = RunIds::default();
        let mut last = ids.next(1_000).unwrap();
        for n in 0..20_000_i64 {
            let now_ms = if n % 1_000 == 0 { 1_000 + n } else { 500 };
            let next = ids.next(now_ms).unwrap();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        assert_eq!(uuid::Uuid::parse_str(last.as_str()).unwrap().get_version_num(), 7);
    }
}
