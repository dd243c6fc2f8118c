//! Maps paths to handlers. What every request gets (identity, CORS, chaos, metrics, a log line) is the edge's business.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::answer::{Fault, json};
use crate::edge::EdgeLayer;
use crate::game::{Game, Stage};
use crate::metrics;
use crate::store::Condition;
use crate::{body, leaderboard, submit, web};

/// The whole game as a router; needs no socket. With a separate metrics port `/metrics` is not part of it.
pub fn app(game: Game) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/game-start", post(game_start))
        .route("/score", post(submit::score))
        .route("/leaderboard", get(leaderboard::leaderboard))
        .route("/", get(web::index))
        .route("/assets/{*name}", get(web::asset));
    router = match game.settings().metrics_port {
        None => router.route("/metrics", get(metrics_text)),
        Some(_) => router.route("/metrics", get(not_found)),
    };
    finish(router.fallback(web::fallback), game)
}

/// What is served on `METRICS_PORT`.
pub fn metrics_app(game: Game) -> Router {
    finish(Router::new().route("/metrics", get(metrics_text)).fallback(not_found), game)
}

fn finish(router: Router<Game>, game: Game) -> Router {
    router.method_not_allowed_fallback(method_not_allowed).with_state(game.clone()).layer(EdgeLayer::new(game))
}

async fn healthz() -> Response {
    json(StatusCode::OK, &json!({"status": "ok"}))
}

async fn readyz(State(game): State<Game>) -> Response {
    let condition = game.store().view().condition.load();
    let not_ready = |reason: &dyn std::fmt::Display| {
        let mut body = json!({"status": "not_ready", "reason": reason.to_string()});
        if matches!(**condition, Condition::Held) {
            body["waiting_for"] = "store".into();
        }
        (StatusCode::SERVICE_UNAVAILABLE, body)
    };
    let (status, mut body) = match &**condition {
        _ if game.life().stage() > Stage::Serving => not_ready(&"the process is stopping"),
        Condition::Open { failing: None, .. } if !game.store().view().is_listed() => {
            let (status, mut body) = not_ready(&"no list of scores was found yet");
            body["waiting_for"] = "store".into();
            (status, body)
        }
        Condition::Open { mode, failing: None } => (StatusCode::OK, json!({"status": "ready", "storage_mode": mode})),
        condition => not_ready(condition),
    };
    let part = game.store().view().part.load();
    body["storage"] = part.storage.into();
    body["role"] = if game.life().stage() > Stage::Serving { "draining" } else { part.role }.into();
    if let Some(epoch) = part.epoch {
        body["epoch"] = epoch.into();
    }
    if let Some(locking) = part.locking {
        body["locking"] = locking.into();
    }
    if part.listed == Some(false) {
        body["list"] = "none was published; only recent scores are shown".into();
    }
    if let Some(trouble) = &part.trouble {
        body["trouble"] = trouble.as_str().into();
    }
    if let Some(release) = &game.settings().release {
        body["release"] = release.as_str().into();
    }
    json(status, &body)
}

async fn metrics_text(State(game): State<Game>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))], game.metrics().text()).into_response()
}

async fn game_start(State(game): State<Game>, request: Request) -> Result<Response, Fault> {
    // The body says nothing, but an unread one would cost the connection.
    body::read(request.into_body(), game.settings().limits.body_timeout).await?;
    game.metrics().games_started.inc();
    Ok(json(StatusCode::ACCEPTED, &json!({"accepted": true})))
}

pub(crate) async fn not_found() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "not found")
}

async fn method_not_allowed(request: Request) -> Response {
    let mut response =
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not allowed here", request.method())).into_response();
    // The router adds what is allowed unless something is there already.
    response.headers_mut().remove(ALLOW);
    response
}
