//! The cloud's time. It is this machine's, but for a simulated cloud, whose time may pass faster: then what the cloud calls
//! a minute is a part of a second here.

use std::time::{SystemTime, UNIX_EPOCH};

use dbird_core::ProviderError;
use dbird_core::provider::ErrorKind;

use crate::error::{Adding, fault};

/// The time of the cloud that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloudClock {
    speed: u32,
    origin_unix_ms: u64,
    ports: u16,
}

impl CloudClock {
    /// The clock for a value of `DBIRD_SIMULATOR`, as `speed=100;origin=1700000000000;ports=8000`; none: the real cloud's.
    pub(crate) fn of(simulator: Option<&str>) -> Result<Self, ProviderError> {
        let mut clock = CloudClock { speed: 1, origin_unix_ms: 0, ports: 0 };
        for part in simulator.unwrap_or_default().split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let understood = match name {
                "speed" => value.parse().ok().filter(|speed| *speed >= 1).map(|speed| clock.speed = speed),
                "origin" => value.parse().ok().map(|origin| clock.origin_unix_ms = origin),
                "ports" => value.parse().ok().map(|ports| clock.ports = ports),
                // What a newer simulator says of itself is not for this one.
                _ => Some(()),
            };
            if understood.is_none() {
                let what = format!("`{part}` is not understood");
                return Err(fault(ErrorKind::Invalid, "read DBIRD_SIMULATOR", simulator.unwrap_or_default(), what)
                    .hint("take the value that the simulator printed when it began"));
            }
        }
        Ok(clock)
    }

    /// How many times as fast as here time passes there.
    pub(crate) fn speed(&self) -> u32 {
        self.speed
    }

    /// Now, in Unix milliseconds of the cloud's time.
    pub(crate) fn now_unix_ms(&self) -> u64 {
        self.there_unix_ms(unix_ms())
    }

    /// A time of this machine's clock in the cloud's.
    pub(crate) fn there_unix_ms(&self, here_unix_ms: u64) -> u64 {
        match here_unix_ms.checked_sub(self.origin_unix_ms) {
            Some(since) if self.speed > 1 => self.origin_unix_ms + since * u64::from(self.speed),
            _ => here_unix_ms,
        }
    }

    /// A time of the cloud's clock in this machine's.
    pub(crate) fn here_unix_ms(&self, there_unix_ms: u64) -> u64 {
        match there_unix_ms.checked_sub(self.origin_unix_ms) {
            Some(since) if self.speed > 1 => self.origin_unix_ms + since / u64::from(self.speed),
            _ => there_unix_ms,
        }
    }

    /// How long the cloud sees what takes so long here.
    pub(crate) fn there_ms(&self, here_ms: u64) -> u64 {
        here_ms.saturating_mul(u64::from(self.speed))
    }

    /// The port at which a listener's port answers: a simulated cloud can't have those of the system.
    pub(crate) fn port(&self, port: u16) -> u16 {
        if port < 1024 { port + self.ports } else { port }
    }
}

/// This machine's clock.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_minute_takes_part_of_a_second() {
        let clock = CloudClock::of(Some("speed=100;origin=1000000;ports=8000;later=1")).unwrap();
        assert_eq!(clock.there_unix_ms(1_000_600), 1_060_000);
        assert_eq!(clock.here_unix_ms(1_060_000), 1_000_600);
        assert_eq!(clock.there_ms(600), 60_000);
        assert_eq!((clock.port(80), clock.port(443), clock.port(9000)), (8080, 8443, 9000));
    }

    #[test]
    fn the_real_clouds_time_is_this_machines() {
        let clock = CloudClock::of(None).unwrap();
        assert_eq!((clock.there_unix_ms(5), clock.here_unix_ms(5), clock.there_ms(5), clock.port(80)), (5, 5, 5, 80));
        assert_eq!(clock.speed(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["speed=0", "speed=fast", "origin=", "ports=99999"] {
            assert!(CloudClock::of(Some(text)).is_err(), "{text}");
        }
    }
}
