//! Draws a fault of a configuration: the line it is in, a caret under it, what would be right. It knows no configuration.

use dbird_core::environment::{Fault, Severity};
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, SourceSpan,
    ThemeCharacters, ThemeStyles,
};

use super::style::Look;

/// The fault as people read it; `source` is the text of the file that it is in.
pub(crate) fn drawing(fault: &Fault, source: &str, look: Look) -> String {
    let severity = match fault.severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
    };
    let label = fault.suggestion.as_ref().map(|s| format!("did you mean `{s}`?"));
    let span = SourceSpan::new(fault.span.start.into(), fault.span.len());
    let mut diagnostic = MietteDiagnostic::new(fault.message.clone())
        .with_severity(severity)
        .with_label(LabeledSpan::new_primary_with_span(label, span));
    if let Some(code) = fault.code {
        diagnostic = diagnostic.with_code(code);
    }
    let help = match (&fault.help, fault.code) {
        (Some(help), Some(code)) => Some(format!("{help} (`dbird explain {code}`)")),
        (Some(help), None) => Some(help.clone()),
        (None, Some(code)) => Some(format!("`dbird explain {code}`")),
        (None, None) => None,
    };
    if let Some(help) = help {
        diagnostic = diagnostic.with_help(help);
    }
    let report = Report::new(diagnostic).with_source_code(NamedSource::new(&fault.file, source.to_owned()));
    let characters = if look.unicode { ThemeCharacters::unicode() } else { ThemeCharacters::ascii() };
    let theme = GraphicalTheme { characters, styles: ThemeStyles::ansi() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(look.width).with_links(false).with_context_lines(1);
    let mut text = String::new();
    match handler.render_report(&mut text, report.as_ref()) {
        Ok(()) => text,
        // The span does not fit the text: say it plainly rather than not at all.
        Err(_) => fault.to_string(),
    }
}
