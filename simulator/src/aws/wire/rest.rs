//! EFS's REST protocol: which method and path is which operation, and which members lie in the path and in the query.

use http::Method;
use serde_json::{Map, Value};

/// Where EFS's paths begin.
const PREFIX: &str = "/2015-02-01/";

/// Method, path below the prefix, operation, status of success. Paths without members come first.
const ROUTES: &[(&str, &str, &str, u16)] = &[
    ("GET", "access-points", "DescribeAccessPoints", 200),
    ("POST", "access-points", "CreateAccessPoint", 200),
    ("GET", "account-preferences", "DescribeAccountPreferences", 200),
    ("PUT", "account-preferences", "PutAccountPreferences", 200),
    ("GET", "file-systems", "DescribeFileSystems", 200),
    ("POST", "file-systems", "CreateFileSystem", 201),
    ("GET", "file-systems/replication-configurations", "DescribeReplicationConfigurations", 200),
    ("GET", "mount-targets", "DescribeMountTargets", 200),
    ("POST", "mount-targets", "CreateMountTarget", 200),
    ("DELETE", "access-points/{AccessPointId}", "DeleteAccessPoint", 204),
    ("POST", "create-tags/{FileSystemId}", "CreateTags", 204),
    ("POST", "delete-tags/{FileSystemId}", "DeleteTags", 204),
    ("DELETE", "file-systems/{FileSystemId}", "DeleteFileSystem", 204),
    ("PUT", "file-systems/{FileSystemId}", "UpdateFileSystem", 202),
    ("GET", "file-systems/{FileSystemId}/backup-policy", "DescribeBackupPolicy", 200),
    ("PUT", "file-systems/{FileSystemId}/backup-policy", "PutBackupPolicy", 200),
    ("GET", "file-systems/{FileSystemId}/lifecycle-configuration", "DescribeLifecycleConfiguration", 200),
    ("PUT", "file-systems/{FileSystemId}/lifecycle-configuration", "PutLifecycleConfiguration", 200),
    ("DELETE", "file-systems/{FileSystemId}/policy", "DeleteFileSystemPolicy", 200),
    ("GET", "file-systems/{FileSystemId}/policy", "DescribeFileSystemPolicy", 200),
    ("PUT", "file-systems/{FileSystemId}/policy", "PutFileSystemPolicy", 200),
    ("PUT", "file-systems/{FileSystemId}/protection", "UpdateFileSystemProtection", 200),
    ("DELETE", "file-systems/{SourceFileSystemId}/replication-configuration", "DeleteReplicationConfiguration", 204),
    ("POST", "file-systems/{SourceFileSystemId}/replication-configuration", "CreateReplicationConfiguration", 200),
    ("DELETE", "mount-targets/{MountTargetId}", "DeleteMountTarget", 204),
    ("GET", "mount-targets/{MountTargetId}/security-groups", "DescribeMountTargetSecurityGroups", 200),
    ("PUT", "mount-targets/{MountTargetId}/security-groups", "ModifyMountTargetSecurityGroups", 204),
    ("DELETE", "resource-tags/{ResourceId}", "UntagResource", 200),
    ("GET", "resource-tags/{ResourceId}", "ListTagsForResource", 200),
    ("POST", "resource-tags/{ResourceId}", "TagResource", 200),
    ("GET", "tags/{FileSystemId}", "DescribeTags", 200),
];

/// The operation and its input; none where no operation has this path.
pub(crate) fn decode(method: &Method, path: &str, query: &str, body: &[u8]) -> Option<(String, Value)> {
    let segments: Vec<&str> = path.strip_prefix(PREFIX)?.trim_end_matches('/').split('/').collect();
    let (operation, in_path) = ROUTES.iter().find_map(|(verb, route, operation, _)| {
        (*verb == method.as_str()).then(|| matched(route, &segments)).flatten().map(|members| (*operation, members))
    })?;
    let mut input = match super::json::decode(body) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    input.extend(in_path);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = Value::String(value.into_owned());
        match name.as_ref() {
            "tagKeys" => match input.entry("TagKeys").or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(keys) => keys.push(value),
                other => *other = value,
            },
            name => drop(input.insert(name.to_owned(), value)),
        }
    }
    Some((operation.to_owned(), Value::Object(input)))
}

/// The status of an operation that succeeded.
pub(crate) fn status(operation: &str) -> u16 {
    ROUTES.iter().find(|(_, _, name, _)| *name == operation).map_or(200, |(_, _, _, status)| *status)
}

/// The members in a path, where it fits the route.
fn matched(route: &str, segments: &[&str]) -> Option<Map<String, Value>> {
    let parts: Vec<&str> = route.split('/').collect();
    if parts.len() != segments.len() {
        return None;
    }
    let mut members = Map::new();
    for (part, segment) in parts.iter().zip(segments) {
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => drop(members.insert(name.to_owned(), Value::String(super::unescaped(segment)))),
            None if part == segment => {}
            None => return None,
        }
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_operations() {
        type Row = (Method, &'static str, &'static str, &'static str, Option<(&'static str, Value)>);
        let table: &[Row] = &[
            (
                Method::GET,
                "/2015-02-01/file-systems",
                "FileSystemId=fs-1",
                "",
                Some(("DescribeFileSystems", json!({ "FileSystemId": "fs-1" }))),
            ),
            (
                Method::DELETE,
                "/2015-02-01/file-systems/fs-1",
                "",
                "",
                Some(("DeleteFileSystem", json!({ "FileSystemId": "fs-1" }))),
            ),
            (
                Method::POST,
                "/2015-02-01/resource-tags/fs-1",
                "",
                r#"{"Tags": []}"#,
                Some(("TagResource", json!({ "ResourceId": "fs-1", "Tags": [] }))),
            ),
            (
                Method::DELETE,
                "/2015-02-01/resource-tags/fs-1",
                "tagKeys=a&tagKeys=b",
                "",
                Some(("UntagResource", json!({ "ResourceId": "fs-1", "TagKeys": ["a", "b"] }))),
            ),
            (
                Method::GET,
                "/2015-02-01/file-systems/fs-1/backup-policy",
                "",
                "",
                Some(("DescribeBackupPolicy", json!({ "FileSystemId": "fs-1" }))),
            ),
            (Method::GET, "/2015-02-01/nothing", "", "", None),
            (Method::GET, "/elsewhere", "", "", None),
        ];
        for (method, path, query, body, expected) in table {
            let expected = expected.as_ref().map(|(operation, input)| ((*operation).to_owned(), input.clone()));
            assert_eq!(decode(method, path, query, body.as_bytes()), expected, "{method} {path}");
        }
    }
}
