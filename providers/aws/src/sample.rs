//! What a release's requests were like, as the load balancer counted them for CloudWatch. Only whole minutes that CloudWatch
//! has had time to complete are read, so that no request is counted twice by two windows that follow each other.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat};
use aws_smithy_types::DateTime;
use dbird_core::{ProviderError, ReleaseId, Samples, Target, Window};

use crate::AwsProvider;
use crate::error::Answer;
use crate::service::document::base;
use crate::service::observe::{Places, traffic};
use crate::service::{apply, rules};
use crate::stack::stack_of_cached;

/// CloudWatch counts by the minute.
const MINUTE_MS: u64 = 60_000;
/// A minute is complete this long after its end.
const LAG_MS: u64 = 60_000;
/// The upper bounds of the latency buckets, in milliseconds.
const BOUNDS_MS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000];

pub(crate) async fn sample(
    p: &AwsProvider,
    target: &Target,
    releases: &[ReleaseId],
    window: Window,
) -> Result<Vec<Samples>, ProviderError> {
    let none = || releases.iter().map(|release| Samples::none(*release)).collect();
    let Some((from_ms, until_ms)) = minutes(p.clock.now_unix_ms(), p.clock.there_ms(window.length_ms)) else {
        return Ok(none());
    };
    let base = base(target);
    let Some(stack) = stack_of_cached(p, &base).await? else { return Ok(none()) };
    let Some(balancer) = Places::of(&stack.outputs).get("LoadBalancer").map(str::to_owned) else { return Ok(none()) };
    let groups = groups(p, target, &Places::of(&stack.outputs)).await?;
    let wanted: Vec<_> =
        releases.iter().filter_map(|release| Some((*release, groups.get(release)?.as_str()))).collect();
    if wanted.is_empty() {
        return Ok(none());
    }
    let queries = wanted.iter().enumerate().flat_map(|(index, (_, group))| queries(index, group, &balancer)).collect();
    p.clients.turn("CloudWatch:GetMetricData").await;
    let seconds = |ms: u64| DateTime::from_secs(i64::try_from(ms / 1000).unwrap_or(i64::MAX));
    let read = p
        .clients
        .cloudwatch()
        .await
        .get_metric_data()
        .set_metric_data_queries(Some(queries))
        .start_time(seconds(from_ms))
        .end_time(seconds(until_ms))
        .send()
        .await
        .or_fault("read the metrics", &balancer)?;
    let covered_ms = (until_ms - from_ms) / u64::from(p.clock.speed());
    Ok(releases
        .iter()
        .map(|release| match wanted.iter().position(|(wanted, _)| wanted == release) {
            None => Samples::none(*release),
            Some(index) => Samples { window_ms: covered_ms, ..gather(*release, index, read.metric_data_results()) },
        })
        .collect())
}

/// The whole minutes of a window that ends now, as far as they are complete; none where there is none.
fn minutes(now_unix_ms: u64, length_ms: u64) -> Option<(u64, u64)> {
    let floor = |ms: u64| ms / MINUTE_MS * MINUTE_MS;
    let until = now_unix_ms.checked_sub(LAG_MS)?;
    let from = floor(until.checked_sub(length_ms)?);
    let until = floor(until);
    (until > from).then_some((from, until))
}

/// The target group of each release. Where two releases share one, the newer one answers for it.
async fn groups(
    p: &AwsProvider,
    target: &Target,
    places: &Places<'_>,
) -> Result<BTreeMap<ReleaseId, String>, ProviderError> {
    let service = apply::found_lately(p, &base(target), &target.service).await?;
    let Some(service) = service else { return Ok(BTreeMap::new()) };
    let traffic = traffic(places);
    let mut found: Vec<(String, String)> = Vec::new();
    for set in service.task_sets() {
        let group = set.load_balancers().first().and_then(|balancer| balancer.target_group_arn());
        found.extend(set.task_definition().zip(group).map(|(arn, group)| (arn.to_owned(), group.to_owned())));
    }
    if found.is_empty() {
        let revisions: Vec<_> = service
            .current_service_revisions()
            .iter()
            .filter_map(|revision| revision.arn().map(str::to_owned))
            .collect();
        if revisions.len() > 1 {
            let client = p.clients.ecs().await;
            let read = client
                .describe_service_revisions()
                .set_service_revision_arns(Some(revisions))
                .send()
                .await
                .or_fault("read the service's revisions", &target.service)?;
            for revision in read.service_revisions() {
                let group = revision.resolved_configuration().and_then(|config| config.load_balancers().first());
                let group = group.and_then(|balancer| balancer.target_group_arn());
                found.extend(revision.task_definition().zip(group).map(|(arn, g)| (arn.to_owned(), g.to_owned())));
            }
        }
    }
    if found.is_empty() {
        // Nothing moves between target groups: requests go to one.
        let shares = rules::shares(p, &traffic.listener).await?;
        let serves = shares.iter().max_by_key(|(_, weight)| *weight).map(|(group, _)| group.clone());
        let deployments = service.deployments().iter().filter_map(|deployment| deployment.task_definition());
        found.extend(deployments.filter_map(|arn| Some((arn.to_owned(), serves.clone()?))));
    }
    let mut groups = BTreeMap::new();
    for (definition, group) in found {
        groups.insert(apply::release_of(p, &definition).await?, group);
    }
    let mut taken = Vec::new();
    let newest_first: Vec<_> = groups.into_iter().rev().collect();
    Ok(newest_first
        .into_iter()
        .filter(|(_, group)| {
            let free = !taken.contains(group);
            taken.push(group.clone());
            free
        })
        .collect())
}

/// What is asked of one target group.
fn queries(index: usize, group: &str, balancer: &str) -> Vec<MetricDataQuery> {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    // CloudWatch knows a target group by the end of its ARN.
    let group = group.rsplit(':').next().unwrap_or(group);
    let query = |id: String, metric: &str, stat: &str| {
        let metric = Metric::builder()
            .namespace("AWS/ApplicationELB")
            .metric_name(metric)
            .dimensions(dimension("TargetGroup", group))
            .dimensions(dimension("LoadBalancer", balancer))
            .build();
        let stat = MetricStat::builder().metric(metric).period(60).stat(stat).build();
        MetricDataQuery::builder().id(id).metric_stat(stat).return_data(true).build()
    };
    let mut queries = vec![
        query(format!("r{index}_requests"), "RequestCount", "Sum"),
        query(format!("r{index}_failed"), "HTTPCode_Target_5XX_Count", "Sum"),
        query(format!("r{index}_unreached"), "TargetConnectionErrorCount", "Sum"),
        query(format!("r{index}_timed"), "TargetResponseTime", "SampleCount"),
    ];
    queries.extend(BOUNDS_MS.iter().map(|bound_ms| {
        // Seconds there.
        #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
        let seconds = *bound_ms as f64 / 1000.0;
        query(format!("r{index}_below_{bound_ms}"), "TargetResponseTime", &format!("PR(:{seconds})"))
    }));
    queries
}

/// What one target group's answers say.
fn gather(release: ReleaseId, index: usize, results: &[MetricDataResult]) -> Samples {
    let by_minute = |what: &str| -> BTreeMap<i64, f64> {
        let id = format!("r{index}_{what}");
        let result = results.iter().find(|result| result.id() == Some(&id));
        let result = result.map(|r| (r.timestamps(), r.values())).unwrap_or_default();
        result.0.iter().map(DateTime::secs).zip(result.1.iter().copied()).collect()
    };
    let sum = |what: &str| whole(by_minute(what).values().sum());
    let requests = sum("requests");
    let timed = by_minute("timed");
    let mut latency_ms = BTreeMap::new();
    let all = whole(timed.values().sum());
    let mut before = 0;
    for bound_ms in BOUNDS_MS {
        let ranks = by_minute(&format!("below_{bound_ms}"));
        // A percentile rank is a percentage of that minute's requests.
        let below: f64 =
            ranks.iter().map(|(minute, rank)| rank / 100.0 * timed.get(minute).copied().unwrap_or(0.0)).sum();
        let below = whole(below).clamp(before, all);
        latency_ms.insert(bound_ms, below - before);
        before = below;
    }
    latency_ms.insert(u64::MAX, all - before);
    if all == 0 {
        latency_ms.clear();
    }
    let errors = (sum("failed") + sum("unreached")).min(requests);
    Samples { release, requests, errors, latency_ms, failing: Vec::new(), window_ms: 0 }
}

fn whole(number: f64) -> u64 {
    // Counts are far below where a double loses whole numbers.
    number.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_follow_each_other_share_no_minute() {
        for (length_ms, every_ms) in [(60_000, 60_000), (30_000, 30_000), (90_000, 90_000), (300_000, 300_000)] {
            let mut covered = Vec::new();
            for look in 0..200 {
                let now = 10_000_000 + 1_234 + look * every_ms;
                covered.extend(minutes(now, length_ms));
            }
            assert!(!covered.is_empty());
            for pair in covered.windows(2) {
                assert_eq!(pair[0].1, pair[1].0, "{length_ms}: {pair:?}");
            }
        }
    }

    #[test]
    fn only_complete_minutes_are_read() {
        let cases = [
            (600_000, 60_000, Some((480_000, 540_000))),
            (659_999, 60_000, Some((480_000, 540_000))),
            (660_000, 60_000, Some((540_000, 600_000))),
            (600_000, 10_000, Some((480_000, 540_000))),
            (630_000, 10_000, None),
            (30_000, 60_000, None),
        ];
        for (now, length, wanted) in cases {
            assert_eq!(minutes(now, length), wanted, "{now} {length}");
        }
    }

    fn result(id: &str, values: &[(i64, f64)]) -> MetricDataResult {
        MetricDataResult::builder()
            .id(id)
            .set_timestamps(Some(values.iter().map(|(at, _)| DateTime::from_secs(*at)).collect()))
            .set_values(Some(values.iter().map(|(_, value)| *value).collect()))
            .build()
    }

    #[test]
    fn answers_become_counts() {
        let mut results = vec![
            result("r1_requests", &[(0, 100.0), (60, 200.0)]),
            result("r1_failed", &[(60, 3.0)]),
            result("r1_unreached", &[(0, 1.0)]),
            result("r1_timed", &[(0, 100.0), (60, 200.0)]),
            result("r0_requests", &[(0, 999.0)]),
        ];
        // Half of the first minute's below 10 ms, all of the second's below 100 ms, the rest slower than everything.
        for bound in BOUNDS_MS {
            let first = if bound >= 10 { 50.0 } else { 0.0 };
            let second = if bound >= 100 { 100.0 } else { 0.0 };
            results.push(result(&format!("r1_below_{bound}"), &[(60, second), (0, first)]));
        }
        let samples = gather(ReleaseId(4), 1, &results);
        assert_eq!((samples.requests, samples.errors), (300, 4));
        assert_eq!(samples.latency_ms.values().sum::<u64>(), 300);
        assert_eq!((samples.latency_ms[&10], samples.latency_ms[&100], samples.latency_ms[&u64::MAX]), (50, 200, 50));
        assert_eq!(samples.latency_ms[&50], 0, "an empty bucket says where the next begins");
        let nothing = gather(ReleaseId(3), 2, &results);
        assert!(nothing.requests == 0 && nothing.latency_ms.is_empty());
    }

    #[test]
    fn a_target_group_is_asked_for_by_its_end() {
        let queries = queries(0, "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/bird-blue/0123", "app/bird/45");
        let metric = queries[0].metric_stat().and_then(MetricStat::metric).unwrap();
        let values: Vec<_> = metric.dimensions().iter().filter_map(Dimension::value).collect();
        assert_eq!(values, ["targetgroup/bird-blue/0123", "app/bird/45"]);
        let stats: Vec<_> = queries.iter().filter_map(|query| query.metric_stat()?.stat()).collect();
        assert!(stats.contains(&"PR(:0.005)") && stats.contains(&"PR(:2.5)"), "{stats:?}");
    }
}
