//! The list that the ingester publishes, `top.N`: so that who reads it need not open the database. It decides what a
//! readable one is; it never decides when to publish.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::leaders::Leader;
use crate::numbered;
use crate::share::{Share, publish, read_small};

/// Bytes of the file: ten lines of the list and an offset for each of thousands of segments.
const BYTES_MAX: usize = 16 * 1024 * 1024;
pub(crate) const PREFIX: &str = "top";

/// What an ingester knows: the list, and how much of each segment is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Top {
    pub(crate) epoch: u64,
    pub(crate) list: Vec<Leader>,
    /// Where the ingester will read on in each segment. Those that are gone are covered.
    pub(crate) covered: BTreeMap<String, u64>,
}

impl Top {
    /// Publishes it for everyone.
    pub(crate) fn publish<S: Share>(&self, share: &S, nonce: &str) -> io::Result<()> {
        let body = serde_json::to_vec(self)?;
        let mut bytes = format!("{:08x}\n", crc32fast::hash(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        let name = format!("{PREFIX}.{}", self.epoch);
        publish(share, &name, &format!("{name}.{nonce}.tmp"), &bytes)
    }

    /// The newest one, if there is one that can be read.
    pub(crate) fn newest<S: Share>(share: &S, names: &[String]) -> Option<Self> {
        let mut epochs: Vec<u64> = names.iter().filter_map(|name| numbered(name, PREFIX)).collect();
        epochs.sort_unstable();
        epochs
            .into_iter()
            .rev()
            .find_map(|epoch| Self::parse(&read_small(share, &format!("{PREFIX}.{epoch}"), BYTES_MAX).ok()?))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (sum, body) = bytes.split_at_checked(9)?;
        let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.trim_end(), 16).ok()?;
        (crc32fast::hash(body) == sum).then(|| serde_json::from_slice(body).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_list_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let share = crate::Folder::new(folder.path());
        let leader = Leader { run_id: "r".into(), player: "A\u{1F426}".into(), score: 7.5e300, created_ms: -1 };
        let top = |epoch| Top { epoch, list: vec![leader.clone()], covered: [("a.1".to_owned(), 9)].into() };
        top(9).publish(&share, "n").unwrap();
        top(10).publish(&share, "n").unwrap();
        let names = share.list("").unwrap();
        assert_eq!(names.len(), 2);
        assert_eq!(Top::newest(&share, &names), Some(top(10)));
        let path = folder.path().join("top.10");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Top::newest(&share, &names), Some(top(9)));
    }
}
