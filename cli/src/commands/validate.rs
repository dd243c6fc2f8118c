//! `dbird validate`: every fault of every environment for every cloud, without asking any of them.

use dbird_core::Cloud;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{Event, events::FaultView},
};

/// Check the environment files, offline
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every environment is checked for every cloud, unless -e or -c name one. Faults that stop a deploy end with exit code 2;
warnings don't.

Examples:
    dbird validate
    dbird validate -e prod -c aws
    dbird validate --set scale.max=3        what if?
    dbird validate -o json | jq 'select(.event == \"fault\")'")]
pub(crate) struct Args {}

/// Checks, says each fault once, and counts.
pub(crate) fn run(_: &Args, cx: &Context) -> Result<Done> {
    let project = cx.project()?;
    let environments = match cx.wanted() {
        Some(name) => vec![project.environment(Some(name))?],
        None => project.environments()?,
    };
    let clouds = cx.global.cloud.map_or_else(|| Cloud::ALL.to_vec(), |c| vec![c]);
    let combinations = environments.len() * clouds.len();
    let mut faults: Vec<FaultView> = Vec::new();
    let mut summary = Vec::new();
    for environment in &environments {
        for &cloud in &clouds {
            let found = project.resolve(environment, cloud, &cx.global.set, &cx.out)?;
            let errors = found.faults.iter().filter(|f| f.severity == "error").count();
            let warnings = found.faults.len() - errors;
            summary.push(Event::Validated { environment: environment.clone(), cloud, errors, warnings });
            let place = format!("{environment} for {cloud}");
            if let Some(spec) = found.spec.filter(|s| dbird_templates::CLOUDS.contains(&s.cloud)) {
                project.render(&spec, None)?;
            }
            for fault in found.faults {
                // What is wrong in base.toml is wrong everywhere; it is said once.
                match faults.iter_mut().find(|f| is_same(f, &fault)) {
                    Some(known) => known.seen_in.push(place.clone()),
                    None => faults.push(FaultView { seen_in: vec![place.clone()], ..fault }),
                }
            }
        }
    }
    let errors = faults.iter().filter(|f| f.severity == "error").count();
    for mut fault in faults {
        // What is wrong everywhere need not say where.
        if fault.seen_in.len() == combinations {
            fault.seen_in.clear();
        }
        cx.out.event(Event::Fault(fault));
    }
    summary.into_iter().for_each(|line| cx.out.event(line));
    match errors {
        0 => Ok(Done::success()),
        1 => Err(Failure::usage("the configuration has 1 fault")),
        n => Err(Failure::usage(format!("the configuration has {n} faults"))),
    }
}

fn is_same(a: &FaultView, b: &FaultView) -> bool {
    (&a.file, a.line, a.column, &a.message, &a.code) == (&b.file, b.line, b.column, &b.message, &b.code)
}
