//! Colours and marks of the terminal. Text is always written with colours; the streams take them out again where nobody
//! could see them.

use anstyle::{AnsiColor, Style};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const RED_BOLD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Text in a style.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Text in a style, filled up to a width that colours don't count for.
pub(crate) fn padded(style: Style, text: &str, width: usize) -> String {
    let fill = width.saturating_sub(text.chars().count());
    format!("{style}{text}{style:#}{:fill$}", "")
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Characters beyond ASCII.
    pub(crate) unicode: bool,
    /// Columns.
    pub(crate) width: usize,
}

impl Look {
    /// As far as the environment says.
    pub(crate) fn of_environment() -> Self {
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|v| std::env::var(v).ok().filter(|v| !v.is_empty()));
        let utf8 = locale.is_some_and(|l| l.to_ascii_uppercase().replace('-', "").contains("UTF8"));
        let dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb" || t == "linux");
        let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
        let measured = || rustix::termios::tcgetwinsize(std::io::stderr()).ok().map(|w| usize::from(w.ws_col));
        let width = columns.or_else(measured).filter(|w| *w > 0).unwrap_or(100);
        Look { unicode: utf8 && !dumb, width: width.clamp(40, 200) }
    }

    /// Done.
    pub(crate) fn tick(self) -> &'static str {
        if self.unicode { "✓" } else { "ok" }
    }

    /// Failed.
    pub(crate) fn cross(self) -> &'static str {
        if self.unicode { "✗" } else { "failed:" }
    }

    /// From this to that.
    pub(crate) fn arrow(self) -> &'static str {
        "->"
    }
}
