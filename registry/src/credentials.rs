//! Who asks a registry. A password goes into requests and nowhere else: it can't be printed.

use std::fmt;

use oci_client::secrets::RegistryAuth;

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A user, or a cloud's name for the bearer of a short-lived token (`AWS` for ECR).
    Basic {
        /// The name.
        user: String,
        /// The password or token.
        password: Password,
    },
}

/// Text that can't be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes it.
    pub fn new(text: impl Into<String>) -> Self {
        Password(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Credentials {
    pub(crate) fn to_client(&self) -> RegistryAuth {
        match self {
            Credentials::None => RegistryAuth::Anonymous,
            Credentials::Basic { user, password } => RegistryAuth::Basic(user.clone(), password.0.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let credentials = Credentials::Basic { user: "AWS".to_owned(), password: Password::new("canary") };
        assert_eq!(format!("{credentials:?}"), "Basic { user: \"AWS\", password: (hidden) }");
    }
}
