//! Handles `POST /score`: from a request to a stored score's answer. What a body means is `score_body`'s decision.

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tracing::{Instrument, Span, field};

use crate::answer::{Fault, json};
use crate::body;
use crate::game::Game;
use crate::score::{RunId, Score};
use crate::score_body::{BodyFault, parse_score_body};
use crate::store::{Answer, NewScore};
use crate::telemetry::SPANS;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    player: &'a str,
    score: Score,
    created_at: &'a str,
    run_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Submitted<'a> {
    stored: Stored<'a>,
    high_score: Score,
}

pub(crate) async fn score(State(game): State<Game>, request: Request) -> Result<Response, Fault> {
    let (parts, body) = request.into_parts();
    let body = body::read(body, game.settings().limits.body_timeout).await?;
    let new = new_score(&parts.headers, &body)?;
    let span = tracing::info_span!(
        target: SPANS,
        "score.submit",
        "score.value" = new.score.get(),
        "score.high" = field::Empty,
        "score.repeated" = field::Empty,
    );
    let answer = submit(&game, new).instrument(span).await?;
    let Answer { kept, high_score } = &answer;
    let stored = Stored {
        player: &kept.entry.player,
        score: kept.entry.score,
        created_at: &kept.entry.created_at,
        run_id: kept.run_id.as_str(),
    };
    Ok(json(StatusCode::CREATED, &Submitted { stored, high_score: *high_score }))
}

async fn submit(game: &Game, new: NewScore) -> Result<Answer, Fault> {
    let answer = game.store().submit(new).await.map_err(|refusal| Fault::unavailable(refusal.to_string()))?;
    let span = Span::current();
    span.record("score.high", answer.high_score.get());
    span.record("score.repeated", answer.kept.repeated);
    Ok(answer)
}

fn new_score(headers: &HeaderMap, body: &[u8]) -> Result<NewScore, Fault> {
    let content_type = match headers.get(CONTENT_TYPE).map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return Err(refuse(&BodyFault::ContentType)),
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed bodies are not supported"));
    }
    let read = parse_score_body(content_type, body).map_err(|fault| refuse(&fault))?;
    let run_id = match headers.get(IDEMPOTENCY_KEY).map(|value| value.as_bytes().trim_ascii()) {
        Some(key) if !key.is_empty() => {
            let key = std::str::from_utf8(key).ok().and_then(RunId::new);
            Some(key.ok_or_else(|| {
                Fault::new(StatusCode::BAD_REQUEST, "Idempotency-Key must be at most 64 letters, digits, '-' or '_'")
            })?)
        }
        _ => read.run_id.transpose().map_err(|fault| refuse(&fault))?,
    };
    Ok(NewScore { player: read.player, score: read.score, run_id })
}

fn refuse(fault: &BodyFault) -> Fault {
    let status = match fault {
        BodyFault::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        BodyFault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Fault::new(status, fault.to_string())
}
