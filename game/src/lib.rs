//! Drafty Bird: a browser game with a leaderboard, served from one binary. Scores are durable before they are answered,
//! and a stop loses none.
//!
//! [`app()`] is the whole game as a router, to be tested without a socket; [`run`] serves it on a listener until told to
//! stop; [`Game`] is what both share. [`process::main`] is the program.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test may panic and compares exact values"))]

mod answer;
mod app;
mod board;
mod body;
mod chaos;
mod clock;
mod collector;
mod commands;
mod connection;
mod edge;
mod folder;
mod game;
mod js_number;
mod leaderboard;
mod log_sink;
mod metrics;
pub mod process;
mod request_id;
mod route;
mod run_ids;
mod score;
mod score_body;
mod serve;
mod settings;
mod store;
mod submit;
mod telemetry;
mod tls;
mod watched;
mod web;

pub use app::{app, metrics_app};
pub use chaos::ChaosSettings;
pub use game::{Game, GameError};
pub use score::{PLAYER_CHARS_MAX, RUN_ID_CHARS_MAX, RunId, Score, player_name};
pub use score_body::{BODY_BYTES_MAX, BodyFault, RunIdField, ScoreBody, parse_score_body};
pub use serve::{Stopped, run};
pub use settings::{Limits, Settings, SettingsError, Storage};
