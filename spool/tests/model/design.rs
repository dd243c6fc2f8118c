//! Which protocol is modelled: the spool's, or one of those that fail. It names them and says what sets each apart; what
//! they do differently is written where it happens.

/// The protocol, or one that differs from it in a single way and must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Design {
    /// The spool's.
    Right,
    /// One database for all epochs; its holder looks whether its lease is the last before it writes.
    LeaseBeforeWrite,
    /// One database for all epochs; its holder looks whether its epoch is the last after it has written.
    EpochAfterWrite,
    /// The epoch is checked before the commit, not after it.
    CheckBeforeWrite,
    /// The epoch was checked once; the answer is kept.
    CachedCheck,
    /// The check looks for the fence instead of making something, and may be told that nothing is there.
    LookedUpCheck,
    /// Segments are deleted after the commit, and the epoch is checked afterwards.
    DeleteBeforeCheck,
    /// Segments whose owner has not ended them are deleted, too.
    UnsealedDeleted,
    /// A successor renames the database although it was not left clean.
    UncleanRename,
    /// So does one that did not find what it wanted to copy.
    UnseenRename,
    /// A copy is believed if the header of the log is still the same.
    HeaderCompared,
    /// The base is some epoch of a listing that began, perhaps not of the last listing; nothing is barred.
    StaleListing,
    /// The copy is made first, and the base fenced afterwards.
    CopiedBeforeFence,
    /// An epoch begins, and then its database is published.
    BegunTooEarly,
    /// The database is written before the epoch begins.
    WrittenBeforeBegun,
    /// The database is said to be clean, and then it is closed.
    CleanBeforeClosed,
    /// Whether there is a log to be copied is looked up, and may be denied although there is one.
    LogLookedUp,
    /// After a commit whose sync failed, the database is opened again in the same epoch.
    ReopenedAfterFailure,
    /// The log is emptied between the commit and the check.
    LogEmptiedBeforeCheck,
    /// The database from before any epoch is renamed, not copied; who finds it neither there nor under the name of an
    /// epoch that never began, the last first, makes an empty one.
    OriginalRenamed,
    /// The same with the first name first.
    OriginalRenamedUpwards,
}

impl Design {
    /// The database from before any epoch is renamed.
    pub(crate) fn is_original_renamed(self) -> bool {
        matches!(self, Self::OriginalRenamed | Self::OriginalRenamedUpwards)
    }

    /// The check comes before the commit.
    pub(crate) fn checks_first(self) -> bool {
        matches!(self, Self::CheckBeforeWrite | Self::LeaseBeforeWrite)
    }

    /// All epochs share the first database.
    pub(crate) fn is_shared_file(self) -> bool {
        matches!(self, Self::LeaseBeforeWrite | Self::EpochAfterWrite)
    }
}
