//! Passes on what nothing here answers, to a server that somebody named. It changes nothing in it.

use bytes::Bytes;
use http::{Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::wire::Request;

/// An answer may be this long.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The answer of the server at this URL; 502 where it gives none.
pub(crate) async fn pass(url: &str, request: &Request) -> Response<Bytes> {
    exchange(url, request).await.unwrap_or_else(|why| {
        let mut response = Response::new(Bytes::from(format!("the server behind the simulator did not answer: {why}")));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    })
}

async fn exchange(url: &str, request: &Request) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let url = url::Url::parse(url)?;
    let host = url.host_str().ok_or("its URL names no host")?;
    let port = url.port_or_known_default().ok_or("its URL names no port")?;
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let target =
        if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
    let mut passed = http::Request::builder().method(&request.method).uri(target);
    for (name, value) in &request.headers {
        // The body is sent whole and as it was before it was compressed.
        if *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH && *name != header::CONTENT_ENCODING {
            passed = passed.header(name, value);
        }
    }
    let response = sender.send_request(passed.body(Full::new(request.body.clone()))?).await?;
    let (mut head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    connection.abort();
    head.headers.remove(header::TRANSFER_ENCODING);
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, body))
}
