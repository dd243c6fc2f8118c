//! Where the program's own tracing goes: to the run's log always, to stderr where -v or DBIRD_LOG asks for it.

use std::{io, sync::Mutex};

use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::{FilterExt as _, Targets, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::RunLog;
use crate::args::Global;

/// Our own crates; others speak only where DBIRD_LOG names them.
const OURS: [&str; 7] =
    ["dbird", "dbird_aws", "dbird_core", "dbird_driver", "dbird_local", "dbird_registry", "dataplane"];

/// AWS's SDKs write whole requests and answers at their lowest level, with the session's token and the registry's password: that
/// is heard by nobody, whatever is asked for.
fn tells_no_secret(of: &Metadata<'_>) -> bool {
    !(of.target().starts_with("aws_") && *of.level() == Level::TRACE)
}

/// Sets tracing up for this process. A filter that can't be understood is given back.
pub(crate) fn trace(global: &Global, log: RunLog) -> Option<String> {
    let asked = std::env::var("DBIRD_LOG").ok().filter(|v| !v.trim().is_empty());
    let ours = |level: LevelFilter| Targets::new().with_targets(OURS.map(|t| (t, level)));
    let to_stderr = match (&asked, global.verbose) {
        (Some(filter), _) => filter.trim().parse::<LevelFilter>().map(&ours).ok().or_else(|| filter.parse().ok()),
        (None, 0) => None,
        (None, 1) => Some(ours(LevelFilter::DEBUG)),
        (None, _) => Some(Targets::new().with_default(LevelFilter::TRACE)),
    };
    let misread = asked.filter(|_| to_stderr.is_none());
    let to_log = to_stderr.clone().unwrap_or_else(|| ours(LevelFilter::INFO));
    let file = tracing_subscriber::fmt::layer()
        .json()
        .with_writer(Mutex::new(log))
        .with_filter(to_log.and(filter_fn(tells_no_secret)));
    let terminal = to_stderr.map(|filter| {
        let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(true);
        layer.without_time().with_filter(filter.and(filter_fn(tells_no_secret)))
    });
    // A second set-up in one process changes nothing.
    let _ = tracing_subscriber::registry().with(file).with(terminal).try_init();
    misread
}
