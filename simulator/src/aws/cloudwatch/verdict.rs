//! What follows from an alarm's last values, missing ones included. A pure rule, as CloudWatch's manual has it in its tables.

/// The state of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Fine,
    Alarm,
    Insufficient,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Fine => "OK",
            State::Alarm => "ALARM",
            State::Insufficient => "INSUFFICIENT_DATA",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [State::Fine, State::Alarm, State::Insufficient].into_iter().find(|state| state.name() == name)
    }
}

/// What a period without a value counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Breaching,
    NotBreaching,
    Ignore,
    /// Nothing: the alarm may lack data.
    Plain,
}

impl Missing {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "breaching" => Some(Missing::Breaching),
            "notBreaching" => Some(Missing::NotBreaching),
            "ignore" => Some(Missing::Ignore),
            "missing" => Some(Missing::Plain),
            _ => None,
        }
    }
}

/// Periods that are looked at besides those that are asked for.
pub(super) const PERIODS_MORE: u64 = 2;

/// The state by the last periods, the oldest first: true for a bad one, none for one without a value. There are
/// [`PERIODS_MORE`] more of them than `periods`; none is given where the state stays as it was.
pub(super) fn verdict(values: &[Option<bool>], periods: usize, to_alarm: usize, missing: Missing) -> Option<State> {
    let real: Vec<bool> = values.iter().rev().filter_map(|value| *value).take(periods).collect();
    let bad = real.iter().filter(|bad| **bad).count();
    if bad >= to_alarm {
        return Some(State::Alarm);
    }
    let lacking = periods - real.len();
    if lacking == 0 {
        return Some(State::Fine);
    }
    let any_good = bad < real.len();
    match missing {
        Missing::Breaching if bad + lacking >= to_alarm => Some(State::Alarm),
        Missing::Breaching | Missing::NotBreaching => Some(State::Fine),
        _ if any_good => Some(State::Fine),
        Missing::Ignore => None,
        Missing::Plain if bad > 0 => Some(State::Alarm),
        Missing::Plain => Some(State::Insufficient),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0` is good, `X` bad, `-` missing.
    fn states(values: &str, to_alarm: usize) -> [Option<State>; 4] {
        let values: Vec<Option<bool>> =
            values.chars().map(|letter| Some(letter == 'X').filter(|_| letter != '-')).collect();
        [Missing::Plain, Missing::Ignore, Missing::Breaching, Missing::NotBreaching]
            .map(|missing| verdict(&values, 3, to_alarm, missing))
    }

    #[test]
    fn three_periods_as_the_manual_says() {
        const FINE: Option<State> = Some(State::Fine);
        const ALARM: Option<State> = Some(State::Alarm);
        for (values, to_alarm, expected) in [
            ("0-X-X", 3, [FINE; 4]),
            ("----0", 3, [FINE; 4]),
            ("-----", 3, [Some(State::Insufficient), None, ALARM, FINE]),
            ("0XX-X", 3, [ALARM; 4]),
            ("--X--", 3, [ALARM, None, ALARM, FINE]),
            ("0-X-X", 2, [ALARM; 4]),
            ("00X0X", 2, [ALARM; 4]),
            ("0-X--", 2, [FINE, FINE, ALARM, FINE]),
            ("----0", 2, [FINE, FINE, ALARM, FINE]),
            ("----X", 2, [ALARM, None, ALARM, FINE]),
            ("XXX00", 3, [FINE; 4]),
        ] {
            assert_eq!(states(values, to_alarm), expected, "{values}, {to_alarm} of 3");
        }
    }

    #[test]
    fn one_period_looks_back_for_a_value() {
        let one = |values: [Option<bool>; 3], missing| verdict(&values, 1, 1, missing);
        assert_eq!(one([None, None, Some(true)], Missing::NotBreaching), Some(State::Alarm));
        assert_eq!(one([Some(true), None, None], Missing::NotBreaching), Some(State::Alarm));
        assert_eq!(one([Some(false), None, None], Missing::Breaching), Some(State::Fine));
        assert_eq!(one([None; 3], Missing::Breaching), Some(State::Alarm));
        assert_eq!(one([None; 3], Missing::NotBreaching), Some(State::Fine));
    }
}
