//! A database that keeps its files on the simulated share, with what matters of SQLite's: pages, a log that holds whole pages and is
//! begun anew after a checkpoint, and a checksum over everything, so that a copy of two moments is noticed.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use spool::{File, Ingested, Leader, Ledger, LedgerError, Ledgers, Record, Share};

use crate::world::Client;

const PAGE: usize = 512;
const RECORDS_PER_PAGE: usize = 3;

pub(crate) struct Books(pub(crate) Client);

pub(crate) struct Book {
    share: Client,
    name: String,
    pub(crate) records: Vec<Record>,
    by_run: BTreeMap<String, usize>,
    salt: u64,
    /// Where the next frame of the log goes; 0 after a checkpoint.
    log_len: u64,
    /// Pages of the log.
    logged: BTreeMap<usize, Vec<u8>>,
    database: <Client as Share>::File,
    log: Option<<Client as Share>::File>,
}

fn page(bytes: &[u8]) -> Vec<u8> {
    let mut page = bytes.to_vec();
    assert!(page.len() <= PAGE, "a page is too small");
    page.resize(PAGE, 0);
    page
}

fn line(record: &Record) -> String {
    format!("{} {} {} {}\n", record.run_id, record.player, record.score, record.created_ms)
}

fn parse(line: &str) -> Option<Record> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let (run_id, player) = (word()?, word()?);
    let (score, created_ms) = (word()?.parse().ok()?, word()?.parse().ok()?);
    Some(Record { run_id: run_id.into(), player: player.into(), score, created_ms })
}

fn header(records: &[Record]) -> Vec<u8> {
    let all: String = records.iter().map(line).collect();
    page(format!("{} {}\n", records.len(), crc32fast::hash(all.as_bytes())).as_bytes())
}

fn data_page(records: &[Record], at: usize) -> Vec<u8> {
    let first = at * RECORDS_PER_PAGE;
    let last = (first + RECORDS_PER_PAGE).min(records.len());
    page(records[first..last].iter().map(line).collect::<String>().as_bytes())
}

fn text(page: &[u8]) -> String {
    String::from_utf8_lossy(page).trim_end_matches('\0').to_owned()
}

impl Ledgers for Books {
    type Ledger = Book;

    fn open(&self, name: &str) -> Result<Book, LedgerError> {
        let share = self.0.clone();
        let io = |error: std::io::Error| LedgerError::failed(error);
        let database = share.open_or_create(name).map_err(io)?;
        let bytes = database.read_at(0, 1 << 24).map_err(io)?;
        let mut pages: BTreeMap<usize, Vec<u8>> =
            bytes.chunks(PAGE).enumerate().map(|(at, page)| (at, page.to_vec())).collect();
        let log_name = format!("{name}-wal");
        let log_bytes = match share.open(&log_name) {
            Ok(log) => log.read_at(0, 1 << 24).map_err(io)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io(error)),
        };
        // Frames: salt, page number, whether a commit ends here, checksum, page.
        let (mut salt, mut waiting, mut committed, mut log_len) = (0, BTreeMap::new(), BTreeMap::new(), 0);
        for (at, frame) in log_bytes.chunks(PAGE + 32).enumerate() {
            if frame.len() < PAGE + 32 {
                break;
            }
            let number = |from: usize| u64::from_le_bytes(frame[from..from + 8].try_into().unwrap());
            if at == 0 {
                salt = number(0);
            }
            if number(0) != salt || number(24) != u64::from(crc32fast::hash(&[&frame[..24], &frame[32..]].concat())) {
                break;
            }
            waiting.insert(usize::try_from(number(8)).unwrap(), frame[32..].to_vec());
            if number(16) == 1 {
                committed.append(&mut waiting);
                log_len = ((at + 1) * (PAGE + 32)) as u64;
            }
        }
        pages.extend(committed.clone());
        let head = pages.get(&0).map(|page| text(page)).unwrap_or_default();
        let mut words = head.split_whitespace();
        let mut word = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (count, sum) =
            if bytes.is_empty() && pages.is_empty() { (0, 0) } else { (word().unwrap_or(0), word().unwrap_or(1)) };
        let lines: String = (1..=usize::try_from(count).unwrap().div_ceil(RECORDS_PER_PAGE))
            .map(|at| pages.get(&at).map(|page| text(page)).unwrap_or_default())
            .collect();
        let records: Vec<Record> = lines.lines().filter_map(parse).collect();
        let all: String = records.iter().map(line).collect();
        if records.len() as u64 != count || u64::from(crc32fast::hash(all.as_bytes())) != sum {
            return Err(LedgerError::Damaged(format!("{name}: {} of {count} records", records.len())));
        }
        let by_run = records.iter().enumerate().map(|(at, record)| (record.run_id.to_string(), at)).collect();
        Ok(Book {
            share,
            name: name.to_owned(),
            records,
            by_run,
            salt,
            log_len,
            logged: committed,
            database,
            log: None,
        })
    }

    fn adopt(&self, original: &str, to: &str) -> Result<(), LedgerError> {
        let io = |error: std::io::Error| LedgerError::failed(error);
        let bytes = self.0.open(original).and_then(|file| file.read_at(0, 1 << 24)).map_err(io)?;
        let mut copy = self.0.create_new(to).map_err(io)?;
        copy.write_at(0, &bytes).and_then(|()| copy.sync()).map_err(io)
    }
}

impl Book {
    fn commit(&mut self, pages: &BTreeMap<usize, Vec<u8>>) -> std::io::Result<()> {
        if self.log_len == 0 {
            self.salt = self.salt.wrapping_add(1).max(1);
            self.logged.clear();
        }
        let mut bytes = Vec::new();
        for (at, (number, page)) in pages.iter().enumerate() {
            let mut head = Vec::new();
            head.extend_from_slice(&self.salt.to_le_bytes());
            head.extend_from_slice(&(*number as u64).to_le_bytes());
            head.extend_from_slice(&u64::from(at + 1 == pages.len()).to_le_bytes());
            let sum = crc32fast::hash(&[&head[..], page].concat());
            head.extend_from_slice(&u64::from(sum).to_le_bytes());
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(page);
        }
        if self.log.is_none() {
            self.log = Some(self.share.open_or_create(&format!("{}-wal", self.name))?);
        }
        let log = self.log.as_mut().unwrap();
        log.write_at(self.log_len, &bytes)?;
        log.sync()?;
        self.log_len += bytes.len() as u64;
        self.logged.extend(pages.clone());
        Ok(())
    }

    fn checkpoint(&mut self) -> std::io::Result<()> {
        for (number, page) in &self.logged {
            self.database.write_at((number * PAGE) as u64, page)?;
        }
        self.database.sync()?;
        self.log_len = 0;
        Ok(())
    }
}

impl Ledger for Book {
    fn ingest(&mut self, new: &[&Record]) -> Result<Ingested, LedgerError> {
        let mut ingested = Ingested::default();
        let first = self.records.len();
        for record in new {
            match self.by_run.get(&*record.run_id) {
                None => {
                    self.by_run.insert(record.run_id.to_string(), self.records.len());
                    self.records.push((*record).clone());
                    ingested.added += 1;
                }
                Some(at) if (&self.records[*at].player, self.records[*at].score) != (&record.player, record.score) => {
                    ingested.differing += 1;
                }
                Some(_) => {}
            }
        }
        if ingested.added > 0 {
            let mut pages: BTreeMap<usize, Vec<u8>> = (first / RECORDS_PER_PAGE
                ..self.records.len().div_ceil(RECORDS_PER_PAGE))
                .map(|at| (at + 1, data_page(&self.records, at)))
                .collect();
            pages.insert(0, header(&self.records));
            self.commit(&pages).map_err(LedgerError::failed)?;
            if self.logged.len() > 6 {
                self.checkpoint().map_err(LedgerError::failed)?;
            }
        }
        Ok(ingested)
    }

    fn top(&mut self) -> Result<Vec<Leader>, LedgerError> {
        let mut list: Vec<Leader> = self
            .records
            .iter()
            .map(|record| Leader {
                run_id: record.run_id.clone(),
                player: record.player.clone(),
                score: record.score,
                created_ms: record.created_ms,
            })
            .collect();
        list.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.created_ms.cmp(&b.created_ms)));
        list.truncate(spool::LEADERS_LEN);
        Ok(list)
    }

    fn verify(&mut self) -> Result<(), LedgerError> {
        // Opening it did.
        Ok(())
    }

    fn copy(&mut self, _to: &str) -> Result<(), LedgerError> {
        Err(LedgerError::Failed("not simulated".to_owned()))
    }

    fn close(mut self) -> Result<(), LedgerError> {
        if self.records.is_empty() {
            self.logged.insert(0, header(&[]));
        }
        self.checkpoint().map_err(LedgerError::failed)?;
        match self.share.remove(&format!("{}-wal", self.name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(LedgerError::failed(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn abandon(self) {}
}
