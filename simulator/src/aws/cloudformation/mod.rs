//! CloudFormation: stacks of the kinds of resources that the simulator has. It decides order, differences and what is undone;
//! what a resource is, its service says ([`kinds::Kind`]).

mod change_sets;
mod changes;
mod describe;
mod drift;
mod engine;
mod intrinsics;
pub(crate) mod kinds;
mod one;
mod outputs;
mod references;
mod remove;
mod request;
mod stack;
mod stacks;
mod template;
mod undo;
mod waves;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use self::{stack::Stack, template::invalid};
use super::{Answer, Call, Fault, World, text};

/// So many stacks are remembered; the oldest deleted ones go first.
const STACKS_MAX: usize = 2_000;

/// Every stack, deleted ones too.
#[derive(Debug, Default)]
pub(crate) struct CloudFormation {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stacks: Vec<Stack>,
    /// Drift detections: the stack, and when each is done.
    detections: BTreeMap<String, drift::Detection>,
}

impl CloudFormation {
    /// Does something with a stack; none where there is no stack with this id.
    fn stack<T>(&self, id: &str, act: impl FnOnce(&mut Stack) -> T) -> Option<T> {
        self.with(|state| state.stacks.iter_mut().find(|stack| stack.id == id).map(act))
    }

    /// What stacks export, by name.
    fn exports(&self) -> BTreeMap<String, String> {
        self.exports_but("")
    }

    /// What other stacks than this export.
    fn exports_but(&self, id: &str) -> BTreeMap<String, String> {
        self.with(|state| {
            let others = state.stacks.iter().filter(|stack| stack.id != id);
            let outputs = others.flat_map(|stack| &stack.outputs);
            outputs.filter_map(|output| Some((output.export.clone()?, output.value.clone()))).collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// A stack by its name, which deleted ones have no more, or by its id.
    fn find(&mut self, name_or_id: &str) -> Option<&mut Stack> {
        let by_id = name_or_id.starts_with("arn:");
        self.stacks.iter_mut().find(|stack| {
            if by_id { stack.id == name_or_id } else { stack.name == name_or_id && stack.deleted_ms.is_none() }
        })
    }

    /// The same; `ValidationError` as most operations say it.
    fn need(&mut self, name_or_id: &str) -> Result<&mut Stack, Fault> {
        self.find(name_or_id).ok_or_else(|| invalid(format!("Stack with id {name_or_id} does not exist")))
    }

    fn add(&mut self, stack: Stack) {
        if self.stacks.len() >= STACKS_MAX
            && let Some(at) = self.stacks.iter().position(|stack| stack.deleted_ms.is_some())
        {
            self.stacks.remove(at);
        }
        self.stacks.push(stack);
    }
}

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn kinds::Kind] = &[&WAIT];

/// A handle that nothing signals: what a template has where it has nothing else.
static WAIT: super::bag::Bag = super::bag::Bag {
    name: "AWS::CloudFormation::WaitConditionHandle",
    properties: &[],
    required: &[],
    renewed_by: &[],
    takes_ms: 500,
    import_by: None,
    home: |world| &world.bags,
    check: super::bag::any,
    made: |_, place, _| (super::bag::name(place, &Value::Null, "Name", 128), Vec::new()),
};

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    match call.operation.as_str() {
        "CancelUpdateStack" => {
            Err(invalid("CancelUpdateStack is not simulated; wait for the operation to end".to_owned()))
        }
        "ContinueUpdateRollback" => stacks::continue_rollback(world, input),
        "CreateChangeSet" => change_sets::create(world, input),
        "CreateStack" => stacks::create(world, input),
        "DeleteChangeSet" => change_sets::delete(world, input),
        "DeleteStack" => stacks::delete(world, input),
        "DescribeChangeSet" => change_sets::describe(world, input),
        "DescribeStackDriftDetectionStatus" => drift::status(world, input),
        "DescribeStackEvents" => describe::events(world, input),
        "DescribeStackResource" => describe::resource(world, input),
        "DescribeStackResourceDrifts" => drift::resources(world, input),
        "DescribeStackResources" => describe::resources(world, input),
        "DescribeStacks" => describe::stacks(world, input),
        "DetectStackDrift" => drift::detect(world, input),
        "ExecuteChangeSet" => change_sets::execute(world, input),
        "GetStackPolicy" => describe::policy(world, input),
        "GetTemplate" => describe::template(world, input),
        "GetTemplateSummary" => describe::summary(world, input),
        "ListChangeSets" => change_sets::list_all(world, input),
        "ListExports" => Ok(describe::exports(world)),
        "ListStackResources" => describe::list_resources(world, input),
        "ListStacks" => Ok(describe::list_stacks(world, input)),
        "SetStackPolicy" => describe::policy(world, input),
        "UpdateStack" => stacks::update(world, input),
        "UpdateTerminationProtection" => stacks::protect(world, input),
        "ValidateTemplate" => describe::validate(world, input),
        operation => Err(Fault::unknown("cloudformation", operation)),
    }
}

/// The stack that an input names.
fn named(input: &Value) -> Result<&str, Fault> {
    match text(input, "StackName") {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(invalid("1 validation error detected: Value null at 'stackName' failed to satisfy constraint: Member must not be null".to_owned())),
    }
}
