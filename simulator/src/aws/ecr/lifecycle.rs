//! Lifecycle rules: which images of a repository expire. It decides exactly as ECR's documentation says: an image that a rule
//! matches is never expired by a rule of lower priority, and counts go from the newest.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Image, Repository};
use crate::aws::{list, number, text};

/// An image that expires, and the rule that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expired {
    pub(super) digest: String,
    pub(super) priority: i64,
}

/// What is wrong with a policy, if anything.
pub(super) fn check(policy: &str) -> Result<(), String> {
    let policy: Value = serde_json::from_str(policy).map_err(|why| format!("the policy is no JSON: {why}"))?;
    let rules = list(&policy, "rules");
    if rules.is_empty() || rules.len() > 50 {
        return Err("there must be between 1 and 50 rules".to_owned());
    }
    let mut seen = BTreeSet::new();
    let highest = rules.iter().filter_map(|r| number(r, "rulePriority")).max();
    for rule in rules {
        let priority = number(rule, "rulePriority").ok_or("a rule has no rulePriority")?;
        if !seen.insert(priority) {
            return Err(format!("rulePriority {priority} is there twice"));
        }
        let selection = rule.get("selection").ok_or_else(|| format!("rule {priority} has no selection"))?;
        let status = text(selection, "tagStatus").unwrap_or_default();
        let named = !list(selection, "tagPrefixList").is_empty() || !list(selection, "tagPatternList").is_empty();
        match status {
            "tagged" if !named => return Err(format!("rule {priority} needs a tagPrefixList or a tagPatternList")),
            "any" if Some(priority) != highest => {
                return Err("a rule for any image must have the lowest priority".to_owned());
            }
            "tagged" | "untagged" | "any" => {}
            other => return Err(format!("rule {priority} has the unknown tagStatus '{other}'")),
        }
        if number(selection, "countNumber").is_none_or(|n| n < 1) {
            return Err(format!("rule {priority} needs a countNumber of at least 1"));
        }
        match (text(selection, "countType"), text(selection, "countUnit")) {
            (Some("imageCountMoreThan"), None) | (Some("sinceImagePushed"), Some("days")) => {}
            (kind, unit) => return Err(format!("rule {priority} has countType {kind:?} with countUnit {unit:?}")),
        }
        if rule.pointer("/action/type").and_then(Value::as_str) != Some("expire") {
            return Err(format!("rule {priority} must have the action expire"));
        }
    }
    Ok(())
}

/// Whether a pattern with `*` in it is this text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn selects(selection: &Value, image: &Image) -> bool {
    let words = |name: &str| list(selection, name).iter().filter_map(Value::as_str).collect::<Vec<_>>();
    match text(selection, "tagStatus") {
        Some("untagged") => image.tags.is_empty(),
        Some("tagged") => {
            // Every prefix and every pattern must be that of some tag.
            let (prefixes, patterns) = (words("tagPrefixList"), words("tagPatternList"));
            !image.tags.is_empty()
                && prefixes.iter().all(|p| image.tags.iter().any(|t| t.starts_with(p)))
                && patterns.iter().all(|p| image.tags.iter().any(|t| matches(p, t)))
        }
        _ => true,
    }
}

/// The images that the repository's rules expire now.
pub(super) fn expired(repository: &Repository, now_ms: u64) -> Vec<Expired> {
    let policy = repository.lifecycle.as_ref().and_then(|p| serde_json::from_str::<Value>(p).ok()).unwrap_or_default();
    let mut rules: Vec<&Value> = list(&policy, "rules").iter().collect();
    rules.sort_by_key(|r| number(r, "rulePriority"));
    let mut newest: Vec<&Image> = repository.images.values().collect();
    newest.sort_by_key(|i| (std::cmp::Reverse(i.pushed_ms), i.digest.clone()));
    let mut taken = BTreeSet::new();
    let mut expired = Vec::new();
    for rule in rules {
        let selection = rule.get("selection").cloned().unwrap_or_default();
        let priority = number(rule, "rulePriority").unwrap_or(0);
        let count = usize::try_from(number(&selection, "countNumber").unwrap_or(1)).unwrap_or(1);
        let all: Vec<&&Image> = newest.iter().filter(|i| selects(&selection, i)).collect();
        for (at, image) in all.into_iter().enumerate() {
            // Whatever a rule matches is out of reach of those after it, expired or not.
            if !taken.insert(image.digest.clone()) {
                continue;
            }
            let goes = match text(&selection, "countType") {
                Some("sinceImagePushed") => now_ms.saturating_sub(image.pushed_ms) > count as u64 * super::DAY_MS,
                _ => at >= count,
            };
            if goes {
                expired.push(Expired { digest: image.digest.clone(), priority });
            }
        }
    }
    expired
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn repository(rules: Value, images: &[(&str, &[&str], u64)]) -> Repository {
        Repository {
            name: "bird".into(),
            arn: String::new(),
            created_ms: 0,
            tags: Default::default(),
            mutability: "IMMUTABLE".into(),
            mutable_tags: Vec::new(),
            scans: true,
            encryption: json!({}),
            lifecycle: Some(json!({ "rules": rules }).to_string()),
            policy: None,
            images: images
                .iter()
                .map(|(digest, tags, day)| {
                    let image = Image {
                        digest: (*digest).into(),
                        media_type: String::new(),
                        tags: tags.iter().map(|t| (*t).into()).collect(),
                        bytes: 1,
                        pushed_ms: day * super::super::DAY_MS,
                        pulled_ms: None,
                    };
                    ((*digest).into(), image)
                })
                .collect(),
        }
    }

    #[test]
    fn an_image_of_a_kept_release_never_expires() {
        let keep = json!({ "rulePriority": 1, "action": { "type": "expire" }, "selection": {
            "tagStatus": "tagged", "tagPrefixList": ["release-"], "countType": "imageCountMoreThan", "countNumber": 9999 } });
        let rest = json!({ "rulePriority": 2, "action": { "type": "expire" }, "selection": {
            "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14 } });
        check(&json!({ "rules": [keep, rest] }).to_string()).unwrap();
        let all = repository(
            json!([rest, keep]),
            &[("old", &["abc"], 1), ("live", &["abd", "release-dev-r1"], 1), ("new", &["abe"], 19), ("bare", &[], 2)],
        );
        let gone: Vec<String> = expired(&all, 20 * super::super::DAY_MS).into_iter().map(|e| e.digest).collect();
        assert_eq!(gone, ["bare", "old"]);
    }

    #[test]
    fn counts_go_from_the_newest() {
        let rules = json!([{ "rulePriority": 1, "action": { "type": "expire" }, "selection": {
            "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1 } }]);
        let all = repository(rules, &[("a", &[], 1), ("b", &[], 3), ("c", &["kept"], 0), ("d", &[], 2)]);
        let gone: Vec<String> = expired(&all, u64::MAX).into_iter().map(|e| e.digest).collect();
        assert_eq!(gone, ["d", "a"]);
    }

    #[test]
    fn policies_that_ecr_refuses_are_refused() {
        let rule = |priority: i64, status: &str, more: Value| {
            let mut selection = json!({ "tagStatus": status, "countType": "imageCountMoreThan", "countNumber": 1 });
            selection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "rulePriority": priority, "selection": selection, "action": { "type": "expire" } })
        };
        for (rules, says) in [
            (json!([]), "between 1 and 50"),
            (json!([rule(1, "tagged", json!({}))]), "tagPrefixList"),
            (json!([rule(1, "any", json!({})), rule(2, "untagged", json!({}))]), "lowest priority"),
            (json!([rule(1, "untagged", json!({})), rule(1, "any", json!({}))]), "twice"),
            (json!([rule(1, "untagged", json!({ "countNumber": 0 }))]), "at least 1"),
            (json!([rule(1, "untagged", json!({ "countUnit": "days" }))]), "countType"),
        ] {
            let why = check(&json!({ "rules": rules }).to_string()).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn patterns_have_stars() {
        for (pattern, text, expected) in [
            ("release-*", "release-1", true),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*d", "abcd", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
