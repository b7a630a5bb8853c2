//! `sandbox logs`

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::reset::state_folder;
use crate::cli::report::{Output, Report};
use crate::cli::settings::Settings;
use crate::cli::wire::sandbox as wire;
use crate::core::time::UtcTime;
use crate::explain::{Failure, Kind};
use crate::sandbox::admin::Admin;
use crate::sandbox::folder::LOGS;
use crate::sandbox::logs::{LogReader, Record, timestamp};

/// How often --follow looks for more.
const LOOK: Duration = Duration::from_millis(200);

/// Show what the sandbox did, and whom it refused and why
///
/// One record is one event, as AWS IoT writes them to CloudWatch Logs; `why` is the sandbox's own
/// and explains a refusal. --format ndjson prints one object a line.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Go on as more happens, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only refusals, each with its rule and its remedy
    #[arg(long)]
    why: bool,
    /// Only what happened since (RFC 3339, or `-10m`), by the sandbox's clock
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only this client: its MQTT client id, or its certificate's id
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Print JSON lines with AWS's fields only, as CloudWatch Logs has them
    #[arg(long)]
    cloudwatch: bool,
}

/// Records, as they are printed.
#[derive(serde::Serialize)]
struct Records {
    records: Vec<Record>,
    #[serde(skip)]
    faces: Faces,
}

#[derive(Clone, Copy)]
struct Faces {
    why: bool,
    cloudwatch: bool,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self.read(settings, output) {
            Ok(code) => code,
            Err(failure) => output.fail(&failure),
        }
    }

    fn read(&self, settings: &Settings, output: Output) -> Result<ExitCode, Failure> {
        let state = state_folder(self.state.clone(), settings)?;
        let since = match &self.since {
            None => String::new(),
            Some(text) => {
                let running = Admin::of_folder(&state).and_then(|(admin, _)| admin.now());
                let now = running.map_or_else(|_| wire::now(), |now| now.time);
                let since = UtcTime::parse_relative(text, now)?;
                timestamp(i128::from(since.unix()) * 1_000_000_000)
            }
        };
        let mut reader = LogReader::new(&state.join(LOGS));
        loop {
            let records = reader.more().map_err(|error| unreadable(&state, error))?;
            let records: Vec<Record> = records
                .into_iter()
                .filter(|record| record.timestamp >= since && self.wants(record))
                .collect();
            let faces = Faces {
                why: self.why,
                cloudwatch: self.cloudwatch,
            };
            let records = Records { records, faces };
            if !self.follow {
                return Ok(output.finish(Ok::<_, Failure>(records)));
            }
            if !output.goes_on(&records) {
                return Ok(ExitCode::SUCCESS);
            }
            wire::sleep(LOOK);
        }
    }

    fn wants(&self, record: &Record) -> bool {
        let ids = [
            &record.client_id,
            &record.principal_id,
            &record.device_certificate_id,
        ];
        let of_client = |wanted: &String| ids.into_iter().any(|id| id.as_ref() == Some(wanted));
        (!self.why || record.failed()) && self.client.as_ref().is_none_or(of_client)
    }
}

fn unreadable(state: &Path, error: std::io::Error) -> Failure {
    let message = format!(
        "the sandbox's records in `{}` cannot be read",
        state.display()
    );
    Failure::new(Kind::Input, "sandbox.state", message).because(error)
}

impl Report for Records {
    fn lines(&self) -> Option<Vec<serde_json::Value>> {
        let lines = self.records.iter();
        Some(
            lines
                .filter_map(|one| serde_json::to_value(one).ok())
                .collect(),
        )
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in &self.records {
            if self.faces.cloudwatch {
                let plain = record.cloudwatch();
                let Some(line) = plain.and_then(|one| serde_json::to_string(&one).ok()) else {
                    continue;
                };
                writeln!(f, "{line}")?;
            } else {
                write_record(f, record, self.faces.why)?;
            }
        }
        Ok(())
    }
}

fn write_record(f: &mut fmt::Formatter<'_>, record: &Record, why: bool) -> fmt::Result {
    let who = record.client_id.as_deref();
    let who = who.or(record.device_certificate_id.as_deref());
    let who = who.or(record.principal_id.as_deref()).unwrap_or("-");
    write!(f, "{} {} {who}", record.timestamp, record.event_type)?;
    if let Some(reason) = record.reason.as_deref() {
        write!(f, " {reason}")?;
    }
    if let Some(reason) = record.disconnect_reason.as_deref() {
        write!(f, " {reason}")?;
    }
    if let Some(topic) = record.topic_name.as_deref() {
        write!(f, " {topic}")?;
    }
    if let Some(details) = record.details.as_deref() {
        write!(f, ": {details}")?;
    }
    writeln!(f)?;
    if why { write_why(f, record) } else { Ok(()) }
}

fn write_why(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let Some(why) = record.why.as_deref() else {
        return Ok(());
    };
    let from = match (&record.source_ip, record.source_port) {
        (Some(ip), Some(port)) => Some(format!("{ip}:{port}")),
        _ => None,
    };
    let policy = why.policy.as_ref().map(|name| {
        let version = why.policy_version.as_deref().unwrap_or("?");
        let statement = why.statement.map_or("?".to_owned(), |n| n.to_string());
        format!("{name}, version {version}, statement {statement}")
    });
    let list = |all: &[String]| (!all.is_empty()).then(|| all.join(", "));
    for (label, value) in [
        ("stage", Some(why.stage.as_str().to_owned())),
        ("rule", Some(why.rule.clone())),
        ("place", why.place.clone()),
        ("from", from),
        ("certificate", record.principal_id.clone()),
        ("subject", why.subject.clone()),
        ("issuer", why.issuer.clone()),
        ("policy", policy),
        ("asked", list(&why.policies)),
        ("no value", list(&why.unresolved)),
        ("alert", why.alert.clone()),
        ("template", why.template.clone()),
        ("parameter", why.parameter.clone()),
        ("part", why.part.clone()),
        (
            "to mend it",
            Some(why.remedy.clone()).filter(|text| !text.is_empty()),
        ),
    ] {
        if let Some(value) = value {
            writeln!(f, "    {label:<12} {value}")?;
        }
    }
    Ok(())
}
