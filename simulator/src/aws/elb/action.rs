//! What a listener or a rule does with a request. It reads and writes actions as the API spells them, and refuses those that a
//! load balancer refuses.

use serde_json::{Value, json};

use super::turns::Turns;
use crate::aws::{Fault, list, number, text};

/// A target group's share in a forward.
const WEIGHT_MAX: i64 = 999;
/// Target groups in a forward.
const GROUPS_MAX: usize = 5;

/// One action. The list that the API has may hold others before it, for signing in; those are not simulated.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Fixed { status: u16, content_type: String, body: String },
}

/// To target groups by weight.
#[derive(Debug, Clone)]
pub(super) struct Forward {
    pub(super) groups: Vec<(String, u32)>,
    pub(super) turns: Turns,
    stickiness: Option<Value>,
}

/// Somewhere else; its parts may hold `#{host}`, `#{path}`, `#{port}`, `#{protocol}` and `#{query}`.
#[derive(Debug, Clone)]
pub(super) struct Redirect {
    pub(super) permanent: bool,
    pub(super) protocol: String,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) path: String,
    pub(super) query: String,
}

impl Action {
    /// From a list of actions.
    pub(super) fn parse(actions: &[Value]) -> Result<Self, Fault> {
        let [action] = actions else {
            let said = "A rule must have exactly one of: forward, redirect, fixed-response; actions before it are not simulated";
            return Err(Fault::new("ValidationError", said));
        };
        match text(action, "Type").unwrap_or_default() {
            "forward" => Ok(Action::Forward(Forward::parse(action)?)),
            "redirect" => Redirect::parse(action.get("RedirectConfig").unwrap_or(&Value::Null)).map(Action::Redirect),
            "fixed-response" => fixed(action.get("FixedResponseConfig").unwrap_or(&Value::Null)),
            other => Err(Fault::new("ValidationError", format!("'{other}' is not a simulated action type"))),
        }
    }

    /// As the API has it, in a list.
    pub(super) fn describe(&self) -> Value {
        let action = match self {
            Action::Forward(forward) => forward.describe(),
            Action::Redirect(to) => json!({
                "Type": "redirect",
                "RedirectConfig": {
                    "Protocol": to.protocol, "Host": to.host, "Port": to.port, "Path": to.path, "Query": to.query,
                    "StatusCode": if to.permanent { "HTTP_301" } else { "HTTP_302" },
                },
            }),
            Action::Fixed { status, content_type, body } => json!({
                "Type": "fixed-response",
                "FixedResponseConfig": {
                    "StatusCode": status.to_string(), "ContentType": content_type, "MessageBody": body,
                },
            }),
        };
        json!([action])
    }

    /// The target groups that it names, those of weight 0 included.
    pub(super) fn groups(&self) -> &[(String, u32)] {
        match self {
            Action::Forward(forward) => &forward.groups,
            _ => &[],
        }
    }
}

impl Forward {
    /// To these groups.
    pub(super) fn to(groups: Vec<(String, u32)>) -> Self {
        Forward { groups, turns: Turns::default(), stickiness: None }
    }

    fn parse(action: &Value) -> Result<Self, Fault> {
        let config = action.get("ForwardConfig").unwrap_or(&Value::Null);
        let mut groups = Vec::new();
        for group in list(config, "TargetGroups") {
            let Some(arn) = text(group, "TargetGroupArn") else {
                return Err(Fault::new("ValidationError", "A target group in a forward action must have an ARN"));
            };
            let weight = number(group, "Weight").unwrap_or(1);
            let Some(weight) = u32::try_from(weight).ok().filter(|_| weight <= WEIGHT_MAX) else {
                return Err(Fault::new("ValidationError", "Target group weights must be between 0 and 999"));
            };
            groups.push((arn.to_owned(), weight));
        }
        match text(action, "TargetGroupArn") {
            Some(arn) if groups.is_empty() => groups.push((arn.to_owned(), 1)),
            Some(arn) if groups.len() > 1 || groups[0].0 != arn => {
                let said = "You can only specify both a target group ARN and a forward configuration if both name the same group";
                return Err(Fault::new("ValidationError", said));
            }
            _ => {}
        }
        if groups.is_empty() || groups.len() > GROUPS_MAX {
            return Err(Fault::new("ValidationError", "A forward action must have between 1 and 5 target groups"));
        }
        let stickiness = config.get("TargetGroupStickinessConfig").filter(|config| !config.is_null()).cloned();
        Ok(Forward { groups, turns: Turns::default(), stickiness })
    }

    fn describe(&self) -> Value {
        let groups: Vec<Value> =
            self.groups.iter().map(|(arn, weight)| json!({ "TargetGroupArn": arn, "Weight": weight })).collect();
        let stickiness = self.stickiness.clone().unwrap_or_else(|| json!({ "Enabled": false }));
        let mut action = json!({
            "Type": "forward",
            "ForwardConfig": { "TargetGroups": groups, "TargetGroupStickinessConfig": stickiness },
        });
        if let [(arn, _)] = self.groups.as_slice() {
            action["TargetGroupArn"] = json!(arn);
        }
        action
    }
}

impl Redirect {
    fn parse(config: &Value) -> Result<Self, Fault> {
        let permanent = match text(config, "StatusCode") {
            Some("HTTP_301") => true,
            Some("HTTP_302") => false,
            _ => {
                return Err(Fault::new("ValidationError", "A redirect must have the status code HTTP_301 or HTTP_302"));
            }
        };
        let part = |name, usual: &str| text(config, name).unwrap_or(usual).to_owned();
        let redirect = Redirect {
            permanent,
            protocol: part("Protocol", "#{protocol}"),
            host: part("Host", "#{host}"),
            port: part("Port", "#{port}"),
            path: part("Path", "/#{path}"),
            query: part("Query", "#{query}"),
        };
        let same = redirect.protocol == "#{protocol}" && redirect.host == "#{host}";
        if same && redirect.port == "#{port}" && redirect.path == "/#{path}" {
            let said = "The redirect must change at least one of: protocol, host, port, path";
            return Err(Fault::new("InvalidLoadBalancerAction", said));
        }
        Ok(redirect)
    }

    /// The address that a request is sent to.
    pub(super) fn location(&self, protocol: &str, host: &str, port: u16, path: &str, query: &str) -> String {
        let port = port.to_string();
        let fill = |part: &str| {
            let part = part.replace("#{protocol}", protocol).replace("#{host}", host).replace("#{port}", &port);
            part.replace("#{path}", path.trim_start_matches('/')).replace("#{query}", query)
        };
        let query = fill(&self.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let protocol = fill(&self.protocol).to_lowercase();
        format!("{protocol}://{}:{}{}{mark}{query}", fill(&self.host), fill(&self.port), fill(&self.path))
    }
}

fn fixed(config: &Value) -> Result<Action, Fault> {
    let status = number(config, "StatusCode").and_then(|status| u16::try_from(status).ok());
    let Some(status) = status.filter(|status| matches!(status / 100, 2 | 4 | 5)) else {
        return Err(Fault::new("ValidationError", "The status code of a fixed response must be 2XX, 4XX or 5XX"));
    };
    let content_type = text(config, "ContentType").unwrap_or("text/plain").to_owned();
    let body = text(config, "MessageBody").unwrap_or_default().to_owned();
    if body.len() > 1024 {
        return Err(Fault::new("ValidationError", "The message body of a fixed response must be at most 1024 bytes"));
    }
    Ok(Action::Fixed { status, content_type, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_told_as_they_were_given() {
        let one = json!([{ "Type": "forward", "TargetGroupArn": "a" }]);
        let described = Action::parse(one.as_array().unwrap()).unwrap().describe();
        assert_eq!(described[0]["TargetGroupArn"], "a");
        assert_eq!(described[0]["ForwardConfig"]["TargetGroups"], json!([{ "TargetGroupArn": "a", "Weight": 1 }]));
        let two = json!([{ "Type": "forward", "ForwardConfig": { "TargetGroups": [
            { "TargetGroupArn": "a", "Weight": "90" }, { "TargetGroupArn": "b", "Weight": 0 }] } }]);
        let action = Action::parse(two.as_array().unwrap()).unwrap();
        assert_eq!(action.groups(), [("a".to_owned(), 90), ("b".to_owned(), 0)]);
        assert!(action.describe()[0].get("TargetGroupArn").is_none());
    }

    #[test]
    fn what_is_refused() {
        for actions in [
            json!([]),
            json!([{ "Type": "forward" }]),
            json!([{ "Type": "forward", "ForwardConfig": { "TargetGroups": [{ "TargetGroupArn": "a", "Weight": 1000 }] } }]),
            json!([{ "Type": "redirect", "RedirectConfig": { "StatusCode": "HTTP_301" } }]),
            json!([{ "Type": "redirect", "RedirectConfig": { "StatusCode": "HTTP_307", "Port": "443" } }]),
            json!([{ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "301" } }]),
            json!([{ "Type": "authenticate-oidc" }]),
        ] {
            assert!(Action::parse(actions.as_array().unwrap()).is_err(), "{actions}");
        }
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_name() {
        let config = json!({ "StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443" });
        let redirect = Redirect::parse(&config).unwrap();
        assert_eq!(redirect.location("HTTP", "bird", 80, "/a/b", "c=1"), "https://bird:443/a/b?c=1");
        assert_eq!(redirect.location("HTTP", "bird", 80, "/", ""), "https://bird:443/");
    }
}
