//! What CloudFormation needs to know of a kind of resource; each service says it of its own.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::aws::{Fault, World};

/// A resource that was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    /// What `Ref` gives.
    pub(crate) physical_id: String,
    /// What `Fn::GetAtt` gives, by attribute (`Arn`, `DNSName`, `Endpoint.Address`).
    pub(crate) attributes: BTreeMap<String, Value>,
    /// How much simulated time it takes until it is there.
    pub(crate) takes_ms: u64,
}

/// Whether a property can change in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaces {
    Never,
    Sometimes,
    Always,
}

/// Who asks: for names that are given by CloudFormation, and for tags.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) stack: String,
    pub(crate) logical_id: String,
    /// The stack's tags and those that CloudFormation adds, to be put on what can be tagged, under the resource's own.
    pub(crate) tags: BTreeMap<String, String>,
}

/// A kind of resource. Properties come with every reference resolved.
pub(crate) trait Kind: Sync {
    /// `AWS::ECS::Cluster`.
    fn name(&self) -> &'static str;

    /// The properties that may be there; anything else is refused as CloudFormation refuses it.
    fn properties(&self) -> &'static [&'static str];

    /// The properties that must be there.
    fn required(&self) -> &'static [&'static str] {
        &[]
    }

    /// Makes one. What the service's own API refuses is refused here with the same words.
    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault>;

    /// Changes one in place; its attributes afterwards.
    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        place: &Place,
        before: &Value,
        after: &Value,
    ) -> Result<Made, Fault>;

    /// Whether a change of this property (its top-level name) makes it anew.
    fn replaces(&self, property: &str) -> Replaces;

    /// Takes it away. One that is not there any more is no fault.
    fn delete(&self, world: &Arc<World>, physical_id: &str, properties: &Value) -> Result<(), Fault>;

    /// Its properties as the service has them now (what somebody changed by hand shows), and its attributes; none where it is
    /// not there. Only properties that the service can tell need be in it: drift compares those.
    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)>;

    /// The identifier by which it can be imported: `FileSystemId`. None where it can't.
    fn import_by(&self) -> Option<&'static str> {
        None
    }
}
