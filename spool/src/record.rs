//! What a score is on the share, and its bytes: framed, with a length and a checksum, so that a torn or damaged one is
//! noticed. It decides what is a whole frame; it never decides what a damaged one means.

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u16 = 1;
/// Bytes before a frame's payload.
pub(crate) const HEAD_LEN: usize = 16;
/// Longest payload: a player's name has at most 40 characters, a run identity at most 64.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1024;

/// No text has these two bytes beside each other.
const MAGIC: [u8; 2] = [0xD5, 0xB1];
const KIND_HEADER: u8 = 0;
const KIND_SCORE: u8 = 1;
const KIND_SEAL: u8 = 2;

/// A score that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Identity of the round it comes from, at most 255 bytes: a second record with the same one adds nothing.
    pub run_id: Box<str>,
    /// The player's name.
    pub player: Box<str>,
    /// The score, a whole number.
    pub score: f64,
    /// When it was accepted, in milliseconds since 1970 by the accepter's clock.
    pub created_ms: i64,
}

/// One frame of a segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// The first of a segment.
    Header { format: u16 },
    /// A score.
    Score(Record),
    /// The last of a segment: how many scores it has, and the checksum over theirs.
    Seal { count: u64, sum: u32 },
    /// Of a kind that a newer version made within a format that this one reads: passed over.
    Unknown,
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) frame: Frame,
    /// Which write of its owner it came with. All frames of earlier writes were durable before this one began.
    pub(crate) batch: u32,
    /// The frame's own checksum.
    pub(crate) sum: u32,
    pub(crate) len: usize,
}

impl Frame {
    /// Appends the frame's bytes and returns its checksum.
    pub(crate) fn write(&self, batch: u32, bytes: &mut Vec<u8>) -> u32 {
        let start = bytes.len();
        let kind = match self {
            Self::Header { .. } => KIND_HEADER,
            Self::Score(_) => KIND_SCORE,
            Self::Seal { .. } | Self::Unknown => KIND_SEAL,
        };
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&batch.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        match self {
            Self::Header { format } => bytes.extend_from_slice(&format.to_le_bytes()),
            Self::Score(record) => {
                bytes.extend_from_slice(&record.created_ms.to_le_bytes());
                bytes.extend_from_slice(&record.score.to_bits().to_le_bytes());
                let run_id = clipped(&record.run_id, u8::MAX.into());
                bytes.push(u8::try_from(run_id.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(run_id.as_bytes());
                bytes.extend_from_slice(clipped(&record.player, PAYLOAD_BYTES_MAX - 17 - 255).as_bytes());
            }
            Self::Seal { count, sum } => {
                bytes.extend_from_slice(&count.to_le_bytes());
                bytes.extend_from_slice(&sum.to_le_bytes());
            }
            Self::Unknown => {}
        }
        let len = u32::try_from(bytes.len() - start - HEAD_LEN).unwrap_or(u32::MAX);
        bytes[start + 8..start + 12].copy_from_slice(&len.to_le_bytes());
        let sum = checksum(&bytes[start..start + 12], &bytes[start + HEAD_LEN..]);
        bytes[start + 12..start + HEAD_LEN].copy_from_slice(&sum.to_le_bytes());
        sum
    }

    /// The frame at the beginning of `bytes`; `None` if there is no whole, undamaged one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Parsed> {
        let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
        if head[..2] != MAGIC {
            return None;
        }
        let batch = u32::from_le_bytes(array(&head[4..8])?);
        let len = usize::try_from(u32::from_le_bytes(array(&head[8..12])?)).ok()?;
        let sum = u32::from_le_bytes(array(&head[12..16])?);
        let payload = rest.get(..len).filter(|_| len <= PAYLOAD_BYTES_MAX)?;
        if checksum(&head[..12], payload) != sum {
            return None;
        }
        let frame = match head[2] {
            KIND_HEADER => Self::Header { format: u16::from_le_bytes(array(payload.get(..2)?)?) },
            KIND_SCORE => Self::Score(score(payload)?),
            KIND_SEAL => Self::Seal {
                count: u64::from_le_bytes(array(payload.get(..8)?)?),
                sum: u32::from_le_bytes(array(payload.get(8..12)?)?),
            },
            _ => Self::Unknown,
        };
        Some(Parsed { frame, batch, sum, len: HEAD_LEN + len })
    }
}

/// Where the next whole frame begins, at the second byte or later.
pub(crate) fn next_frame(bytes: &[u8]) -> Option<(usize, Parsed)> {
    (1..bytes.len().saturating_sub(HEAD_LEN - 1))
        .filter(|at| bytes[*at..].starts_with(&MAGIC))
        .find_map(|at| Some((at, Frame::read(&bytes[at..])?)))
}

fn score(payload: &[u8]) -> Option<Record> {
    let created_ms = i64::from_le_bytes(array(payload.get(..8)?)?);
    let score = f64::from_bits(u64::from_le_bytes(array(payload.get(8..16)?)?));
    let run_len = usize::from(*payload.get(16)?);
    let run_id = std::str::from_utf8(payload.get(17..17 + run_len)?).ok()?;
    let player = std::str::from_utf8(payload.get(17 + run_len..)?).ok()?;
    Some(Record { run_id: run_id.into(), player: player.into(), score, created_ms })
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// At most so many bytes, and only whole characters.
fn clipped(text: &str, bytes_max: usize) -> &str {
    let end = (0..=text.len().min(bytes_max)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        ("[a-z0-9-]{1,64}", "\\PC{0,40}", 0_u64..1 << 53, any::<i64>()).prop_map(
            |(run_id, player, score, created_ms)| {
                #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                let score = score as f64;
                Record { run_id: run_id.into(), player: player.into(), score, created_ms }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in record(), batch: u32) {
            let mut bytes = Vec::new();
            let sum = Frame::Score(record.clone()).write(batch, &mut bytes);
            let len = bytes.len();
            bytes.extend_from_slice(b"more");
            let parsed = Frame::read(&bytes);
            prop_assert_eq!(parsed, Some(Parsed { frame: Frame::Score(record), batch, sum, len }));
            for end in 0..len {
                prop_assert_eq!(Frame::read(&bytes[..end]), None);
            }
        }

        #[test]
        fn damage_is_noticed_and_the_next_frame_found(record in record(), at in 0_usize..1000, flip in 1_u8..=255) {
            let mut bytes = Vec::new();
            Frame::Score(record.clone()).write(1, &mut bytes);
            let first = bytes.len();
            Frame::Score(record).write(2, &mut bytes);
            bytes[at % first] ^= flip;
            prop_assert_eq!(Frame::read(&bytes), None);
            prop_assert_eq!(next_frame(&bytes).map(|(at, parsed)| (at, parsed.batch)), Some((first, 2)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Frame::read(&bytes), next_frame(&bytes));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_first_release() {
        let mut bytes = Vec::new();
        Frame::Header { format: 1 }.write(0, &mut bytes);
        let record = Record { run_id: "r".into(), player: "A".into(), score: 7.0, created_ms: 1 };
        Frame::Score(record).write(1, &mut bytes);
        Frame::Seal { count: 1, sum: 2 }.write(2, &mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "d5b10000000000000200000022b236df0100\
        d5b10100010000001300000058b71ab101000000000000000000000000001c40017241\
        d5b10200020000000c000000fafb8cbe010000000000000002000000";
}
