//! The HTTP contract as tables, against the router without a socket.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use drafty_bird::{Game, Settings, app, metrics_app};
use futures::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

fn settings(variables: &[(&str, &str)]) -> Settings {
    let mut map = HashMap::from([("SCORE_STORAGE", "memory")]);
    map.extend(variables.iter().copied());
    Settings::read(|name| map.get(name).map(|value| (*value).to_owned())).unwrap().0
}

/// A game that is ready.
async fn game(variables: &[(&str, &str)]) -> Game {
    let game = Game::start(settings(variables)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !game.is_open() {
        assert!(Instant::now() < deadline, "the store did not open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    game
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault} in {:?}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

async fn ask(app: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get(app: &Router, path: &str) -> Answer {
    ask(app, Request::get(path).body(Body::empty()).unwrap()).await
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

#[tokio::test]
async fn every_route_answers_as_the_contract_says() {
    let app = app(game(&[]).await);
    let score = r#"{"player":"A","score":1}"#;
    let table: &[(&str, &str, &str, u16, &str)] = &[
        ("GET", "/healthz", "", 200, "application/json"),
        ("HEAD", "/healthz", "", 200, "application/json"),
        ("GET", "/readyz", "", 200, "application/json"),
        ("GET", "/metrics", "", 200, "text/plain; version=0.0.4"),
        ("POST", "/game-start", "", 202, "application/json"),
        ("POST", "/game-start", "not json at all", 202, "application/json"),
        ("POST", "/score", score, 201, "application/json"),
        ("GET", "/leaderboard", "", 200, "application/json"),
        ("GET", "/leaderboard?limit=5", "", 200, "application/json"),
        ("GET", "/", "", 200, "text/html"),
        ("HEAD", "/", "", 200, "text/html"),
        ("GET", "/some/page", "", 200, "text/html"),
        ("GET", "/.well-known/thing", "", 200, "text/html"),
        ("GET", "/assets/main.js", "", 200, "text/javascript"),
        ("GET", "/assets/style.css", "", 200, "text/css"),
        ("GET", "/assets/bird.svg", "", 200, "image/svg+xml"),
        ("GET", "/assets/missing.js", "", 404, "application/json"),
        ("GET", "/assets/missing", "", 404, "application/json"),
        ("GET", "/assets/../Cargo.toml", "", 404, "application/json"),
        ("GET", "/assets/", "", 404, "application/json"),
        ("GET", "/assets/%ff", "", 404, "application/json"),
        ("GET", "/%ff%00", "", 200, "text/html"),
        ("GET", "/favicon.ico", "", 404, "application/json"),
        ("GET", "/a/b.c", "", 404, "application/json"),
        ("POST", "/some/page", "{}", 404, "application/json"),
        ("GET", "/score", "", 405, "application/json"),
        ("PUT", "/score", score, 405, "application/json"),
        ("DELETE", "/leaderboard", "", 405, "application/json"),
        ("POST", "/healthz", "", 405, "application/json"),
        ("POST", "/", "", 405, "application/json"),
        ("BREW", "/leaderboard", "", 405, "application/json"),
        ("OPTIONS", "/score", "", 204, ""),
        ("OPTIONS", "/whatever", "", 204, ""),
    ];
    for (method, path, body, status, content_type) in table {
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(*path)
            .header("content-type", "application/json")
            .body(Body::from(*body))
            .unwrap();
        let answer = ask(&app, request).await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path}");
        assert!(answer.header("content-type").starts_with(content_type), "{method} {path}: {:?}", answer.headers);
        assert_eq!(answer.header("x-request-id").len(), 36, "{method} {path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{method} {path}");
        if *status >= 400 {
            let body = answer.json();
            assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{method} {path}: {body}");
            assert_eq!(body["request_id"], answer.header("x-request-id"), "{method} {path}");
            assert!(answer.headers.get("content-length").is_none_or(|length| *length == answer.body.len().to_string()));
        }
        if *status == 405 {
            assert!(!answer.header("allow").is_empty(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bodies_are_exactly_those_of_the_contract() {
    let app = app(game(&[]).await);
    assert_eq!(get(&app, "/healthz").await.json(), json!({"status": "ok"}));
    let ready = get(&app, "/readyz").await.json();
    assert_eq!((&ready["status"], &ready["storage_mode"]), (&json!("ready"), &json!("memory")));
    assert_eq!(ask(&app, post("/game-start", "{}")).await.json(), json!({"accepted": true}));
    assert_eq!(get(&app, "/leaderboard").await.json(), json!({"leaderboard": []}));
    let stored = ask(&app, post("/score", r#"{"player":"  Ann  ","score":"12.7"}"#)).await.json();
    let entry = &stored["stored"];
    assert_eq!((&entry["player"], &entry["score"], &stored["highScore"]), (&json!("Ann"), &json!(12), &json!(12)));
    let created_at = entry["createdAt"].as_str().unwrap();
    assert!(created_at.len() == 24 && created_at.ends_with('Z') && created_at.as_bytes()[19] == b'.', "{created_at}");
    assert_eq!(entry["runId"].as_str().unwrap().len(), 36);
    assert_eq!(stored.as_object().unwrap().len(), 2);
    assert_eq!(entry.as_object().unwrap().len(), 4);
    assert_eq!(
        get(&app, "/leaderboard").await.json(),
        json!({"leaderboard": [{"player": "Ann", "score": 12, "createdAt": created_at}]})
    );
}

#[tokio::test]
async fn the_leaderboard_has_the_ten_best_and_the_older_first() {
    let app = app(game(&[]).await);
    for (n, score) in [5, 9, 5, 1, 9, 3, 7, 7, 2, 8, 6, 4].iter().enumerate() {
        let body = json!({"player": format!("p{n}"), "score": score}).to_string();
        assert_eq!(ask(&app, post("/score", body)).await.status, 201);
    }
    let board = get(&app, "/leaderboard").await.json();
    let players: Vec<_> = board["leaderboard"].as_array().unwrap().iter().map(|line| line["player"].clone()).collect();
    assert_eq!(players, ["p1", "p4", "p9", "p6", "p7", "p10", "p0", "p2", "p11", "p5"]);
    let low = ask(&app, post("/score", r#"{"score":0}"#)).await.json();
    assert_eq!((&low["stored"]["player"], &low["highScore"]), (&json!("Guest"), &json!(9)));
}

#[tokio::test]
async fn bad_scores_get_a_json_error() {
    let app = app(game(&[]).await);
    let json = "application/json";
    let large = format!(r#"{{"score":1,"x":"{}"}}"#, "x".repeat(16 * 1024));
    let table: &[(&str, &str, u16)] = &[
        (json, "", 400),
        (json, "{", 400),
        (json, "{}", 400),
        (json, "[]", 400),
        (json, r#"{"score":-1}"#, 400),
        (json, r#"{"score":null}"#, 400),
        (json, r#"{"score":"x"}"#, 400),
        (json, r#"{"score":true}"#, 400),
        (json, r#"{"score":1e999}"#, 400),
        (json, r#"{"score":1,"runId":"a b"}"#, 400),
        ("text/plain", r#"{"score":1}"#, 415),
        ("application/x-www-form-urlencoded", "score=1", 415),
        ("multipart/form-data; boundary=x", "--x--", 415),
        (json, &large, 413),
    ];
    for (content_type, body, status) in table {
        let request =
            Request::post("/score").header("content-type", *content_type).body(Body::from(body.to_string())).unwrap();
        let answer = ask(&app, request).await;
        assert_eq!(answer.status.as_u16(), *status, "{body:.40}");
        assert!(answer.json()["error"].is_string() && answer.json()["request_id"].is_string(), "{body:.40}");
    }
    // Without a length, in pieces.
    let pieces = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1024]))));
    assert_eq!(ask(&app, post("/score", Body::from_stream(pieces))).await.status, 413);
    let pieces =
        futures::stream::iter([r#"{"sco"#, r#"re":"#, "7}"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
    assert_eq!(ask(&app, post("/score", Body::from_stream(pieces))).await.json()["stored"]["score"], 7);
    let broken = futures::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
    assert_eq!(ask(&app, post("/score", Body::from_stream(broken))).await.status, 400);
    let zipped = Request::post("/score").header("content-encoding", "gzip").body(Body::from("{}")).unwrap();
    assert_eq!(ask(&app, zipped).await.status, 415);
    let no_type = Request::post("/score").body(Body::from(r#"{"score":1}"#)).unwrap();
    assert_eq!(ask(&app, no_type).await.status, 201);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let mut settings = settings(&[]);
    settings.limits.body_timeout = Duration::from_millis(20);
    let app = app(Game::start(settings).unwrap());
    for path in ["/score", "/game-start"] {
        let stuck =
            futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("{"))]).chain(futures::stream::pending());
        let answer = ask(&app, post(path, Body::from_stream(stuck))).await;
        assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{path}");
        assert!(answer.json()["request_id"].is_string());
    }
}

#[tokio::test]
async fn a_repeat_is_stored_once_and_gets_the_first_answer() {
    let app = app(game(&[]).await);
    let send = async |key: Option<&str>, body: &str| {
        let mut request = post("/score", body.to_owned());
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        }
        ask(&app, request).await
    };
    let first = send(None, r#"{"player":"A","score":5,"runId":"run-1"}"#).await.json();
    assert_eq!(first["stored"]["runId"], "run-1");
    assert_eq!(send(None, r#"{"player":"B","score":50}"#).await.json()["highScore"], 50);
    for (key, body) in [
        (None, r#"{"player":"A","score":5,"runId":"run-1"}"#),
        (None, r#"{"player":"Z","score":99,"runId":"run-1"}"#),
        (Some("run-1"), r#"{"player":"Z","score":99,"runId":"other"}"#),
        (Some("run-1"), r#"{"player":"Z","score":99,"runId":"not valid, but the header wins"}"#),
        (Some(" run-1 "), r#"{"score":1}"#),
    ] {
        let repeat = send(key, body).await;
        assert_eq!((repeat.status, repeat.json()), (StatusCode::CREATED, first.clone()), "{key:?} {body}");
    }
    assert_eq!(get(&app, "/leaderboard").await.json()["leaderboard"].as_array().unwrap().len(), 2);
    assert_eq!(send(Some(""), r#"{"score":1,"runId":"from-body"}"#).await.json()["stored"]["runId"], "from-body");
    let too_long = "k".repeat(65);
    for key in ["a b", "a/b", too_long.as_str()] {
        assert_eq!(send(Some(key), r#"{"score":1}"#).await.status, 400, "{key}");
    }
}

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let app = app(game(&[]).await);
    for (sent, kept) in [("abc", true), ("with space", false), ("", false)] {
        let request = Request::get("/missing.txt").header("x-request-id", sent).body(Body::empty()).unwrap();
        let answer = ask(&app, request).await;
        assert_eq!(answer.header("x-request-id") == sent, kept, "{sent}");
        assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn browsers_of_any_origin_may_call() {
    let app = app(game(&[]).await);
    let preflight = Request::options("/score")
        .header("origin", "https://example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,idempotency-key")
        .body(Body::empty())
        .unwrap();
    let answer = ask(&app, preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), "content-type,idempotency-key");
    let request = Request::get("/leaderboard").header("origin", "https://example.com").body(Body::empty()).unwrap();
    assert_eq!(ask(&app, request).await.header("access-control-expose-headers"), "x-request-id");
}

#[tokio::test]
async fn unchanged_files_are_not_sent_again() {
    let app = app(game(&[]).await);
    let first = get(&app, "/assets/core.js").await;
    assert!(first.body.starts_with(b"// The game itself"));
    let tag = first.header("etag").to_owned();
    for (sent, status) in [(tag.clone(), 304), (format!("W/{tag}, \"x\""), 304), ("\"other\"".to_owned(), 200)] {
        let request = Request::get("/assets/core.js").header("if-none-match", &sent).body(Body::empty()).unwrap();
        let answer = ask(&app, request).await;
        assert_eq!((answer.status.as_u16(), answer.body.is_empty()), (status, status == 304), "{sent}");
    }
}

#[tokio::test]
async fn the_page_names_only_files_that_are_there() {
    let app = app(game(&[]).await);
    let mut pages = vec!["/".to_owned()];
    let mut seen = 0;
    while let Some(page) = pages.pop() {
        let answer = get(&app, &page).await;
        assert_eq!(answer.status, 200, "{page}");
        seen += 1;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(!text.contains("https://") && !text.contains("//fonts"), "{page} needs the network");
        if page == "/" {
            pages.extend(text.split('"').filter(|part| part.starts_with("/assets/")).map(str::to_owned));
        } else {
            let imports = text.lines().filter_map(|line| line.strip_prefix("import ")?.split("\"./").nth(1));
            pages.extend(imports.map(|name| format!("/assets/{}", name.trim_end_matches("\";"))));
        }
    }
    assert!(seen >= 8, "{seen}");
}

#[tokio::test]
async fn without_a_store_the_rest_still_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/db.sqlite");
    let variables = [("SCORE_STORAGE", "direct"), ("SCORE_DB_PATH", path.to_str().unwrap()), ("DBIRD_RELEASE", "r7")];
    let game = Game::start(settings(&variables)).unwrap();
    let app = app(game.clone());
    let deadline = Instant::now() + Duration::from_secs(5);
    let ready = loop {
        let ready = get(&app, "/readyz").await;
        assert_eq!(ready.status, 503);
        if ready.json()["reason"].as_str().unwrap().contains("does not exist") {
            break ready.json();
        }
        assert!(Instant::now() < deadline, "{:?}", ready.body);
    };
    assert_eq!((&ready["status"], &ready["release"]), (&json!("not_ready"), &json!("r7")));
    assert!(ready.get("waiting_for").is_none(), "nobody else holds it");
    for request in [post("/score", r#"{"score":1}"#), Request::get("/leaderboard").body(Body::empty()).unwrap()] {
        let answer = ask(&app, request).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
        assert!(answer.json()["error"].is_string());
    }
    for path in ["/healthz", "/", "/metrics"] {
        assert_eq!(get(&app, path).await.status, 200, "{path}");
    }
    std::fs::create_dir(folder.path().join("missing")).unwrap();
    while !game.is_open() {
        assert!(Instant::now() < deadline, "did not heal");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(get(&app, "/readyz").await.json()["storage_mode"], "sqlite");
    assert_eq!(ask(&app, post("/score", r#"{"score":1}"#)).await.status, 201);
    assert!(game.close(Duration::from_secs(5)).await);
    assert_eq!(get(&app, "/readyz").await.status, 503);
}

#[tokio::test]
async fn metrics_have_exactly_the_names_that_dashboards_know() {
    let game = game(&[("CHAOS_ENABLED", "true"), ("DBIRD_RELEASE", "r7")]).await;
    let app = app(game);
    for request in [
        post("/game-start", ""),
        post("/score", r#"{"score":12}"#),
        Request::get("/leaderboard").body(Body::empty()).unwrap(),
        Request::get("/assets/main.js").body(Body::empty()).unwrap(),
        Request::get("/any/thing").body(Body::empty()).unwrap(),
        Request::builder().method("BREW").uri("/other").body(Body::empty()).unwrap(),
    ] {
        ask(&app, request).await;
    }
    let text = String::from_utf8(get(&app, "/metrics").await.body.to_vec()).unwrap();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(
        types,
        [
            "drafty_bird_build_info gauge",
            "drafty_bird_chaos_injections_total counter",
            "drafty_bird_commit_duration_seconds histogram",
            "drafty_bird_commit_scores histogram",
            "drafty_bird_connections gauge",
            "drafty_bird_connections_refused_total counter",
            "drafty_bird_epoch gauge",
            "drafty_bird_games_completed_total counter",
            "drafty_bird_games_started_total counter",
            "drafty_bird_high_score gauge",
            "drafty_bird_ingest_lag_seconds gauge",
            "drafty_bird_ingested_total counter",
            "drafty_bird_queue_depth gauge",
            "drafty_bird_repeats_differing_total counter",
            "drafty_bird_spool_segments gauge",
            "drafty_bird_spool_segments_newer gauge",
            "drafty_bird_spool_set_aside_total counter",
            "drafty_bird_storage gauge",
            "drafty_bird_storage_mode gauge",
            "drafty_bird_store_failures_total counter",
            "drafty_bird_writer_role gauge",
            "http_request_duration_seconds histogram",
            "http_requests_total counter",
            "process_start_time_seconds gauge",
        ]
    );
    for line in [
        r#"http_requests_total{method="POST",route="/score",status="201"} 1"#,
        r#"http_requests_total{method="GET",route="/leaderboard",status="200"} 1"#,
        r#"http_requests_total{method="GET",route="/assets/*",status="200"} 1"#,
        r#"http_requests_total{method="GET",route="/*",status="200"} 1"#,
        r#"http_requests_total{method="OTHER",route="/*",status="404"} 1"#,
        r#"http_requests_total{method="POST",route="/score",status="503"} 0"#,
        r#"http_request_duration_seconds_bucket{method="POST",route="/score",status="201",le="+Inf"} 1"#,
        r#"http_request_duration_seconds_count{method="POST",route="/score",status="201"} 1"#,
        "drafty_bird_games_started_total 1",
        "drafty_bird_games_completed_total 1",
        "drafty_bird_high_score 12",
        r#"drafty_bird_chaos_injections_total{type="error"} 0"#,
        r#"drafty_bird_chaos_injections_total{type="latency"} 0"#,
        &format!(r#"drafty_bird_build_info{{release="r7",version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
        r#"drafty_bird_storage_mode{mode="memory"} 1"#,
        r#"drafty_bird_storage_mode{mode="sqlite"} 0"#,
        r#"drafty_bird_writer_role{role="writer"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    let bounds: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.starts_with(r#"http_request_duration_seconds_bucket{method="POST",route="/score",status="201""#)
        })
        .map(|line| line.split("le=\"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    assert_eq!(bounds, ["0.005", "0.01", "0.025", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "+Inf"]);
}

#[tokio::test]
async fn whatever_is_asked_the_number_of_series_is_bounded() {
    let app = app(game(&[]).await);
    for n in 0..50 {
        for path in [format!("/p{n}"), format!("/assets/{n}.js"), format!("/{n}.php"), format!("/score/{n}")] {
            let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
            ask(&app, Request::builder().method(method).uri(&path).body(Body::empty()).unwrap()).await;
            get(&app, &path).await;
        }
    }
    let text = String::from_utf8(get(&app, "/metrics").await.body.to_vec()).unwrap();
    let series = text.lines().filter(|line| line.starts_with("http_requests_total{")).count();
    assert!(series < 30, "{series}");
}

#[tokio::test]
async fn a_metrics_port_takes_metrics_off_the_public_one() {
    let game = game(&[("METRICS_PORT", "9100")]).await;
    assert_eq!(get(&app(game.clone()), "/metrics").await.status, 404);
    let metrics = metrics_app(game);
    assert_eq!(get(&metrics, "/metrics").await.status, 200);
    for path in ["/", "/leaderboard", "/healthz"] {
        assert_eq!(get(&metrics, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn chaos_fails_and_delays_as_it_is_told() {
    let outcomes = async |variables: &[(&str, &str)], path: &str| {
        let mut all = vec![("CHAOS_ENABLED", "true")];
        all.extend(variables);
        let app = app(game(&all).await);
        let mut statuses = Vec::new();
        for _ in 0..30 {
            let answer = get(&app, path).await;
            if answer.status == 503 {
                let body = answer.json();
                assert_eq!(body["error"], "Injected chaos error");
                assert_eq!(body["request_id"], answer.header("x-request-id"));
            }
            statuses.push(answer.status.as_u16());
        }
        (statuses, String::from_utf8(get(&app, "/metrics").await.body.to_vec()).unwrap())
    };
    let (half, metrics) = outcomes(&[("CHAOS_ERROR_RATE", "0.5")], "/leaderboard").await;
    let errors = half.iter().filter(|status| **status == 503).count();
    assert!((5..25).contains(&errors), "{half:?}");
    assert!(metrics.contains(&format!("drafty_bird_chaos_injections_total{{type=\"error\"}} {errors}\n")));
    assert_eq!(outcomes(&[("CHAOS_ERROR_RATE", "0.5")], "/leaderboard").await.0, half, "same seed, same order");
    assert_ne!(outcomes(&[("CHAOS_ERROR_RATE", "0.5"), ("CHAOS_SEED", "7")], "/leaderboard").await.0, half);
    assert_eq!(outcomes(&[("CHAOS_ERROR_RATE", "1")], "/healthz").await.0, [200; 30], "only its routes");
    let elsewhere = [("CHAOS_ERROR_RATE", "1"), ("CHAOS_ROUTES", "/healthz")];
    assert_eq!(outcomes(&elsewhere, "/healthz").await.0, [503; 30]);
    let started = Instant::now();
    let slow = [("CHAOS_LATENCY_MS_P50", "10"), ("CHAOS_LATENCY_MS_P99", "10")];
    let (statuses, metrics) = outcomes(&slow, "/leaderboard").await;
    assert_eq!(statuses, [200; 30]);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    assert!(metrics.contains("drafty_bird_chaos_injections_total{type=\"latency\"} 30\n"));
}
