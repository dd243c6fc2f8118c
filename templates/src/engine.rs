//! The template engine as dbird uses it: undefined values are errors, values are written by our own `json` filter, and
//! every output is parsed back. It knows no cloud.

use std::borrow::Cow;

use serde_json::Value;
use tera::{ErrorKind, Kwargs, State, Tera};

use crate::{BUILT_IN, Overrides, TemplateError};

/// All templates, parsed.
pub(crate) struct Engine {
    tera: Tera,
    sources: Vec<Source>,
}

struct Source {
    name: &'static str,
    /// What people call the file, and the template engine in its errors.
    file: String,
    text: Cow<'static, str>,
}

impl Engine {
    /// The built-in templates, each replaced where `overrides` has a text for its name.
    pub(crate) fn new(overrides: Option<Overrides<'_>>) -> Result<Self, TemplateError> {
        let mut tera = Tera::default();
        tera.register_filter("json", json);
        let mut sources = Vec::new();
        for (name, built_in) in BUILT_IN {
            let source = match overrides.and_then(|o| o(name)) {
                Some(own) => Source { name, file: format!("templates/{name}"), text: own.into() },
                None => Source { name, file: format!("built-in:{name}"), text: built_in.into() },
            };
            tera.add_raw_template(&source.file, &source.text).map_err(|e| source.locate(&e))?;
            sources.push(source);
        }
        Ok(Engine { tera, sources })
    }

    /// The output of one built-in (or replaced) template as JSON.
    pub(crate) fn render(&self, name: &'static str, context: &tera::Context) -> Result<Value, TemplateError> {
        let missing = || TemplateError::Values { message: format!("there is no template {name}") };
        let source = self.sources.iter().find(|s| s.name == name).ok_or_else(missing)?;
        let text = self.tera.render(&source.file, context).map_err(|e| source.locate(&e))?;
        serde_json::from_str(&text).map_err(|e| TemplateError::NotJson {
            file: source.file.clone(),
            message: e.to_string(),
            source_line: line(&text, e.line()),
        })
    }
}

impl Source {
    fn locate(&self, error: &tera::Error) -> TemplateError {
        let (number, column, message) = match error.kind() {
            ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
                (report.span().start_line, report.span().start_col + 1, report.message().to_owned())
            }
            other => (1, 1, other.to_string()),
        };
        let source_line = line(&self.text, number);
        TemplateError::Template { file: self.file.clone(), line: number, column, message, source_line }
    }
}

/// The filter `json`: any value in JSON's own spelling, so that no template quotes by hand.
fn json(value: tera::Value, _: Kwargs, _: &State) -> tera::TeraResult<String> {
    if value.is_undefined() {
        return Err(tera::Error::message("this value is not defined"));
    }
    // Through `serde_json::Value`, whose maps are sorted: the same specification always gives the same text.
    serde_json::to_value(&value).map(|v| v.to_string()).map_err(tera::Error::message)
}

fn line(text: &str, number: usize) -> String {
    text.lines().nth(number.saturating_sub(1)).unwrap_or_default().to_owned()
}
