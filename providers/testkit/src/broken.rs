//! Providers that break one promise each, so that a law which none of them can break is noticed to be no law.

/// A promise that the in-memory provider breaks when it is made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A preview leaves something behind.
    LookingWrites,
    /// A candidate gets traffic as soon as it is ready.
    TrafficAtOnce,
    /// A repeated application starts another copy.
    AppliesAgain,
    /// A handle works once.
    ForgetsHandles,
    /// Weights are rounded down to tens.
    RoundsWeights,
    /// A repeated `Finish` is refused.
    FinishesOnce,
    /// The previous release comes back with the candidate's document.
    RestoresAnotherDocument,
    /// A first release that is undone stays.
    LeavesTheFirst,
    /// The previous release stays after the end.
    LeavesThePrevious,
    /// A failing task's last lines are not told.
    LosesLastWords,
    /// A shift that comes after an undo is carried out.
    ObeysLateCalls,
    /// Every task ends well.
    AlwaysExitsWell,
    /// Whoever stops a task ends the rollout of its release.
    StopsTheRollout,
    /// A repeated task is started again.
    IgnoresKeys,
    /// The last line of a page comes again on the next.
    RepeatsLines,
    /// What does not exist is said to be worth asking for again.
    SaysRetry,
    /// Data goes with the service.
    DestroysData,
    /// All targets are one.
    MixesTargets,
    /// A candidate of which nothing is to be started is started all the same.
    StartsColdOnes,
    /// Copies of the previous release stop before those of the candidate are ready.
    StopsBeforeStarting,
    /// Traffic goes back to a previous release that was scaled down.
    LeavesTheParentSmall,
    /// Only one release's requests are counted.
    CountsOneRelease,
    /// Every gate has the same name.
    ReusesGates,
    /// A share on the way is not told.
    HidesShares,
    /// A candidate that is undone keeps some traffic.
    KeepsAShare,
}

/// Each law by name, with a fault that it must catch.
pub const MUST_BE_CAUGHT: [(&str, Fault); 22] = [
    ("looking changes nothing", Fault::LookingWrites),
    ("a candidate gets no traffic", Fault::TrafficAtOnce),
    ("applying twice makes one", Fault::AppliesAgain),
    ("a handle survives serialisation", Fault::ForgetsHandles),
    ("weights are exact", Fault::RoundsWeights),
    ("steering twice is steering once", Fault::FinishesOnce),
    ("rolling back restores", Fault::RestoresAnotherDocument),
    ("rolling back the first leaves nothing", Fault::LeavesTheFirst),
    ("finishing leaves only the candidate", Fault::LeavesThePrevious),
    ("a dead candidate hurts nobody", Fault::LosesLastWords),
    ("a late call changes nothing", Fault::ObeysLateCalls),
    ("a one-off task's exit code is real", Fault::AlwaysExitsWell),
    ("stopping a one-off task stops it alone", Fault::StopsTheRollout),
    ("a one-off task starts once", Fault::IgnoresKeys),
    ("log pages neither lose nor repeat", Fault::RepeatsLines),
    ("the unknown is not found", Fault::SaysRetry),
    ("destroying keeps the data", Fault::DestroysData),
    ("targets do not see each other", Fault::MixesTargets),
    ("a cold candidate never overlaps", Fault::StartsColdOnes),
    ("ready copies never fall below", Fault::StopsBeforeStarting),
    ("a scaled-down parent comes back", Fault::LeavesTheParentSmall),
    ("samples count what was served", Fault::CountsOneRelease),
];

/// The same for what only a cloud promises that moves traffic by itself.
pub const MUST_BE_CAUGHT_BESIDE: [(&str, Fault); 3] = [
    ("a gate is passed once", Fault::ReusesGates),
    ("shares on the way are told", Fault::HidesShares),
    ("stopping on the way gives all back", Fault::KeepsAShare),
];
