//! Why documents could not be rendered, and where in which template.

use dbird_core::Cloud;
use thiserror::Error;

/// Rendering failed. Nothing was changed anywhere, and trying again without a change won't help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// This version has no templates for that cloud.
    #[error("this version renders documents for local and aws only, not for {cloud}")]
    Cloud {
        /// The cloud that was asked for.
        cloud: Cloud,
    },
    /// A template can't be read as one, or uses a value that is not there.
    #[error("{file}:{line}:{column}: {message}")]
    Template {
        /// The file, relative to the project, or `built-in:` and its name.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The line of the template, for showing it.
        source_line: String,
    },
    /// What a template gave is not JSON. Line and column are those of the output.
    #[error("{file}: its output is not JSON: {message}")]
    NotJson {
        /// The file, relative to the project, or `built-in:` and its name.
        file: String,
        /// What is wrong, with line and column of the output.
        message: String,
        /// The line of the output, for showing it.
        source_line: String,
    },
    /// Two modules of a stack give the same name.
    #[error("two templates of the stack give `{name}` in {section}; rename it in one of them")]
    Twice {
        /// `Resources` or `Outputs`.
        section: &'static str,
        /// The name.
        name: String,
    },
    /// The specification can't be handed to the templates.
    #[error("the specification can't be handed to the templates: {message}")]
    Values {
        /// Why.
        message: String,
    },
}
