//! The query protocol's answers: members as elements, lists as `<member>`s, times in ISO 8601.

use serde_json::Value;

use super::time;

/// `<XResponse><XResult>..</XResult>..</XResponse>`.
pub(crate) fn answer(namespace: &str, operation: &str, value: &Value, request_id: &str) -> String {
    let mut out = format!("<{operation}Response xmlns=\"{namespace}\">");
    if value.as_object().is_some_and(|members| !members.is_empty()) {
        element(&mut out, &format!("{operation}Result"), value);
    } else {
        out.push_str(&format!("<{operation}Result/>"));
    }
    out.push_str(&format!("<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"));
    out.push_str(&format!("</{operation}Response>"));
    out
}

/// `<ErrorResponse>`.
pub(crate) fn error(namespace: &str, code: &str, message: &str, sender: bool, request_id: &str) -> String {
    let kind = if sender { "Sender" } else { "Receiver" };
    format!(
        "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>",
        escaped(code),
        escaped(message)
    )
}

/// One element with what is in it; an absent value is no element.
fn element(out: &mut String, name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    out.push('<');
    out.push_str(name);
    out.push('>');
    match value {
        Value::Array(items) => items.iter().for_each(|item| element(out, "member", item)),
        Value::Object(members) => match members.get("$timestamp_ms").and_then(Value::as_u64) {
            Some(ms) => out.push_str(&time::iso(ms)),
            None => members.iter().for_each(|(name, value)| element(out, name, value)),
        },
        Value::String(text) => out.push_str(&escaped(text)),
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::Null => {}
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Text as XML holds it. Characters that XML 1.0 can't hold become `?`.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\n' | '\t' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_become_elements() {
        let value = json!({ "A": [{ "B": 1 }, { "B": true }], "C": "a<b\r\n", "D": null, "E": [], "F": { "$timestamp_ms": 0 } });
        let xml = answer("urn:x", "Get", &value, "id");
        let members = "<A><member><B>1</B></member><member><B>true</B></member></A><C>a&lt;b&#xD;\n</C><E></E>";
        let expected = format!(
            "<GetResponse xmlns=\"urn:x\"><GetResult>{members}<F>1970-01-01T00:00:00.000Z</F></GetResult>\
             <ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></GetResponse>"
        );
        assert_eq!(xml, expected);
    }
}
