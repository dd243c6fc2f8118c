//! What a service refuses with, whatever protocol it is told by.

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The error's code as the service's model spells it: `ClusterNotFoundException`.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// The HTTP status.
    pub(crate) status: u16,
}

impl Fault {
    /// The caller's mistake: status 400.
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Fault { code: code.into(), message: message.into(), status: 400 }
    }

    /// With another status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Fault { status, ..self }
    }

    /// An operation that is not simulated.
    pub(crate) fn unknown(service: &str, operation: &str) -> Self {
        Fault::new("UnknownOperationException", format!("the simulator does not know {service}:{operation}"))
            .with_status(404)
    }
}
