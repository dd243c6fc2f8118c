//! What AWS's errors mean: which kind each is, whether asking again helps, and what to do next. Nothing is asked again
//! here.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use dbird_core::provider::ErrorKind;
use dbird_core::{Cloud, ProviderError};

/// Codes that mean: later.
const THROTTLED: [&str; 10] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
];
/// Codes that mean: AWS itself is in trouble.
const IN_TROUBLE: [&str; 6] = [
    "InternalFailure",
    "InternalError",
    "InternalServerError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ServerException",
];
/// Codes that mean: these credentials have ended.
const ENDED: [&str; 4] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"];
/// Codes that mean: nobody knows these credentials.
const UNKNOWN_CREDENTIALS: [&str; 7] = [
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
];
/// Codes that mean: not you.
const REFUSED: [&str; 6] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "NotAuthorized",
    "AuthorizationError",
    "InsufficientCapabilitiesException",
];

/// An error of this provider that asking again does not cure.
pub(crate) fn fault(
    kind: ErrorKind,
    operation: &str,
    object: impl Into<String>,
    what: impl Into<String>,
) -> ProviderError {
    ProviderError {
        kind,
        retry: false,
        cloud: Cloud::Aws,
        operation: operation.to_owned(),
        object: object.into(),
        causes: vec![what.into()],
        hint: None,
    }
}

/// Adds to an error.
pub(crate) trait Adding {
    /// What to do next.
    fn hint(self, hint: impl Into<String>) -> Self;
    /// What it came from, outermost first.
    fn because(self, error: &dyn Error) -> Self;
    /// Asking again may help.
    fn retry(self) -> Self;
}

impl Adding for ProviderError {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn because(mut self, error: &dyn Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !text.is_empty() && self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            cause = error.source();
        }
        self
    }

    fn retry(mut self) -> Self {
        self.retry = true;
        self
    }
}

/// The code of an error that AWS answered; empty where nothing was answered.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// What AWS says of an error; empty where nothing was answered.
pub(crate) fn message<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default()
}

/// An answer of AWS as the boundary has it.
pub(crate) trait Answer<T> {
    /// The value, or what went wrong with `operation`, a few words such as `read the stack`, on this object.
    fn or_fault(self, operation: &str, object: impl Into<String>) -> Result<T, ProviderError>;
}

impl<T, E, R> Answer<T> for Result<T, SdkError<E, R>>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    fn or_fault(self, operation: &str, object: impl Into<String>) -> Result<T, ProviderError> {
        self.map_err(|error| of(&error, operation, object.into()))
    }
}

fn of<E, R>(error: &SdkError<E, R>, operation: &str, object: String) -> ProviderError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let told = Told {
                code: meta.code().unwrap_or_default(),
                message: meta.message().unwrap_or_default(),
                request: meta.extra("aws_request_id").unwrap_or_default(),
            };
            told.fault(operation, object)
        }
        SdkError::TimeoutError(_) => fault(ErrorKind::Unavailable, operation, object, "AWS did not answer in time")
            .retry()
            .hint("check the connection to AWS, then run the same command again"),
        SdkError::ResponseError(_) => {
            fault(ErrorKind::Unavailable, operation, object, "the answer of AWS can't be read").because(error).retry()
        }
        other => not_sent(other, operation, object),
    }
}

/// A request that never reached AWS.
fn not_sent(error: &(dyn Error + 'static), operation: &str, object: String) -> ProviderError {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(credentials) = inner.downcast_ref::<CredentialsError>() {
            return no_credentials(credentials, operation, object);
        }
        cause = inner.source();
    }
    fault(ErrorKind::Unavailable, operation, object, "AWS can't be reached")
        .because(error)
        .retry()
        .hint("check the connection, the region and AWS_ENDPOINT_URL, then run the same command again")
}

/// Credentials that could not be had.
pub(crate) fn no_credentials(error: &CredentialsError, operation: &str, object: String) -> ProviderError {
    let hint = "say who you are, with AWS_PROFILE, `aws sso login` or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `dbird \
                doctor` shows what is found";
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            fault(ErrorKind::Denied, operation, object, "there are no credentials for AWS").hint(hint)
        }
        CredentialsError::ProviderTimedOut(_) => {
            fault(ErrorKind::Unavailable, operation, object, "the credentials for AWS did not come in time").retry()
        }
        other => fault(ErrorKind::Denied, operation, object, "the credentials for AWS can't be had")
            .because(other)
            .hint(hint),
    }
}

/// What AWS said.
struct Told<'a> {
    code: &'a str,
    message: &'a str,
    request: &'a str,
}

impl Told<'_> {
    fn fault(&self, operation: &str, object: String) -> ProviderError {
        let (code, message) = (self.code, self.message);
        let says = if message.is_empty() { code.to_owned() } else { message.trim_end_matches('.').to_owned() };
        let is = |codes: &[&str]| codes.contains(&code);
        let mut error = if is(&THROTTLED) || message.contains("Rate exceeded") {
            fault(ErrorKind::Unavailable, operation, object, "AWS asks to slow down").retry()
        } else if is(&IN_TROUBLE) {
            fault(ErrorKind::Unavailable, operation, object, "AWS failed inside").retry()
        } else if is(&ENDED) {
            fault(ErrorKind::Denied, operation, object, "the credentials for AWS have ended").hint(
                "get new ones (`aws sso login`, or a new session token), then run the same command again: it goes on where \
                 this one stopped",
            )
        } else if is(&UNKNOWN_CREDENTIALS) {
            fault(ErrorKind::Denied, operation, object, "AWS does not know these credentials")
                .hint("check AWS_PROFILE, the access key and this machine's clock")
        } else if is(&REFUSED) || code.ends_with("AccessDenied") {
            let what = match action(message) {
                Some(action) => format!("these credentials may not use {action}"),
                None => "these credentials may not do this".to_owned(),
            };
            fault(ErrorKind::Denied, operation, object, what)
                .hint("`dbird doctor --print-policy` prints the permissions that dbird needs")
        } else {
            let kind = kind(code, message);
            let error = fault(kind, operation, object, says.clone());
            if kind == ErrorKind::Exhausted { error.hint("ask for a higher quota in this region") } else { error }
        };
        if error.causes.last() != Some(&says) && !says.is_empty() {
            error.causes.push(says);
        }
        if !code.is_empty() || !self.request.is_empty() {
            let request = if self.request.is_empty() { String::new() } else { format!(", request {}", self.request) };
            error.causes.push(format!("{code}{request}"));
        }
        error
    }
}

fn kind(code: &str, message: &str) -> ErrorKind {
    let ends = |ends: &[&str]| ends.iter().any(|end| code.ends_with(end));
    if code.contains("LimitExceeded") && code != "DeploymentLimitExceededException"
        || code.contains("QuotaExceeded")
        || code.starts_with("TooMany")
    {
        ErrorKind::Exhausted
    } else if ends(&["NotFoundException", "NotFound", "NotExistException", "DoesNotExistException", "NoSuchEntity"])
        || message.contains("does not exist")
    {
        ErrorKind::NotFound
    } else if code.contains("AlreadyExists")
        || code.contains("InUse")
        || code.contains("InProgress")
        || ends(&["ConflictException", "Conflict", "DeploymentLimitExceededException", "UpdateInProgressException"])
        || message.contains("_IN_PROGRESS state")
    {
        ErrorKind::Conflict
    } else if code.is_empty() {
        ErrorKind::Internal
    } else {
        ErrorKind::Invalid
    }
}

/// The action that a refusal is about: `.. is not authorized to perform: ecs:CreateService on resource: ..`.
fn action(message: &str) -> Option<&str> {
    let rest = message.split_once("to perform: ")?.1;
    let action = rest.split(|c: char| c.is_whitespace() || c == ',').next()?.trim_end_matches('.');
    (!action.is_empty()).then_some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_says_has_a_kind_and_says_whether_to_ask_again() {
        use ErrorKind::*;
        let cases: &[(&str, &str, ErrorKind, bool)] = &[
            ("Throttling", "Rate exceeded", Unavailable, true),
            ("ClientException", "Rate exceeded", Unavailable, true),
            ("ThrottlingException", "", Unavailable, true),
            ("InternalFailure", "", Unavailable, true),
            ("ServerException", "oops", Unavailable, true),
            ("ExpiredToken", "The security token included in the request is expired", Denied, false),
            ("InvalidClientTokenId", "The security token included in the request is invalid.", Denied, false),
            (
                "AccessDenied",
                "User: u is not authorized to perform: ecs:CreateService on resource: arn:x",
                Denied,
                false,
            ),
            ("ValidationError", "Stack with id bird-dev does not exist", NotFound, false),
            ("ValidationError", "Template format error: nope", Invalid, false),
            ("AlreadyExistsException", "Stack [x] already exists", Conflict, false),
            ("DeploymentLimitExceededException", "one at a time", Conflict, false),
            ("LimitExceededException", "too many stacks", Exhausted, false),
            ("OperationInProgressException", "", Conflict, false),
            ("ServiceNotFoundException", "Service not found.", NotFound, false),
        ];
        for (code, message, kind, retry) in cases {
            let error = Told { code, message, request: "1-2" }.fault("try", "thing".to_owned());
            assert_eq!((error.kind, error.retry), (*kind, *retry), "{code}: {message}");
            assert!(error.causes.last().unwrap().contains("1-2"), "the request's id is lost: {error:?}");
            let text = error.causes.join(" ");
            assert!(message.is_empty() || text.contains(message.trim_end_matches('.')), "{message} is lost: {text}");
        }
    }

    #[test]
    fn a_refusal_names_the_action_and_where_the_policy_is() {
        let message =
            "User: arn:aws:iam::1:user/x is not authorized to perform: ecs:CreateService on resource: arn:y because";
        let error = Told { code: "AccessDeniedException", message, request: "" }.fault("try", String::new());
        assert!(error.causes[0].contains("ecs:CreateService"), "{error:?}");
        assert!(error.hint.unwrap().contains("--print-policy"));
    }
}
