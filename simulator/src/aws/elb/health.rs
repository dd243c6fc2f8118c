//! How targets are: the settings of a health check, the states that a target goes through, and the asking itself, over real
//! connections in simulated time. It never decides where a request goes.

use std::{net::SocketAddr, sync::Weak, time::Duration};

use dataplane::probe;
use serde_json::{Value, json};

use super::tally::InFlight;
use crate::aws::{Fault, World, number, text};

/// A target answers in real time, however fast the simulated time passes: it gets at least so long, if its check allows it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions pass at least so much of real time.
const REST: Duration = Duration::from_millis(20);
/// How often a group that nobody uses is looked at, in simulated time.
const UNUSED_MS: u64 = 5_000;

/// A health check's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) path: String,
    /// `traffic-port` or a number.
    pub(super) port: String,
    pub(super) interval_s: i64,
    pub(super) timeout_s: i64,
    pub(super) healthy: i64,
    pub(super) unhealthy: i64,
    /// `200`, `200-299`, `200,301`.
    pub(super) matcher: String,
}

impl Default for Check {
    fn default() -> Self {
        Check {
            path: "/".to_owned(),
            port: "traffic-port".to_owned(),
            interval_s: 30,
            timeout_s: 5,
            healthy: 5,
            unhealthy: 2,
            matcher: "200".to_owned(),
        }
    }
}

impl Check {
    /// What is given, over what was before.
    pub(super) fn parse(input: &Value, before: &Check) -> Result<Self, Fault> {
        let within = |name: &str, before: i64, least: i64, most: i64| {
            let given = number(input, name).unwrap_or(before);
            if (least..=most).contains(&given) {
                return Ok(given);
            }
            let said = format!("{name} '{given}' must be between '{least}' and '{most}'");
            Err(Fault::new("ValidationError", said))
        };
        if !super::group::is_enabled(input) {
            let said = "Health checks cannot be disabled for target groups with target type 'ip'";
            return Err(Fault::new("ValidationError", said));
        }
        let given = |name: &str, before: &str| text(input, name).unwrap_or(before).to_owned();
        let matcher = input.get("Matcher").and_then(|matcher| text(matcher, "HttpCode")).unwrap_or(&before.matcher);
        let check = Check {
            path: given("HealthCheckPath", &before.path),
            port: input.get("HealthCheckPort").map_or(before.port.clone(), |port| match port.as_str() {
                Some(port) => port.to_owned(),
                None => port.to_string(),
            }),
            interval_s: within("HealthCheckIntervalSeconds", before.interval_s, 5, 300)?,
            timeout_s: within("HealthCheckTimeoutSeconds", before.timeout_s, 2, 120)?,
            healthy: within("HealthyThresholdCount", before.healthy, 2, 10)?,
            unhealthy: within("UnhealthyThresholdCount", before.unhealthy, 2, 10)?,
            matcher: matcher.to_owned(),
        };
        if !check.path.starts_with('/') || check.path.len() > 1024 {
            let said =
                format!("Health check path '{}' must start with a '/' and have at most 1024 characters", check.path);
            return Err(Fault::new("ValidationError", said));
        }
        if check.timeout_s >= check.interval_s {
            return Err(Fault::new(
                "ValidationError",
                format!(
                    "Health check timeout '{}' must be smaller than the interval '{}'",
                    check.timeout_s, check.interval_s
                ),
            ));
        }
        if check.port != "traffic-port" && check.port.parse::<u16>().is_err() {
            return Err(Fault::new(
                "ValidationError",
                format!("Health check port '{}' must be 'traffic-port' or a number between 1 and 65535", check.port),
            ));
        }
        if codes(&check.matcher).is_none() {
            let said = format!("Health check matcher HTTP code '{}' must be within '200-499'", check.matcher);
            return Err(Fault::new("ValidationError", said));
        }
        Ok(check)
    }

    pub(super) fn describe(&self, group: &mut Value) {
        group["HealthCheckEnabled"] = json!(true);
        group["HealthCheckProtocol"] = json!("HTTP");
        group["HealthCheckPort"] = json!(self.port);
        group["HealthCheckPath"] = json!(self.path);
        group["HealthCheckIntervalSeconds"] = json!(self.interval_s);
        group["HealthCheckTimeoutSeconds"] = json!(self.timeout_s);
        group["HealthyThresholdCount"] = json!(self.healthy);
        group["UnhealthyThresholdCount"] = json!(self.unhealthy);
        group["Matcher"] = json!({ "HttpCode": self.matcher });
    }

    fn is_good(&self, status: u16) -> bool {
        codes(&self.matcher).is_some_and(|codes| codes.iter().any(|(from, to)| (*from..=*to).contains(&status)))
    }
}

/// Ranges of statuses.
fn codes(matcher: &str) -> Option<Vec<(u16, u16)>> {
    let range = |part: &str| {
        let (from, to) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (200 <= from && from <= to && to <= 499).then_some((from, to))
    };
    matcher.split(',').map(range).collect()
}

/// How a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Health {
    state: State,
    good: i64,
    bad: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Initial { asked: bool },
    Healthy,
    Unhealthy(Bad),
    Draining,
}

/// Why a question was not answered well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    Status(u16),
    Late,
    Broken,
}

impl Health {
    pub(super) fn registered() -> Self {
        Health { state: State::Initial { asked: false }, good: 0, bad: 0 }
    }

    pub(super) fn drain(&mut self) {
        self.state = State::Draining;
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.state == State::Healthy
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state == State::Draining
    }

    /// After one question. The first good answer makes a new target healthy; later it takes as many as the check says.
    pub(super) fn asked(&mut self, check: &Check, outcome: Result<(), Bad>) {
        (self.good, self.bad) = if outcome.is_ok() { (self.good + 1, 0) } else { (0, self.bad + 1) };
        match (&self.state, outcome) {
            (State::Draining, _) => {}
            (State::Initial { .. }, Ok(())) => self.state = State::Healthy,
            (State::Unhealthy(_), Ok(())) if self.good >= check.healthy => self.state = State::Healthy,
            (_, Err(bad)) if self.bad >= check.unhealthy => self.state = State::Unhealthy(bad),
            (State::Initial { .. }, Err(_)) => self.state = State::Initial { asked: true },
            _ => {}
        }
    }

    /// The state's name, where the group is `used` by a load balancer.
    pub(super) fn name(&self, used: bool) -> &'static str {
        match &self.state {
            State::Draining => "draining",
            _ if !used => "unused",
            State::Initial { .. } => "initial",
            State::Healthy => "healthy",
            State::Unhealthy(_) => "unhealthy",
        }
    }

    pub(super) fn describe(&self, used: bool) -> Value {
        let state = self.name(used);
        let (reason, description) = match &self.state {
            State::Draining => ("Target.DeregistrationInProgress", "Target deregistration is in progress".to_owned()),
            _ if !used => (
                "Target.NotInUse",
                "Target group is not configured to receive traffic from the load balancer".to_owned(),
            ),
            State::Healthy => return json!({ "State": state }),
            State::Initial { asked: false } => {
                ("Elb.RegistrationInProgress", "Target registration is in progress".to_owned())
            }
            State::Initial { asked: true } => {
                ("Elb.InitialHealthChecking", "Initial health checks in progress".to_owned())
            }
            State::Unhealthy(Bad::Status(status)) => {
                ("Target.ResponseCodeMismatch", format!("Health checks failed with these codes: [{status}]"))
            }
            State::Unhealthy(Bad::Late) => ("Target.Timeout", "Request timed out".to_owned()),
            State::Unhealthy(Bad::Broken) => ("Target.FailedHealthChecks", "Health checks failed".to_owned()),
        };
        json!({ "State": state, "Reason": reason, "Description": description })
    }
}

/// Asks one target until it or the account is gone.
pub(super) async fn watch(world: Weak<World>, group: String, id: String, address: SocketAddr) {
    loop {
        let Some(now) = world.upgrade() else { return };
        let clock = now.clock;
        let (used, check) = {
            let inside = now.elb.lock();
            let Some(found) = inside.groups.get(&group) else { return };
            (inside.is_used(&group), found.check.clone())
        };
        drop(now);
        if !used {
            tokio::time::sleep(clock.real(UNUSED_MS).max(REST)).await;
            continue;
        }
        let timeout_ms = u64::try_from(check.timeout_s).unwrap_or_default() * 1000;
        let timeout = clock.real(timeout_ms).max(PATIENCE.min(Duration::from_millis(timeout_ms)));
        let outcome = ask(address, &check, timeout).await;
        let Some(now) = world.upgrade() else { return };
        {
            let mut inside = now.elb.lock();
            let Some(group) = inside.groups.get_mut(&group) else { return };
            let target = group.targets.iter_mut().find(|target| target.id == id && target.address == address);
            let Some(target) = target else { return };
            target.health.asked(&check, outcome);
        }
        drop(now);
        let interval_ms = u64::try_from(check.interval_s).unwrap_or_default() * 1000;
        tokio::time::sleep(clock.real(interval_ms).max(REST)).await;
    }
}

async fn ask(mut address: SocketAddr, check: &Check, timeout: Duration) -> Result<(), Bad> {
    if let Ok(port) = check.port.parse() {
        address.set_port(port);
    }
    let asked = std::time::Instant::now();
    match probe::ask(address, &check.path, timeout).await.status {
        Some(status) if check.is_good(status.as_u16()) => Ok(()),
        Some(status) => Err(Bad::Status(status.as_u16())),
        None if asked.elapsed() >= timeout => Err(Bad::Late),
        None => Err(Bad::Broken),
    }
}

/// Waits until a draining target may go: its delay has passed, and its requests have ended or the delay has passed in real
/// time as well.
pub(super) async fn drained(world: &Weak<World>, delay_s: u64, in_flight: &InFlight) {
    let Some(clock) = world.upgrade().map(|world| world.clock) else { return };
    let latest = tokio::time::Instant::now() + Duration::from_secs(delay_s);
    clock.sleep_ms(delay_s * 1000).await;
    while in_flight.count() > 0 && tokio::time::Instant::now() < latest {
        tokio::time::sleep(REST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_outside_the_ranges_are_refused() {
        for (settings, valid) in [
            (json!({}), true),
            (json!({ "HealthCheckIntervalSeconds": "5", "HealthCheckTimeoutSeconds": "2" }), true),
            (json!({ "HealthCheckIntervalSeconds": 4, "HealthCheckTimeoutSeconds": 2 }), false),
            (json!({ "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 5 }), false),
            (json!({ "HealthCheckIntervalSeconds": 301 }), false),
            (json!({ "HealthyThresholdCount": 1 }), false),
            (json!({ "UnhealthyThresholdCount": 11 }), false),
            (json!({ "HealthCheckPath": "readyz" }), false),
            (json!({ "HealthCheckPort": "8080" }), true),
            (json!({ "HealthCheckPort": "http" }), false),
            (json!({ "Matcher": { "HttpCode": "200-299,301" } }), true),
            (json!({ "Matcher": { "HttpCode": "500" } }), false),
        ] {
            assert_eq!(Check::parse(&settings, &Check::default()).is_ok(), valid, "{settings}");
        }
    }

    #[test]
    fn states_and_their_reasons() {
        let check = Check { healthy: 2, unhealthy: 2, ..Check::default() };
        let mut health = Health::registered();
        let mut step = |outcome: Option<Result<(), Bad>>| {
            outcome.into_iter().for_each(|outcome| health.asked(&check, outcome));
            let told = health.describe(true);
            (told["State"].as_str().unwrap().to_owned(), told["Reason"].as_str().unwrap_or("").to_owned())
        };
        let table = [
            (None, "initial", "Elb.RegistrationInProgress"),
            (Some(Err(Bad::Broken)), "initial", "Elb.InitialHealthChecking"),
            (Some(Err(Bad::Broken)), "unhealthy", "Target.FailedHealthChecks"),
            (Some(Ok(())), "unhealthy", "Target.FailedHealthChecks"),
            (Some(Ok(())), "healthy", ""),
            (Some(Err(Bad::Status(503))), "healthy", ""),
            (Some(Err(Bad::Status(503))), "unhealthy", "Target.ResponseCodeMismatch"),
            (Some(Err(Bad::Late)), "unhealthy", "Target.Timeout"),
        ];
        for (outcome, state, reason) in table {
            assert_eq!(step(outcome.clone()), (state.to_owned(), reason.to_owned()), "{outcome:?}");
        }
        assert_eq!(health.describe(false)["Reason"], "Target.NotInUse");
        health.drain();
        health.asked(&check, Ok(()));
        assert_eq!(health.describe(true)["Reason"], "Target.DeregistrationInProgress");
    }
}
