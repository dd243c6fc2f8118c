//! Who wrote which file below the share, as the preloaded C code of all processes noted it, before and after each write.
//! A file may pass from one writer to the next, and never back: the earlier one was overtaken and wrote all the same.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PLACES: u64 = 1 << 18;
const PLACE_LEN: u64 = 16;
const EVENT_LEN: u64 = 64;
const HEAD_LEN: u64 = 64;

#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
}

/// A process wrote a file that another one wrote last, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) file: u64,
    pub(crate) writer: u32,
    pub(crate) name: String,
}

impl Ledger {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(HEAD_LEN + PLACES * (PLACE_LEN + EVENT_LEN)).unwrap();
        Self { file }
    }

    /// All events so far, and whether there was no room for more.
    pub(crate) fn events(&self) -> (Vec<Event>, bool) {
        let mut head = [0; 8];
        self.file.read_exact_at(&mut head, 0).unwrap();
        let word = |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let (count, full) = (u64::from(word(&head, 0)), word(&head, 4) != 0);
        let mut bytes = vec![0; usize::try_from(count.min(PLACES) * EVENT_LEN).unwrap()];
        self.file.read_exact_at(&mut bytes, HEAD_LEN + PLACES * PLACE_LEN).unwrap();
        let event = |bytes: &[u8]| Event {
            file: u64::from_ne_bytes(bytes[..8].try_into().unwrap()),
            writer: word(bytes, 8),
            name: String::from_utf8_lossy(&bytes[16..]).trim_end_matches('\0').to_owned(),
        };
        // One that died while it wrote an event down left a hole, and wrote nothing else.
        let written = bytes.chunks_exact(64).filter(|bytes| word(bytes, 12) == 1);
        (written.map(event).collect(), full || count > PLACES)
    }
}

/// Writers that came back to a file after another had written it.
pub(crate) fn returns(events: &[Event]) -> Vec<String> {
    let mut writers: HashMap<(u64, &str), Vec<u32>> = HashMap::new();
    let mut found = Vec::new();
    for event in events {
        // Only databases are renamed while they are written. An inode number is used again at once, and a file's birth has the
        // coarseness of a tick: so everything else is one file only under one name.
        let name = if event.name.contains("drafty.") { "" } else { event.name.as_str() };
        let writers = writers.entry((event.file, name)).or_default();
        if writers.contains(&event.writer) && writers.last() != Some(&event.writer) {
            found.push(format!("{}: process {} wrote after {:?} had taken over", event.name, event.writer, writers));
        }
        writers.push(event.writer);
    }
    found
}
