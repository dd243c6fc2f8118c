//! What a stack gives, once everything in it is there.

use super::{
    intrinsics::{Scope, plain},
    stack::Output,
};
use crate::aws::{World, text};

/// What the stack gives, now that everything is there.
pub(crate) fn tell(world: &World, id: &str) -> Result<(), String> {
    let exports = world.cloudformation.exports_but(id);
    let done = world.cloudformation.stack(id, |stack| {
        let Some(template) = stack.template.clone() else { return Ok(()) };
        let (pseudo, known) = (stack.pseudo(world), stack.known());
        let scope = Scope {
            template: &template,
            parameters: &stack.parameters,
            pseudo: &pseudo,
            known: &known,
            exports: &exports,
            ahead: false,
        };
        let mut outputs = Vec::new();
        for (name, output) in template.outputs(&scope).map_err(|fault| fault.message)? {
            let Some(value) = scope.resolve(&output["Value"])? else { continue };
            let export = match output.pointer("/Export/Name") {
                Some(name) => scope.resolve(name)?.map(|name| plain(&name)),
                None => None,
            };
            if let Some(export) = &export
                && exports.contains_key(export)
            {
                return Err(format!("Export with name {export} is already exported by another stack"));
            }
            let description = text(output, "Description").map(str::to_owned);
            outputs.push(Output { name: name.clone(), value: plain(&value), description, export });
        }
        stack.outputs = outputs;
        Ok(())
    });
    done.unwrap_or(Ok(()))
}
