//! S3's kinds of resources.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::aws::{
    Fault, World,
    bag::{self, Bag},
    cloudformation::kinds::Kind,
    text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&BUCKET, &POLICY];

pub(crate) static BUCKET: Bag = Bag {
    name: "AWS::S3::Bucket",
    properties: &[
        "AccessControl",
        "BucketEncryption",
        "BucketName",
        "CorsConfiguration",
        "LifecycleConfiguration",
        "LoggingConfiguration",
        "NotificationConfiguration",
        "ObjectLockConfiguration",
        "ObjectLockEnabled",
        "OwnershipControls",
        "PublicAccessBlockConfiguration",
        "ReplicationConfiguration",
        "Tags",
        "VersioningConfiguration",
        "WebsiteConfiguration",
    ],
    required: &[],
    renewed_by: &["BucketName"],
    takes_ms: 22_000,
    import_by: Some("BucketName"),
    home: |world| &world.s3.bags,
    check: |_, properties| text(properties, "BucketName").map_or(Ok(()), checked_name),
    made: |world, place, properties| {
        let name = bag::name(place, properties, "BucketName", 63).to_ascii_lowercase();
        let attributes = attributes(world, &name);
        (name, attributes)
    },
};

static POLICY: Bag = Bag {
    name: "AWS::S3::BucketPolicy",
    properties: &["Bucket", "PolicyDocument"],
    required: &["Bucket", "PolicyDocument"],
    renewed_by: &["Bucket"],
    takes_ms: 1_000,
    import_by: Some("Bucket"),
    home: |world| &world.s3.bags,
    check: |world, properties| {
        let bucket = text(properties, "Bucket").unwrap_or_default();
        if world.s3.has(bucket) {
            return Ok(());
        }
        Err(Fault::new("NoSuchBucket", "The specified bucket does not exist").with_status(404))
    },
    made: |_, _, properties| (text(properties, "Bucket").unwrap_or_default().to_owned(), Vec::new()),
};

/// What `GetAtt` gives of a bucket.
pub(crate) fn attributes(world: &World, name: &str) -> Vec<(&'static str, Value)> {
    let region = &world.settings.region;
    vec![
        ("Arn", json!(format!("arn:aws:s3:::{name}"))),
        ("DomainName", json!(format!("{name}.s3.amazonaws.com"))),
        ("RegionalDomainName", json!(format!("{name}.s3.{region}.amazonaws.com"))),
    ]
}

/// Refuses a name that no bucket can have.
pub(crate) fn checked_name(name: &str) -> Result<(), Fault> {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let good = (3..=63).contains(&name.len())
        && name.bytes().all(letters)
        && ends(name.bytes().next())
        && ends(name.bytes().last())
        && name.parse::<Ipv4Addr>().is_err();
    if good { Ok(()) } else { Err(Fault::new("InvalidBucketName", "The specified bucket is not valid.")) }
}
