//! Names the bounded set of routes, which metrics, logs, chaos and health checks tell apart.
//! It never answers anything; the router must agree with it, and a test sees to that.

/// What a path belongs to, whatever was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Healthz,
    Readyz,
    Metrics,
    GameStart,
    Score,
    Leaderboard,
    Index,
    Asset,
    Other,
}

impl Route {
    pub(crate) const ALL: [Self; 9] = [
        Self::Healthz,
        Self::Readyz,
        Self::Metrics,
        Self::GameStart,
        Self::Score,
        Self::Leaderboard,
        Self::Index,
        Self::Asset,
        Self::Other,
    ];

    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/leaderboard" => Self::Leaderboard,
            "/score" => Self::Score,
            "/game-start" => Self::GameStart,
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            "/" => Self::Index,
            _ if path.len() > "/assets/".len() && path.starts_with("/assets/") => Self::Asset,
            _ => Self::Other,
        }
    }

    /// The value of the metrics' `route` label.
    pub(crate) fn pattern(self) -> &'static str {
        match self {
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
            Self::GameStart => "/game-start",
            Self::Score => "/score",
            Self::Leaderboard => "/leaderboard",
            Self::Index => "/",
            Self::Asset => "/assets/*",
            Self::Other => "/*",
        }
    }

    /// Asked by machines every few seconds: not worth a log line.
    pub(crate) fn is_probe(self) -> bool {
        matches!(self, Self::Healthz | Self::Readyz | Self::Metrics)
    }
}
