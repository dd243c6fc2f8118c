//! Handles `GET /leaderboard` from what the writer published: no lock, no database, no serialising.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::answer::{Fault, json_from};
use crate::game::Game;
use crate::telemetry::SPANS;

pub(crate) async fn leaderboard(State(game): State<Game>) -> Result<Response, Fault> {
    let view = game.store().view();
    let condition = view.condition.load();
    if !condition.is_open() {
        return Err(Fault::unavailable(condition.to_string()));
    }
    let board = view.board.load();
    let _span = tracing::info_span!(target: SPANS, "leaderboard.query", "leaderboard.entries" = board.len).entered();
    Ok(json_from(StatusCode::OK, board.body.clone()))
}
