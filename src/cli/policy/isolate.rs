//! `policy isolate`

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::factory::Factory;
use crate::core::ids::{AccountId, Place};
use crate::core::isolate::{
    Counterexample, Device, Doubt, Fleet, Names, NamesError, Packet, Reach, Shared, StatementRef,
    Verdict, Why, place_of, prove,
};
use crate::core::policy::{Document, NamedPolicy};
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// The most bytes of a list of names: a million of the longest.
const MAX_NAMES: u64 = 130 << 20;

/// Prove that no device of a fleet can act as another, or show two that can
///
/// For all pairs of devices that hold these policies and whose thing names differ: no connect,
/// publish, subscribe or receive that one's policies allow reaches the other's client id, or a
/// topic that the other may publish to or receive. What devices do share is declared with --shared.
/// Exit code 0 when it is proved, 1 when there is a counterexample or when it cannot be proved.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The policies that every device holds, JSON; `-` is stdin
    #[arg(value_name = "FILE|-", required = true)]
    policy: Vec<PathBuf>,
    /// The policies of the fleet's devices of another kind: then pairs are one of each kind
    #[arg(long, value_name = "FILE")]
    other: Vec<PathBuf>,
    /// The things' names are like this, with `*` and `?`; may be given several times
    /// [default: any name]
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["names_file", "csv"])]
    names: Vec<String>,
    /// The things' names are those that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["names", "names_file", "csv"])]
    names_regex: Option<String>,
    /// The things' names are exactly these, one a line
    #[arg(long, value_name = "FILE|-", conflicts_with = "csv")]
    names_file: Option<PathBuf>,
    /// The things' names are those in this CSV file
    #[arg(long, value_name = "FILE|-")]
    csv: Option<PathBuf>,
    /// The column of the CSV file with the names
    #[arg(long, value_name = "COLUMN", default_value = "name", requires = "csv")]
    column: String,
    /// A topic filter: what it matches, all devices may publish to and receive
    #[arg(long, value_name = "FILTER")]
    shared: Vec<String>,
    /// As --shared, for topics that several devices publish to and none may receive
    #[arg(long, value_name = "FILTER")]
    shared_publish: Vec<String>,
    /// As --shared, for topics that several devices receive and none may publish to
    #[arg(long, value_name = "FILTER")]
    shared_receive: Vec<String>,
    /// Client ids, as a topic filter, that several devices may use
    #[arg(long, value_name = "FILTER")]
    shared_client: Vec<String>,
    /// Shared filters, one a line; `publish FILTER`, `receive FILTER` and `client FILTER` are as
    /// the flags of that name
    #[arg(long, value_name = "FILE|-")]
    shared_file: Option<PathBuf>,
    /// Things are attached exclusively: a client id need not be the thing's name
    #[arg(long)]
    exclusive: bool,
    /// A policy variable that holds the thing's name, such as
    /// iot:Certificate.Subject.CommonName
    #[arg(long, value_name = "VARIABLE")]
    same: Vec<String>,
    /// A policy variable that differs from device to device; iot:Certificate.SerialNumber always
    /// does
    #[arg(long, value_name = "VARIABLE")]
    unique: Vec<String>,
    /// The account of the devices [default: that of the policies; --region names the Region]
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
}

/// What was proved, or not.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Isolated {
    proved: bool,
    place: Place,
    policies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other: Vec<String>,
    names: String,
    counterexamples: Vec<Shown>,
    doubts: Vec<Doubt>,
    assumptions: Vec<String>,
    statements: Vec<StatementRef>,
    searches: usize,
}

/// A counterexample with the commands that bear it out.
#[derive(serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    found: Counterexample,
    /// One for each packet, device by device.
    commands: [Vec<String>; 2],
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Isolated, Failure> {
        let policies = load(&self.policy)?;
        let other = load(&self.other)?;
        let (names, described) = self.names()?;
        let place = self.place(settings, &policies)?;
        let mut fleet = Fleet::new(place, &policies);
        fleet.other = (!other.is_empty()).then_some(&other[..]);
        fleet.names = names;
        fleet.exclusive = self.exclusive;
        fleet.same.clone_from(&self.same);
        fleet.unique.extend(self.unique.iter().cloned());
        fleet.shared = self.shared_topics()?;
        let verdict = prove(&fleet);
        let commands = Commands {
            files: [
                &self.policy,
                if other.is_empty() {
                    &self.policy
                } else {
                    &self.other
                },
            ],
            exclusive: self.exclusive,
        };
        let shown = |found: &Counterexample| Shown {
            commands: commands.of(found),
            found: found.clone(),
        };
        Ok(Isolated {
            proved: verdict.proved(),
            counterexamples: verdict.counterexamples.iter().map(shown).collect(),
            assumptions: assumptions(&fleet, &verdict),
            doubts: verdict.doubts,
            statements: verdict.statements,
            searches: verdict.searches,
            names: described,
            policies: shown_paths(&self.policy),
            other: shown_paths(&self.other),
            place: fleet.place,
        })
    }

    fn place(&self, settings: &Settings, policies: &[NamedPolicy]) -> Result<Place, Failure> {
        let named = place_of(policies);
        let mut place = match (named, &settings.region) {
            (Some(place), None) => place,
            (Some(place), Some(region)) => Place {
                region: region.parse()?,
                ..place
            },
            (None, _) => settings.sandbox_place()?,
        };
        if let Some(account) = &self.account {
            place.account = account.clone();
        }
        Ok(place)
    }

    /// The names, and how to speak of them.
    fn names(&self) -> Result<(Names, String), Failure> {
        if let Some(regex) = &self.names_regex {
            let described = format!("thing names that match /{regex}/");
            return Ok((Names::matching(regex)?, described));
        }
        let listed = match (&self.names_file, &self.csv) {
            (Some(path), _) => {
                let text = read_names(path)?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                lines.map(str::to_owned).collect()
            }
            (_, Some(path)) => column(&read_names(path)?, &self.column)?,
            (None, None) if self.names.is_empty() => {
                return Ok((Names::All, "any thing name".to_owned()));
            }
            (None, None) => {
                let names = Names::like(&self.names)?;
                return Ok((names, format!("thing names like {}", self.names.join(", "))));
            }
        };
        let names = Names::listed(listed)?;
        let count = match &names {
            Names::Listed(list) => list.len(),
            Names::All | Names::Like(_) | Names::Matching(_) => 0,
        };
        Ok((names, format!("the {count} thing names of the list")))
    }

    fn shared_topics(&self) -> Result<Shared, Failure> {
        let mut shared = Shared {
            topics: self.shared.clone(),
            publish: self.shared_publish.clone(),
            receive: self.shared_receive.clone(),
            clients: self.shared_client.clone(),
        };
        if let Some(path) = &self.shared_file {
            let text = super::read_text(path)?;
            for line in text.lines().map(str::trim) {
                match line.split_once(' ') {
                    _ if line.is_empty() || line.starts_with("# ") => {}
                    Some(("publish", filter)) => shared.publish.push(filter.trim().to_owned()),
                    Some(("receive", filter)) => shared.receive.push(filter.trim().to_owned()),
                    Some(("client", filter)) => shared.clients.push(filter.trim().to_owned()),
                    _ => shared.topics.push(line.to_owned()),
                }
            }
        }
        shared.check()?;
        Ok(shared)
    }
}

fn shown_paths(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

fn load(paths: &[PathBuf]) -> Result<Vec<NamedPolicy>, Failure> {
    let one = |path: &PathBuf| {
        let name = path.display().to_string();
        let document = Document::parse(&super::read_text(path)?).map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("`{name}`: {}", failure.message);
            Failure { message, ..failure }.hint(format!("`nameplate policy lint {name}` says more"))
        })?;
        let document = Arc::new(document);
        Ok(NamedPolicy { name, document })
    };
    paths.iter().map(one).collect()
}

fn read_names(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        return super::read_text(path);
    }
    let bytes = Factory::disk().read(path, MAX_NAMES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The values of one column.
fn column(text: &str, name: &str) -> Result<Vec<String>, Failure> {
    let bad = |error: csv::Error| {
        Failure::new(Kind::Input, "list.rows", "the list cannot be read as CSV").because(error)
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(bad)?.clone();
    let at = headers.iter().position(|header| header == name);
    let at = at.ok_or_else(|| {
        let message = format!("the list has no column `{name}`");
        let all: Vec<&str> = headers.iter().collect();
        Failure::new(Kind::Input, "list.name-column", message).hint(format!(
            "name one of its columns with --column: {}",
            all.join(", ")
        ))
    })?;
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        found.extend(
            record
                .get(at)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
    }
    if found.is_empty() {
        return Err(NamesError::Few(0).into());
    }
    Ok(found)
}

/// What is taken to be so, in sentences.
fn assumptions(fleet: &Fleet<'_>, verdict: &Verdict) -> Vec<String> {
    let mut all = vec![if fleet.exclusive {
        "every certificate is attached exclusively to one thing".to_owned()
    } else {
        "every certificate is attached to one thing, and not exclusively: thing variables have a \
         value only where the client id is the thing's name"
            .to_owned()
    }];
    let same = fleet.same.iter();
    all.extend(same.map(|key| format!("{key} holds the thing's name")));
    let unique = fleet.unique.iter();
    all.extend(unique.map(|key| format!("{key} differs from device to device")));
    let free = verdict.free.iter();
    all.extend(free.map(|key| {
        format!("{key} may have any value without `/`, the same on all devices or not")
    }));
    let open = verdict.open.iter();
    all.extend(open.map(|key| {
        format!("a condition on {key} is taken at its worst: met in an Allow, not met in a Deny")
    }));
    all
}

/// The commands of `policy simulate` that bear a counterexample out.
struct Commands<'a> {
    files: [&'a [PathBuf]; 2],
    exclusive: bool,
}

impl Commands<'_> {
    fn of(&self, found: &Counterexample) -> [Vec<String>; 2] {
        [0, 1].map(|n| {
            let device = &found.devices[n];
            let packets = device.packets.iter();
            packets.map(|packet| self.one(n, device, packet)).collect()
        })
    }

    fn one(&self, n: usize, device: &Device, packet: &Packet) -> String {
        let mut words = vec!["nameplate policy simulate".to_owned()];
        for file in self.files[n] {
            words.push(format!("--policy {}", quoted(&file.display().to_string())));
        }
        words.push(format!("--thing {}", device.thing));
        if self.exclusive {
            words.push("--exclusive".to_owned());
        }
        if device.client_id != device.thing {
            words.push(format!("--client-id {}", quoted(&device.client_id)));
        }
        for (key, value) in &device.values {
            let attribute = key
                .strip_prefix("iot:connection.thing.attributes[")
                .and_then(|rest| rest.strip_suffix(']'));
            words.push(match attribute {
                Some(name) => format!("--attribute {}", quoted(&format!("{name}={value}"))),
                None if key == "iot:connection.thing.thingtypename" => {
                    format!("--thing-type {}", quoted(value))
                }
                None => format!("--context {}", quoted(&format!("{key}={value}"))),
            });
        }
        let action = packet
            .action
            .trim_start_matches("iot:")
            .to_ascii_lowercase();
        words.push(format!(
            "--action {action} --resource {}",
            quoted(&packet.resource)
        ));
        words.join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

impl Report for Isolated {
    fn exit_code(&self) -> u8 {
        u8::from(!self.proved)
    }
}

impl fmt::Display for Isolated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, names, .. } = self;
        let who = format!("{names}, account {}, {}", place.account, place.region);
        if self.proved {
            writeln!(f, "proved: no device can act as another, for {who}")?;
            self.write_statements(f)?;
        } else if self.counterexamples.is_empty() {
            writeln!(f, "not proved, for {who}")?;
        } else {
            writeln!(f, "a device can act as another, for {who}")?;
        }
        for shown in &self.counterexamples {
            write_counterexample(f, shown)?;
        }
        for doubt in &self.doubts {
            write_doubt(f, doubt)?;
        }
        f.write_str("\nassuming")?;
        let mut assumptions = self.assumptions.iter();
        assumptions.try_for_each(|assumption| write!(f, "\n  {assumption}"))
    }
}

impl Isolated {
    fn write_statements(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  connects with another's client id: none\n  \
             publishes or receives where another does, shared topics aside: none\n\n\
             by the statements that allow"
        )?;
        let all: BTreeSet<String> = self.statements.iter().map(ToString::to_string).collect();
        all.iter().try_for_each(|one| writeln!(f, "  {one}"))
    }
}

fn write_counterexample(f: &mut fmt::Formatter<'_>, shown: &Shown) -> fmt::Result {
    let found = &shown.found;
    let what = if found.reach == Reach::Connect {
        "client id"
    } else {
        "topic"
    };
    writeln!(
        f,
        "\none {}: {what} `{}`",
        found.reach.sentence(),
        found.shared
    )?;
    for (device, commands) in found.devices.iter().zip(&shown.commands) {
        write!(f, "  {} as client `{}`", device.thing, device.client_id)?;
        if !device.attached {
            f.write_str(", where thing variables have no value")?;
        }
        writeln!(f)?;
        for (packet, command) in device.packets.iter().zip(commands) {
            let because: Vec<String> = packet.because.iter().map(ToString::to_string).collect();
            let action = packet.action.trim_start_matches("iot:");
            writeln!(f, "    {action} `{}`: {}", packet.name, because.join(", "))?;
            writeln!(f, "      {command}")?;
        }
    }
    Ok(())
}

fn write_doubt(f: &mut fmt::Formatter<'_>, doubt: &Doubt) -> fmt::Result {
    write!(f, "\nnot proved that none {}: ", doubt.reach.sentence())?;
    let (Why::Limit { statements } | Why::Unconfirmed { statements, .. }) = &doubt.why;
    match &doubt.why {
        Why::Limit { .. } => {
            writeln!(f, "the patterns are too many or too wild to search through")?;
        }
        Why::Unconfirmed { word, .. } => writeln!(
            f,
            "these overlap, as in `{word}`, though no two names were found"
        )?,
    }
    let all: BTreeSet<String> = statements.iter().map(ToString::to_string).collect();
    all.iter().try_for_each(|one| writeln!(f, "  {one}"))?;
    writeln!(f, "  do: {}", doubt.why.remedy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in [
            ("pump-1", "pump-1"),
            ("a/+/#", "'a/+/#'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn names_are_read_from_a_column() {
        let text = "serial,name\n1,pump-1\n2, pump-2 \n";
        assert_eq!(column(text, "name").unwrap(), ["pump-1", "pump-2"]);
        assert_eq!(column(text, "x").unwrap_err().code, "list.name-column");
        assert_eq!(column("name\n", "name").unwrap_err().code, "isolate.names");
    }
}
