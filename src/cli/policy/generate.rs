//! `policy generate`

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::factory::Factory;
use crate::core::bundle::Secrecy;
use crate::core::ids::{AccountId, Place};
use crate::core::policygen::{
    GenerateError, MAX_POLICIES, Options, THING_NAME, Wanted, generate, read_list, read_traffic,
};
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// The most bytes of a log that are read.
const MAX_LOG: u64 = 1 << 30;

/// Write the least policy for what devices do: from topics, a list, or recorded traffic
///
/// In topics `{thing}` stands for the device's name. What a filter matches may be received, unless
/// --receive says what. The policy lets a device connect only as its own thing, with a clean
/// session and without a last will unless they are asked for.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// A topic that devices publish to, such as devices/{thing}/telemetry
    #[arg(long, value_name = "TOPIC")]
    publish: Vec<String>,
    /// A topic that devices publish to with the RETAIN flag
    #[arg(long, value_name = "TOPIC")]
    retain: Vec<String>,
    /// A filter that devices subscribe to
    #[arg(long, value_name = "FILTER")]
    subscribe: Vec<String>,
    /// A topic that devices receive [default: what the filters match]
    #[arg(long, value_name = "TOPIC")]
    receive: Vec<String>,
    /// A list of `publish TOPIC`, `retain TOPIC`, `subscribe FILTER` and `receive TOPIC`, one a line
    #[arg(long, value_name = "FILE|-")]
    topics: Option<PathBuf>,
    /// The sandbox's log of what devices did: logs.ndjson in its state folder
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// The variable that holds the device's name
    #[arg(long, value_name = "VARIABLE", default_value = THING_NAME)]
    thing_name_from: String,
    /// Let devices keep persistent sessions
    #[arg(long)]
    persistent: bool,
    /// Let devices have a last will on this topic
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Write as many documents as it takes, up to ten: FILE-1.json and so on
    #[arg(long)]
    split: bool,
    /// The account of the devices [default: the sandbox's; --region names the Region]
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Where the policy goes; nothing there is overwritten
    #[arg(long, short, value_name = "FILE|-", default_value = "-")]
    out: PathBuf,
}

/// What was generated.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Generated {
    place: Place,
    /// How long each is, as AWS IoT counts.
    characters: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
    documents: Vec<String>,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Generated, Failure> {
        let mut place = settings.sandbox_place()?;
        if let Some(account) = &self.account {
            place.account = account.clone();
        }
        let options = Options {
            place: place.clone(),
            variable: self.variable().to_owned(),
            persistent: self.persistent,
            will: self.will_topic.clone(),
        };
        let most = if self.split { MAX_POLICIES } else { 1 };
        let documents = generate(&self.wanted()?, &options, most)?;
        let files = self.write(&documents)?;
        let length = |text: &String| text.chars().filter(|c| !c.is_whitespace()).count();
        Ok(Generated {
            characters: documents.iter().map(length).collect(),
            place,
            files,
            documents,
        })
    }

    /// `iot:…`, or `${iot:…}` as policies write it.
    fn variable(&self) -> &str {
        let inside = self.thing_name_from.strip_prefix("${");
        inside
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or(&self.thing_name_from)
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        let set = |topics: &[String]| topics.iter().cloned().collect();
        let mut wanted = Wanted {
            publish: set(&self.publish),
            retain: set(&self.retain),
            subscribe: set(&self.subscribe),
            receive: set(&self.receive),
        };
        let named = |path: &Path, error: GenerateError| {
            let failure = Failure::from(error);
            let message = format!("`{}`: {}", path.display(), failure.message);
            Failure { message, ..failure }
        };
        if let Some(path) = &self.topics {
            read_list(&super::read_text(path)?, &mut wanted).map_err(|e| named(path, e))?;
        }
        if let Some(path) = &self.traffic {
            let bytes = Factory::disk().read(path, MAX_LOG)?;
            let text = String::from_utf8_lossy(&bytes);
            read_traffic(&text, &mut wanted).map_err(|e| named(path, e))?;
        }
        Ok(wanted)
    }

    /// Writes the documents, none over a file that is there.
    fn write(&self, documents: &[String]) -> Result<Vec<PathBuf>, Failure> {
        if self.out == Path::new("-") {
            return Ok(Vec::new());
        }
        let numbered = |n: usize| {
            let stem = self.out.file_stem().unwrap_or_default().to_string_lossy();
            let end = self.out.extension().map(|end| end.to_string_lossy());
            let end = end.map_or(String::new(), |end| format!(".{end}"));
            self.out.with_file_name(format!("{stem}-{n}{end}"))
        };
        let paths: Vec<PathBuf> = match documents.len() {
            1 => vec![self.out.clone()],
            count => (1..=count).map(numbered).collect(),
        };
        let disk = Factory::disk();
        if let Some(path) = paths.iter().find(|path| disk.exists(path)) {
            let message = format!("`{}` already exists", path.display());
            return Err(Failure::new(Kind::Refused, "file.exists", message)
                .hint("choose another place with --out"));
        }
        for (path, document) in paths.iter().zip(documents) {
            disk.write_new(path, document.as_bytes(), Secrecy::Public)?;
        }
        Ok(paths)
    }
}

impl Report for Generated {}

impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.files.is_empty() {
            let all: Vec<&str> = self.documents.iter().map(|text| text.trim_end()).collect();
            return f.write_str(&all.join("\n"));
        }
        let lines = self.files.iter().zip(&self.characters);
        let lines: Vec<String> = lines
            .map(|(path, length)| format!("wrote {}: {length} characters", path.display()))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}
