//! CloudWatch: metrics that are measured every simulated minute, and alarms that follow them. It decides the state of an alarm
//! by its metrics alone; what follows from it is for whoever asks.

mod alarm;
mod collect;
mod dashboard;
mod evaluate;
mod expression;
mod kinds;
mod query;
mod series;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

pub(crate) use collect::keep_up;
pub(crate) use kinds::KINDS;

use self::{alarm::Alarm, series::Measurements};
use super::{Answer, Call, Fault, World};

/// A minute, which is what metrics are kept by.
const MINUTE_MS: u64 = 60_000;

/// The service's state.
#[derive(Debug, Default)]
pub(crate) struct CloudWatch {
    inside: Mutex<Inside>,
    collecting: AtomicBool,
}

#[derive(Debug, Default)]
struct Inside {
    measured: Measurements,
    alarms: BTreeMap<String, Alarm>,
    dashboards: BTreeMap<String, dashboard::Dashboard>,
    /// What load balancers had counted at the last minute, by its name and its group's.
    counted: BTreeMap<(String, Option<String>), super::elb::Counted>,
}

impl CloudWatch {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An alarm's state: `OK`, `ALARM` or `INSUFFICIENT_DATA`; none where there is no such alarm.
    pub(crate) fn alarm_state(&self, name: &str) -> Option<String> {
        self.lock().alarms.get(name).map(|alarm| alarm.state.name().to_owned())
    }
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    match call.operation.as_str() {
        "PutMetricData" => query::put(world, input),
        "GetMetricData" => query::data(world, input),
        "GetMetricStatistics" => query::statistics(world, input),
        "ListMetrics" => query::list(world, input),
        "PutMetricAlarm" => alarm::put(world, input),
        "DescribeAlarms" => alarm::describe(world, input),
        "DescribeAlarmsForMetric" => alarm::describe_for_metric(world, input),
        "DescribeAlarmHistory" => alarm::history(world, input),
        "DeleteAlarms" => alarm::delete(world, input),
        "SetAlarmState" => alarm::set_state(world, input),
        "EnableAlarmActions" => alarm::actions(world, input, true),
        "DisableAlarmActions" => alarm::actions(world, input, false),
        "TagResource" | "UntagResource" | "ListTagsForResource" => alarm::tags(world, &call.operation, input),
        "PutDashboard" => dashboard::put(world, input),
        "GetDashboard" => dashboard::get(world, input),
        "ListDashboards" => dashboard::list(world, input),
        "DeleteDashboards" => dashboard::delete(world, input),
        _ => Err(Fault::unknown(&call.service, &call.operation)),
    }
}
