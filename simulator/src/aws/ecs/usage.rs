//! How much of its processor a service uses, as `/proc` tells of its processes. It decides nothing.

use std::{sync::Arc, time::Instant};

use super::{Ecs, names, processes::ticks_of_task};
use crate::aws::World;

/// The kernel counts processor time in hundredths of a second for every program.
const TICKS_PER_S: f64 = 100.0;
/// Looked at again sooner, the ticks would be too coarse.
const LEAST_S: f64 = 0.1;

impl Ecs {
    /// The mean of what a service's tasks use of their processors since they were last looked at, in percent; none while no task
    /// has been looked at twice.
    pub(crate) fn cpu_percent(world: &Arc<World>, cluster: &str, service: &str) -> Option<f64> {
        let mut state = world.ecs.state();
        let state = &mut *state;
        let arn = names::service_arn(world, names::last(cluster), service);
        let running: Vec<(String, u32)> = state
            .tasks
            .values()
            .filter(|t| t.is_running() && t.of.as_ref().is_some_and(|(of, _)| *of == arn))
            .filter_map(|t| Some((t.id.clone(), state.definition(&t.definition)?.cpu_units())))
            .collect();
        let mut all = Vec::new();
        for (id, units) in running {
            let Some(task) = state.tasks.get_mut(&id) else { continue };
            let folders = task.containers.iter().filter_map(|c| c.folder.as_ref());
            let now: u64 = folders.filter_map(|f| Some(ticks_of_task(dataplane::task::pid(f)?))).sum();
            let at = Instant::now();
            match task.used {
                None => task.used = Some((now, at, f64::NAN)),
                Some((before, then, last)) => {
                    let passed_s = at.duration_since(then).as_secs_f64();
                    let percent = if passed_s < LEAST_S {
                        last
                    } else {
                        let used_s = now.saturating_sub(before) as f64 / TICKS_PER_S;
                        let percent = (used_s / passed_s / (f64::from(units) / 1024.0) * 100.0).min(100.0);
                        task.used = Some((now, at, percent));
                        percent
                    };
                    if !percent.is_nan() {
                        all.push(percent);
                    }
                }
            }
        }
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}
