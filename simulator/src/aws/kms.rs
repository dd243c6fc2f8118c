//! Keys by name only: nothing is encrypted here.

use serde_json::json;

use super::{
    bag::{self, Bag},
    cloudformation::kinds::Kind,
    text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&KEY, &ALIAS];

static KEY: Bag = Bag {
    name: "AWS::KMS::Key",
    properties: &[
        "BypassPolicyLockoutSafetyCheck",
        "Description",
        "EnableKeyRotation",
        "Enabled",
        "KeyPolicy",
        "KeySpec",
        "KeyUsage",
        "MultiRegion",
        "Origin",
        "PendingWindowInDays",
        "RotationPeriodInDays",
        "Tags",
    ],
    required: &[],
    renewed_by: &["KeySpec", "KeyUsage", "MultiRegion", "Origin"],
    takes_ms: 120_000,
    import_by: Some("KeyId"),
    home: |world| &world.bags,
    check: bag::any,
    made: |world, _, _| {
        let id = uuid::Uuid::new_v4().to_string();
        let arn = world.arn("kms", &format!("key/{id}"));
        (id.clone(), vec![("Arn", json!(arn)), ("KeyId", json!(id))])
    },
};

static ALIAS: Bag = Bag {
    name: "AWS::KMS::Alias",
    properties: &["AliasName", "TargetKeyId"],
    required: &["AliasName", "TargetKeyId"],
    renewed_by: &["AliasName"],
    takes_ms: 5_000,
    import_by: Some("AliasName"),
    home: |world| &world.bags,
    check: bag::any,
    made: |_, _, properties| (text(properties, "AliasName").unwrap_or_default().to_owned(), Vec::new()),
};
