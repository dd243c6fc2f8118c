//! One resource on its way: made, changed, made anew or imported, with every step told as an event. What it costs in simulated
//! time is for its kind to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    kinds::{Kind, Made, Place},
    stack::{Held, Stack, Undo},
    template::Policy,
};
use crate::aws::{Fault, World};

/// One resource on its way.
pub(crate) struct One<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) kind: &'static dyn Kind,
    pub(crate) place: Place,
    pub(crate) metadata: &'a Value,
    pub(crate) deletion: Policy,
    pub(crate) needs: BTreeSet<String>,
}

impl One<'_> {
    pub(crate) async fn create(&self, properties: Result<Value, String>) -> Result<(), String> {
        let (properties, wrong) = apart(properties);
        self.put(self.held(&properties), "CREATE_IN_PROGRESS", None);
        let made = match wrong {
            Some(why) => Err(why),
            None => self.made(&properties),
        };
        let made = made.map_err(|why| self.fail("CREATE_FAILED", why))?;
        let takes_ms = made.takes_ms;
        self.world.cloudformation.stack(self.id, |stack| {
            stack.undo.push(Undo::Made { logical_id: self.name.to_owned() });
            take(stack, self.name, made);
            stack.resource_is(
                self.now(),
                self.name,
                "CREATE_IN_PROGRESS",
                Some("Resource creation Initiated".to_owned()),
            );
        });
        self.settle(takes_ms, "CREATE_COMPLETE").await
    }

    pub(crate) async fn import(&self, properties: Result<Value, String>, physical_id: String) -> Result<(), String> {
        let (properties, wrong) = apart(properties);
        self.put(self.held(&properties), "IMPORT_IN_PROGRESS", None);
        let attributes = match (wrong, self.kind.read(self.world, &physical_id)) {
            (Some(why), _) => return Err(self.fail("IMPORT_FAILED", why)),
            (None, None) => {
                let why =
                    format!("Resource of type '{}' with identifier '{physical_id}' was not found.", self.kind.name());
                return Err(self.fail("IMPORT_FAILED", why));
            }
            (None, Some((_, attributes))) => attributes,
        };
        self.world.cloudformation.stack(self.id, |stack| {
            take(stack, self.name, Made { physical_id, attributes, takes_ms: 0 });
            stack.resource_is(self.now(), self.name, "IMPORT_IN_PROGRESS", Some("Resource import started.".to_owned()));
        });
        self.world.clock.sleep_ms(2_000).await;
        self.world.cloudformation.stack(self.id, |stack| {
            stack.resource_is(self.now(), self.name, "IMPORT_COMPLETE", Some("Resource import completed.".to_owned()));
        });
        Ok(())
    }

    pub(crate) async fn replace(&self, properties: Result<Value, String>, before: Held) -> Result<(), String> {
        let (properties, _) = apart(properties);
        let why = "Requested update requires the creation of a new physical resource; hence creating one.";
        self.say("UPDATE_IN_PROGRESS", Some(why.to_owned()));
        let made = self.made(&properties).map_err(|why| self.fail("UPDATE_FAILED", why))?;
        let takes_ms = made.takes_ms;
        self.world.cloudformation.stack(self.id, |stack| {
            stack.undo.push(Undo::Replaced { logical_id: self.name.to_owned(), before });
            stack.resources.insert(self.name.to_owned(), self.held(&properties));
            take(stack, self.name, made);
            stack.resource_is(
                self.now(),
                self.name,
                "UPDATE_IN_PROGRESS",
                Some("Resource creation Initiated".to_owned()),
            );
        });
        self.settle(takes_ms, "UPDATE_COMPLETE").await
    }

    pub(crate) async fn update(&self, properties: Result<Value, String>, before: Held) -> Result<(), String> {
        let (properties, wrong) = apart(properties);
        self.world.cloudformation.stack(self.id, |stack| {
            stack.undo.push(Undo::Changed { logical_id: self.name.to_owned(), before: before.clone() });
        });
        self.say("UPDATE_IN_PROGRESS", None);
        let physical_id = before.physical_id.as_deref().unwrap_or_default();
        let made = match wrong.map_or_else(|| checked(self.kind, self.name, &properties), Err) {
            Ok(()) if self.fails() => Err(self.told_to_fail()),
            Ok(()) => self
                .kind
                .update(self.world, physical_id, &self.place, &before.properties, &properties)
                .map_err(|fault| handler(self.kind, &fault)),
            Err(why) => Err(why),
        };
        let made = made.map_err(|why| self.fail("UPDATE_FAILED", why))?;
        let takes_ms = made.takes_ms;
        self.world.cloudformation.stack(self.id, |stack| {
            if let Some(held) = stack.resources.get_mut(self.name) {
                held.properties = properties;
                held.metadata = self.metadata.clone();
            }
            take(stack, self.name, made);
        });
        self.settle(takes_ms, "UPDATE_COMPLETE").await
    }

    /// Asks the kind for a new one.
    fn made(&self, properties: &Value) -> Result<Made, String> {
        checked(self.kind, self.name, properties)?;
        if self.fails() {
            return Err(self.told_to_fail());
        }
        self.kind.create(self.world, &self.place, properties).map_err(|fault| handler(self.kind, &fault))
    }

    fn fails(&self) -> bool {
        let faults = &self.world.faults;
        faults.has(&format!("stack-fails:{}", self.name)) || faults.take(&format!("stack-fails-once:{}", self.name))
    }

    fn told_to_fail(&self) -> String {
        handler(self.kind, &Fault::new("GeneralServiceException", format!("{} could not be stabilized", self.name)))
    }

    fn held(&self, properties: &Value) -> Held {
        Held {
            kind: self.kind.name().to_owned(),
            physical_id: None,
            properties: properties.clone(),
            metadata: self.metadata.clone(),
            attributes: BTreeMap::new(),
            status: "CREATE_IN_PROGRESS",
            reason: None,
            updated_ms: self.now(),
            deletion: self.deletion,
            needs: self.needs.clone(),
            drift: None,
        }
    }

    fn now(&self) -> u64 {
        self.world.clock.now_ms()
    }

    fn put(&self, held: Held, status: &'static str, reason: Option<String>) {
        self.world.cloudformation.stack(self.id, |stack| {
            stack.resources.insert(self.name.to_owned(), held);
            stack.resource_is(self.now(), self.name, status, reason);
        });
    }

    fn say(&self, status: &'static str, reason: Option<String>) {
        self.world.cloudformation.stack(self.id, |stack| stack.resource_is(self.now(), self.name, status, reason));
    }

    fn fail(&self, status: &'static str, why: String) -> String {
        self.say(status, Some(why.clone()));
        why
    }

    async fn settle(&self, takes_ms: u64, status: &'static str) -> Result<(), String> {
        self.world.clock.sleep_ms(takes_ms.max(500)).await;
        self.say(status, None);
        Ok(())
    }
}

fn take(stack: &mut Stack, name: &str, made: Made) {
    if let Some(held) = stack.resources.get_mut(name) {
        held.physical_id = Some(made.physical_id);
        held.attributes = made.attributes;
    }
}

fn apart(properties: Result<Value, String>) -> (Value, Option<String>) {
    match properties {
        Ok(Value::Null) => (Value::Object(serde_json::Map::new()), None),
        Ok(properties) => (properties, None),
        Err(why) => (Value::Object(serde_json::Map::new()), Some(why)),
    }
}

/// What a resource handler says when a service refuses.
pub(crate) fn handler(kind: &dyn Kind, fault: &Fault) -> String {
    let service = kind.name().split("::").nth(1).unwrap_or_default();
    let code = match fault.code.as_str() {
        code if code.contains("Exists") || code.contains("Duplicate") => "AlreadyExists",
        code if code.contains("NotFound") || code.contains("NoSuch") => "NotFound",
        code if code.contains("Limit") || code.contains("TooMany") => "ServiceLimitExceeded",
        code if code.contains("AccessDenied") => "AccessDenied",
        "GeneralServiceException" => "GeneralServiceException",
        _ => "InvalidRequest",
    };
    let (request, token) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let (message, status) = (&fault.message, fault.status);
    format!(
        "Resource handler returned message: \"{message} (Service: {service}, Status Code: {status}, Request ID: {request})\" \
         (RequestToken: {token}, HandlerErrorCode: {code})"
    )
}

/// What can be seen to be wrong with properties before a service is asked.
fn checked(kind: &dyn Kind, name: &str, properties: &Value) -> Result<(), String> {
    let wrong = |what: String| Err(format!("Properties validation failed for resource {name} with message:\n{what}"));
    let Some(members) = properties.as_object() else { return wrong("#: expected type: JSONObject".to_owned()) };
    if let Some(stray) = members.keys().find(|key| !kind.properties().contains(&key.as_str())) {
        return wrong(format!("#: extraneous key [{stray}] is not permitted"));
    }
    match kind.required().iter().find(|key| !members.contains_key(**key)) {
        Some(missing) => wrong(format!("#: required key [{missing}] not found")),
        None => Ok(()),
    }
}
