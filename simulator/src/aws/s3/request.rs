//! What S3's requests have of their own: bodies in signed chunks, ranges, and the XML of a list to delete.

use super::wire::Request;

/// The content that was sent, without the chunks' frames.
pub(crate) fn content(request: &Request) -> Vec<u8> {
    let framed = request.header("x-amz-content-sha256").starts_with("STREAMING-")
        || request.header("content-encoding").contains("aws-chunked");
    if !framed {
        return request.body.to_vec();
    }
    let mut out = Vec::new();
    let mut rest = &request.body[..];
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]);
        let Ok(size) = usize::from_str_radix(head.split(';').next().unwrap_or_default().trim(), 16) else { break };
        let Some(chunk) = rest.get(end + 2..end + 2 + size).filter(|chunk| !chunk.is_empty()) else { break };
        out.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    out
}

/// The first and the last byte that `Range` asks for; an error where there are none.
pub(crate) fn range(header: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let (from, to) = header.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        let last: u64 = to.parse().ok()?;
        return Some(if last == 0 || size == 0 { Err(()) } else { Ok((size.saturating_sub(last), size - 1)) });
    }
    let from: u64 = from.parse().ok()?;
    if from >= size {
        return Some(Err(()));
    }
    let to = if to.is_empty() { size - 1 } else { to.parse::<u64>().ok()?.min(size - 1) };
    (from <= to).then_some(Ok((from, to)))
}

/// The text of every element of this name.
pub(crate) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find(&open) {
        let from = &rest[at + open.len()..];
        let Some(end) = from.find(&close) else { break };
        let text = &from[..end];
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
        found.push(text.replace("&amp;", "&"));
        rest = &from[end + close.len()..];
    }
    found
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        let table = [
            ("bytes=0-3", 10, Some(Ok((0, 3)))),
            ("bytes=8-30", 10, Some(Ok((8, 9)))),
            ("bytes=4-", 10, Some(Ok((4, 9)))),
            ("bytes=-3", 10, Some(Ok((7, 9)))),
            ("bytes=-30", 10, Some(Ok((0, 9)))),
            ("bytes=10-", 10, Some(Err(()))),
            ("bytes=5-4", 10, None),
            ("lines=1-2", 10, None),
        ];
        for (header, size, expected) in table {
            assert_eq!(range(header, size), expected, "{header}");
        }
    }

    #[test]
    fn frames_are_taken_off() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER".parse().unwrap());
        let body = Bytes::from_static(
            b"5;chunk-signature=0\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n",
        );
        let request = Request { method: Method::PUT, path: String::new(), query: String::new(), headers, body };
        assert_eq!(content(&request), b"hello world");
        let plain = Request { headers: HeaderMap::new(), ..request };
        assert!(content(&plain).starts_with(b"5;chunk"));
    }

    #[test]
    fn keys_are_read_from_xml() {
        assert_eq!(
            elements("<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></Delete>", "Key"),
            ["a&b", "c"]
        );
    }
}
