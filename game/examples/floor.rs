//! The least an axum server can do, to measure the game against: `GET /leaderboard` answers nothing, `POST /score` reads
//! the body and answers nothing. Served the ordinary way, with as many threads as the game has.
//!
//! `cargo run --release -p drafty-bird --example floor -- 127.0.0.1:9000`

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let workers = drafty_bird::process::workers();
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?.block_on(serve(&address))
}

async fn serve(address: &str) -> Result<(), Error> {
    let app = Router::new().route("/leaderboard", get(async || "")).route("/score", post(async |_: Bytes| ""));
    let listener = tokio::net::TcpListener::bind(address).await?;
    std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("listening on {}\n", listener.local_addr()?))?;
    axum::serve(listener, app).await?;
    Ok(())
}
