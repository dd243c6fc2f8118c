//! Reads what a Prometheus server answers to an instant query. Half an answer is none: a warning that something is missing is
//! an error here.

use serde::Deserialize;

use crate::sources::reading::Labels;

/// Of a server's own words, so many are passed on.
const WORDS_MAX: usize = 300;

/// A series and its values, oldest first: the time in milliseconds, and the value.
#[derive(Debug, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) values: Vec<(u64, f64)>,
}

/// What the server said.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// A number, here the server's time.
    Scalar(f64),
    /// Series.
    Series(Vec<Series>),
}

#[derive(Deserialize)]
struct Body {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    Vector(Vec<One>),
    Matrix(Vec<Many>),
}

#[derive(Deserialize)]
struct One {
    metric: Labels,
    value: (f64, String),
}

#[derive(Deserialize)]
struct Many {
    metric: Labels,
    /// Missing for histograms of the native kind, which are not read.
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// Why there is no answer, and whether asking again helps.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) hint: Option<&'static str>,
    pub(super) retry: bool,
}

/// Reads an answer.
pub(super) fn read(status: u16, body: &[u8]) -> Result<Found, Refusal> {
    let hint = match status {
        401 | 403 => Some("dbird gives no password: let this machine in without one, or through a proxy of your own"),
        404 => Some("[analysis] prometheus is the server's address, with its path prefix and without /api"),
        _ => None,
    };
    let retry = matches!(status, 200 | 408 | 429 | 500..);
    let refusal = |why: String| Refusal { why, hint, retry };
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Err(refusal(format!("it answered {status}, and not as a Prometheus server does")));
    };
    if status != 200 || body.status != "success" {
        return Err(refusal(format!("it answered {status}: {}", words(&body.error))));
    }
    if let Some(warning) = body.warnings.first() {
        return Err(refusal(format!("its answer is not the whole of it: {}", words(warning))));
    }
    let series = |labels, values: Vec<(f64, String)>| {
        let number = |(at_s, text): (f64, String)| {
            let value = text.parse().ok()?;
            // Times are milliseconds, written as seconds.
            (at_s >= 0.0).then(|| ((at_s * 1000.0).round() as u64, value))
        };
        let values: Option<Vec<_>> = values.into_iter().map(number).collect();
        values.map(|values| Series { labels, values })
    };
    let found = match body.data {
        Some(Data::Scalar((_, text))) => text.parse().ok().map(Found::Scalar),
        Some(Data::Vector(all)) => {
            all.into_iter().map(|one| series(one.metric, vec![one.value])).collect::<Option<_>>().map(Found::Series)
        }
        Some(Data::Matrix(all)) => {
            all.into_iter().map(|many| series(many.metric, many.values)).collect::<Option<_>>().map(Found::Series)
        }
        None => None,
    };
    found.ok_or_else(|| refusal("it answered with values that are no numbers".to_owned()))
}

fn words(text: &str) -> String {
    let text = if text.is_empty() { "no reason given" } else { text };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let series = |values: &[(u64, f64)]| {
            let labels = Labels::from([("__name__".to_owned(), "up".to_owned())]);
            Ok(Found::Series(vec![Series { labels, values: values.to_vec() }]))
        };
        for (body, expected) in [
            (r#"{"resultType":"scalar","result":[1.5,"1700000000.123"]}"#, Ok(Found::Scalar(1_700_000_000.123))),
            (
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[1.5,"7"]}]}"#,
                series(&[(1500, 7.0)]),
            ),
            (
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1,"0"],[2.001,"+Inf"]]}]}"#,
                series(&[(1000, 0.0), (2001, f64::INFINITY)]),
            ),
            (r#"{"resultType":"matrix","result":[]}"#, Ok(Found::Series(Vec::new()))),
            (r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"histograms":[]}]}"#, series(&[])),
            (r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}"#, Err("values that are no numbers")),
            (r#"{"resultType":"string","result":[1,"x"]}"#, Err("not as a Prometheus server does")),
            ("null", Err("values that are no numbers")),
        ] {
            let found = read(200, format!(r#"{{"status":"success","data":{body}}}"#).as_bytes());
            match (found, expected) {
                (Err(refusal), Err(expected)) => assert!(refusal.why.contains(expected), "{body}: {}", refusal.why),
                (found, expected) => assert_eq!(found.map_err(|r| r.why), expected.map_err(str::to_owned), "{body}"),
            }
        }
    }

    #[test]
    fn refusals() {
        for (status, body, why, retry, hint) in [
            (
                400,
                r#"{"status":"error","errorType":"bad_data","error":"parse\nerror"}"#,
                "it answered 400: parse error",
                false,
                false,
            ),
            (422, r#"{"status":"error","error":"too many samples"}"#, "422: too many samples", false, false),
            (503, r#"{"status":"error","error":""}"#, "503: no reason given", true, false),
            (503, "starting", "it answered 503, and not as", true, false),
            (401, "Unauthorized", "it answered 401, and not as", false, true),
            (404, "<html>", "it answered 404, and not as", false, true),
            (200, "<html>", "it answered 200, and not as", true, false),
            (
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["one store is down"]}"#,
                "one store is down",
                true,
                false,
            ),
        ] {
            let found = read(status, body.as_bytes()).unwrap_err();
            assert!(found.why.contains(why), "{status} {body}: {}", found.why);
            assert_eq!((found.retry, found.hint.is_some()), (retry, hint), "{status} {body}");
        }
    }
}
