//! The file that tells the preloaded C code what to do to one process's calls, and in which that code counts.
//! It only reads and writes that file; the layout is the one in shim.c.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kinds of calls, in the order of shim.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    OpenRead,
    OpenWrite,
    Read,
    Write,
    Sync,
    Rename,
    Unlink,
    MakeDir,
    RemoveDir,
    Truncate,
    Look,
    Lock,
}

impl Call {
    pub(crate) const ALL: [Self; 12] = [
        Self::OpenRead,
        Self::OpenWrite,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Rename,
        Self::Unlink,
        Self::MakeDir,
        Self::RemoveDir,
        Self::Truncate,
        Self::Look,
        Self::Lock,
    ];
}

/// What is done to a call, in the order of shim.c, which says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Fail = 1,
    FailAfter,
    Half,
    Short,
    DieBefore,
    DieAfter,
    Pretend,
    Slow,
    StopBefore,
    StopAfter,
}

/// A rule for one kind of call.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) call: Call,
    pub(crate) deed: Deed,
    /// One call in so many.
    pub(crate) one_in: u32,
    pub(crate) error: i32,
    pub(crate) delay_us: u32,
    /// The rule ends with its first hit.
    pub(crate) once: bool,
    /// What was not synced is gone, too.
    pub(crate) lose: bool,
    /// Part of the path below the share; empty for any.
    pub(crate) name: &'static str,
}

impl Rule {
    /// Every call of a kind fails.
    pub(crate) fn fail(call: Call, error: i32) -> Self {
        Self { call, deed: Deed::Fail, one_in: 1, error, delay_us: 0, once: false, lose: false, name: "" }
    }
}

const RULES_AT: usize = 64;
const RULE_LEN: usize = 64;
const NAME_LEN: usize = 44;
const COUNTS_AT: usize = 2048;
const LEN: usize = 4096;

/// One process's control file.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) path: PathBuf,
    file: File,
    /// In force all the time, unless another rule for the same calls is.
    always: Vec<Rule>,
}

impl Control {
    pub(crate) fn new(path: PathBuf, always: &[Rule]) -> Self {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(LEN as u64).unwrap();
        let control = Self { path, file, always: always.to_vec() };
        control.set(&[]);
        control
    }

    /// Sets these rules in place of all others that end; none heals.
    pub(crate) fn set(&self, rules: &[Rule]) {
        let mut bytes = [0; COUNTS_AT - RULES_AT];
        for rule in self.always.iter().chain(rules) {
            let chance = (65_536 / rule.one_in).max(1);
            let flags = u32::from(rule.once) | u32::from(rule.lose) << 1;
            let words = [rule.deed as u32, chance, rule.error.cast_unsigned(), rule.delay_us, flags];
            let at = rule.call as usize * RULE_LEN;
            for (n, word) in words.iter().enumerate() {
                bytes[at + 4 * n..at + 4 * n + 4].copy_from_slice(&word.to_ne_bytes());
            }
            assert!(rule.name.len() < NAME_LEN);
            bytes[at + RULE_LEN - NAME_LEN..][..rule.name.len()].copy_from_slice(rule.name.as_bytes());
        }
        self.file.write_all_at(&bytes, RULES_AT as u64).unwrap();
    }

    /// How many calls of a kind were made below the share, and to how many of them something was done.
    pub(crate) fn count(&self, call: Call) -> (u32, u32) {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, (COUNTS_AT + 8 * call as usize) as u64).unwrap();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    /// To how many calls something was done; locks apart, whose failure harms nobody.
    pub(crate) fn hits(&self) -> u64 {
        Call::ALL.iter().filter(|call| **call != Call::Lock).map(|call| u64::from(self.count(*call).1)).sum()
    }
}

/// Compiles the C file; says why that can't be done here.
pub(crate) fn compile(folder: &Path) -> Result<PathBuf, String> {
    let library = folder.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nemesis/shim.c");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    let output = command.arg(&library).arg(source).arg("-ldl").output();
    let output = output.map_err(|fault| format!("no C compiler `cc` here ({fault})"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}
