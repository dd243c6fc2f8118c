//! What a person can type where a rollout waits for one: whole commands, for the environment that is meant. It knows words
//! only; what the commands do, they know themselves.

use crate::{args::Global, output::events::Choice};

/// Makes commands to type.
#[derive(Debug, Clone)]
pub(crate) struct Typing {
    /// What stands behind each command: ` -e dev`.
    place: String,
}

impl Typing {
    /// For this environment, reached the way that it was reached now.
    pub(crate) fn of(global: &Global, environment: &str) -> Self {
        let project = global.project.as_ref().map(|p| format!(" --project {}", quoted(&p.to_string_lossy())));
        let cloud = global.cloud.filter(|c| *c != dbird_core::Cloud::Local).map(|c| format!(" -c {c}"));
        Typing { place: format!(" -e {environment}{}{}", cloud.unwrap_or_default(), project.unwrap_or_default()) }
    }

    /// A command of this environment.
    pub(crate) fn command(&self, name: &str) -> String {
        format!("dbird {name}{}", self.place)
    }

    /// Where somebody has to go on with it, or to resume it.
    pub(crate) fn choices(&self, resumes: bool) -> Vec<Choice> {
        let choice = |name: &str, does: &str| Choice { command: self.command(name), does: does.to_owned() };
        let first = if resumes { choice("resume", "goes on from the pause") } else { choice("promote", "goes on") };
        vec![first, choice("abort", "undoes it")]
    }

    /// The same as a sentence.
    pub(crate) fn hint(&self) -> String {
        format!("`{}` goes on with it, `{}` undoes it", self.command("promote"), self.command("abort"))
    }
}

/// As a shell reads it as one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        for (text, wanted) in [("/a/b-c", "/a/b-c"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("", "''")] {
            assert_eq!(quoted(text), wanted);
        }
    }
}
