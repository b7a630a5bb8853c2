//! One value, two faces: text for people, JSON for programs. The result goes to stdout, the rest
//! to stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::args::{Format, Global};
use crate::core::finding::{Checked, Severity};
use crate::explain::Failure;

/// Version of every JSON object we print; a change that could break a reader raises it.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// What a command has to say.
pub(super) trait Report: Display + Serialize {
    /// The exit code that goes with the answer: 0 for yes or done, 1 for no.
    fn exit_code(&self) -> u8 {
        0
    }

    /// Whether the exit code alone is wanted.
    fn silent(&self) -> bool {
        false
    }

    /// What a linter found, for SARIF and JUnit; `None` in all other reports.
    #[cfg_attr(
        not(feature = "operator"),
        allow(dead_code, reason = "only the operator's commands lint")
    )]
    fn linting(&self) -> Option<Linting<'_>> {
        None
    }

    /// What NDJSON prints, one object a line; `None` is the whole report on one line.
    fn lines(&self) -> Option<Vec<serde_json::Value>> {
        None
    }
}

/// A linter's findings.
#[cfg_attr(
    not(feature = "operator"),
    allow(dead_code, reason = "only the operator's commands lint")
)]
pub(super) struct Linting<'a> {
    /// What was looked at.
    pub(super) files: &'a [Checked],
    /// From which weight on a finding fails the run.
    pub(super) fail_on: Severity,
}

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
    because: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    exit_code: u8,
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        Self {
            format: global.format,
        }
    }

    /// Prints the outcome of a command and returns its exit code.
    pub(super) fn finish<T: Report>(self, result: Result<T, impl Into<Failure>>) -> ExitCode {
        match result {
            Ok(value) => self.print(&value),
            Err(error) => self.fail(&error.into()),
        }
    }

    fn print<T: Report>(self, value: &T) -> ExitCode {
        let text = match self.format {
            Format::Text => value.to_string(),
            Format::Json | Format::Ndjson => match self.json(value) {
                Ok(text) => text,
                Err(error) => return self.fail(&bug(&error)),
            },
            #[cfg(feature = "operator")]
            Format::Sarif | Format::Junit => match self.findings(value) {
                Ok(text) => text,
                Err(failure) => return self.fail(&failure),
            },
        };
        if text.is_empty() || value.silent() {
            return ExitCode::from(value.exit_code());
        }
        let mut out = anstream::stdout().lock();
        match writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => self.fail(&Failure::new(
                crate::explain::Kind::Unavailable,
                "output.write",
                format!("the result could not be written to stdout: {error}"),
            )),
            Ok(()) => ExitCode::from(value.exit_code()),
        }
    }

    #[cfg(feature = "operator")]
    fn findings<T: Report>(self, value: &T) -> Result<String, Failure> {
        let Some(linting) = value.linting() else {
            return Err(self.without_findings(false).unwrap_or_else(|| bug(&"")));
        };
        match self.format {
            Format::Junit => super::faces::junit::draw(&linting).map_err(|error| bug(&error)),
            _ => super::faces::sarif::draw(&linting).map_err(|error| bug(&error)),
        }
    }

    /// What to say when findings are wanted in a linter's format and the command has none: told
    /// before anything is done.
    pub(super) fn without_findings(self, finds: bool) -> Option<Failure> {
        let name = self.format.of_linters().filter(|_| !finds)?;
        let message = format!("this command has no findings to print as {name}");
        let failure = Failure::new(crate::explain::Kind::Usage, "output.no-findings", message);
        let linters = "`cert lint`, `policy lint` and `template lint` have; use --format json here";
        Some(failure.hint(linters))
    }

    fn json<T: Report>(self, value: &T) -> Result<String, serde_json::Error> {
        match value.lines() {
            Some(lines) if self.format == Format::Ndjson => {
                let lines: Vec<String> = lines.iter().map(enveloped).collect::<Result<_, _>>()?;
                Ok(lines.join("\n"))
            }
            _ => enveloped(value),
        }
    }

    /// Whether the result is printed for people.
    #[cfg_attr(
        not(feature = "operator"),
        allow(
            dead_code,
            reason = "only the operator's commands write data to stdout"
        )
    )]
    pub(super) fn is_text(self) -> bool {
        self.format == Format::Text
    }

    /// Whether [`Output::stream`] prints anything.
    #[cfg_attr(
        not(feature = "operator"),
        allow(dead_code, reason = "only the operator's batches stream")
    )]
    pub(super) fn streams(self) -> bool {
        self.format == Format::Ndjson
    }

    /// Prints items one a line, when the format is NDJSON. A reader that is gone is met again, and
    /// told of, when the result itself is printed.
    #[cfg_attr(
        not(feature = "operator"),
        allow(dead_code, reason = "only the operator's batches stream")
    )]
    pub(super) fn stream<T: Serialize>(self, items: &[T]) {
        if self.format != Format::Ndjson {
            return;
        }
        let line = |body| {
            let schema_version = SCHEMA_VERSION;
            serde_json::to_string(&Envelope {
                schema_version,
                body,
            })
            .unwrap_or_default()
                + "\n"
        };
        let text: String = items.iter().map(line).collect();
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Prints lines for people as they come, when the format is text; as [`Output::stream`].
    #[cfg_attr(
        not(feature = "operator"),
        allow(dead_code, reason = "only the operator's batches stream")
    )]
    pub(super) fn say(self, text: &str) {
        if self.format == Format::Text {
            let mut out = anstream::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// Prints text of a report that goes on; `false` when its reader is gone.
    #[cfg_attr(
        not(feature = "sandbox"),
        allow(dead_code, reason = "only the sandbox's logs go on")
    )]
    pub(super) fn goes_on<T: Report>(self, value: &T) -> bool {
        let text = match self.format {
            Format::Json | Format::Ndjson => {
                let lines = value.lines().unwrap_or_default();
                let lines: Vec<String> =
                    lines.iter().filter_map(|one| enveloped(one).ok()).collect();
                lines.join("\n")
            }
            Format::Text => value.to_string(),
            #[cfg(feature = "operator")]
            Format::Sarif | Format::Junit => value.to_string(),
        };
        if text.is_empty() {
            return true;
        }
        let mut out = anstream::stdout().lock();
        let printed = writeln!(out, "{}", text.trim_end_matches('\n'));
        printed.and_then(|()| out.flush()).is_ok()
    }

    /// Prints a failure on stderr and returns its exit code.
    pub(super) fn fail(self, failure: &Failure) -> ExitCode {
        let code = failure.kind.exit_code();
        let text = match self.format {
            Format::Text => failure_text(failure),
            #[cfg(feature = "operator")]
            Format::Sarif | Format::Junit => failure_text(failure),
            Format::Json | Format::Ndjson => {
                let body = ErrorBody {
                    error: failure.code,
                    message: &failure.message,
                    because: &failure.causes,
                    hint: failure.hint.as_deref(),
                    exit_code: code,
                };
                let envelope = Envelope {
                    schema_version: SCHEMA_VERSION,
                    body: &body,
                };
                serde_json::to_string(&envelope).unwrap_or_else(|_| failure_text(failure))
            }
        };
        let _ = writeln!(anstream::stderr(), "{text}");
        ExitCode::from(code)
    }
}

fn enveloped<T: Serialize>(body: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Envelope {
        schema_version: SCHEMA_VERSION,
        body,
    })
}

fn failure_text(failure: &Failure) -> String {
    use std::fmt::Write as _;
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let mut text = format!("{red}error[{}]{red:#}: {}", failure.code, failure.message);
    for cause in &failure.causes {
        let _ = write!(text, "\n  because: {cause}");
    }
    if let Some(hint) = &failure.hint {
        let cyan = anstyle::AnsiColor::Cyan.on_default();
        let _ = write!(text, "\n{cyan}hint{cyan:#}: {hint}");
    }
    text
}

fn bug(error: &dyn Display) -> Failure {
    let message = format!("the result could not be put into JSON: {error}");
    Failure::new(crate::explain::Kind::Bug, "output.json", message)
}

/// Prints what clap has to say: help and version on stdout with 0, a usage error on stderr with 2, as
/// JSON where that was asked for.
pub(super) fn usage(error: &clap::Error, format: Format) -> ExitCode {
    let is_json = matches!(format, Format::Json | Format::Ndjson);
    if is_json && error.use_stderr() {
        return Output { format }.fail(&misused(error));
    }
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Clap's paragraphs: the error, then tips and usage.
fn misused(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.trim().split("\n\n").map(|part| {
        let lines: Vec<_> = part.lines().map(str::trim).collect();
        lines.join(" ")
    });
    let first = parts.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first);
    let failure = Failure::new(crate::explain::Kind::Usage, "usage", message);
    match parts.collect::<Vec<_>>().join("; ") {
        rest if rest.is_empty() => failure,
        rest => failure.hint(rest),
    }
}

/// Prints one progress or notice line on stderr.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `1 CA`, `2 CAs`.
pub(super) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
