//! Reads a request's body within bounds of size and time. It never looks at what the bytes say.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};

use crate::answer::Fault;
use crate::score_body::{BODY_BYTES_MAX, BodyFault};

/// The whole body, or 413, 408 or 400.
pub(crate) async fn read(mut body: Body, timeout: Duration) -> Result<Bytes, Fault> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    // Nearly every body has arrived together with the head: then no timer is needed.
    let first = match body.frame().now_or_never() {
        Some(None) => return Ok(Bytes::new()),
        Some(Some(frame)) => data(frame)?,
        None => Bytes::new(),
    };
    if body.is_end_stream() && first.len() <= BODY_BYTES_MAX {
        return Ok(first);
    }
    let rest = async {
        let mut bytes = BytesMut::from(first);
        loop {
            if bytes.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            match body.frame().await {
                None => return Ok(bytes.freeze()),
                Some(frame) => bytes.extend_from_slice(&data(frame)?),
            }
        }
    };
    let late = || Fault::new(StatusCode::REQUEST_TIMEOUT, "the request's body came too slowly");
    tokio::time::timeout(timeout, rest).await.map_err(|_| late())?
}

fn data(frame: Result<Frame<Bytes>, axum::Error>) -> Result<Bytes, Fault> {
    let frame = frame.map_err(|_| Fault::new(StatusCode::BAD_REQUEST, "the request's body ended early"))?;
    // Trailers say nothing here.
    Ok(frame.into_data().unwrap_or_default())
}

fn too_large() -> Fault {
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, BodyFault::TooLarge.to_string())
}
