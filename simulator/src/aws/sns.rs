//! Topics and who is told of what comes to them. Nothing is sent anywhere.

use serde_json::json;

use super::{
    bag::{self, Bag},
    cloudformation::kinds::Kind,
    text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&TOPIC, &SUBSCRIPTION, &POLICY];

static TOPIC: Bag = Bag {
    name: "AWS::SNS::Topic",
    properties: &[
        "DataProtectionPolicy",
        "DisplayName",
        "FifoTopic",
        "KmsMasterKeyId",
        "Subscription",
        "Tags",
        "TopicName",
        "TracingConfig",
    ],
    required: &[],
    renewed_by: &["FifoTopic", "TopicName"],
    takes_ms: 11_000,
    import_by: Some("TopicArn"),
    home: |world| &world.bags,
    check: bag::any,
    made: |world, place, properties| {
        let name = bag::name(place, properties, "TopicName", 256);
        let arn = world.arn("sns", &name);
        (arn.clone(), vec![("TopicArn", json!(arn)), ("TopicName", json!(name))])
    },
};

static SUBSCRIPTION: Bag = Bag {
    name: "AWS::SNS::Subscription",
    properties: &[
        "DeliveryPolicy",
        "Endpoint",
        "FilterPolicy",
        "FilterPolicyScope",
        "Protocol",
        "RawMessageDelivery",
        "Region",
        "RedrivePolicy",
        "TopicArn",
    ],
    required: &["Protocol", "TopicArn"],
    renewed_by: &["Endpoint", "Protocol", "TopicArn"],
    takes_ms: 1_000,
    import_by: None,
    home: |world| &world.bags,
    check: bag::any,
    made: |_, _, properties| {
        let arn = format!("{}:{}", text(properties, "TopicArn").unwrap_or_default(), uuid::Uuid::new_v4());
        (arn.clone(), vec![("Arn", json!(arn))])
    },
};

static POLICY: Bag = Bag {
    name: "AWS::SNS::TopicPolicy",
    properties: &["PolicyDocument", "Topics"],
    required: &["PolicyDocument", "Topics"],
    renewed_by: &[],
    takes_ms: 1_000,
    import_by: None,
    home: |world| &world.bags,
    check: bag::any,
    made: |_, place, _| (bag::name(place, &json!({}), "Name", 128), Vec::new()),
};
