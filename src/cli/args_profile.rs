//! Flags that say what a certificate is to hold: a profile, values for its placeholders, a window.

use std::path::{Path, PathBuf};

use super::args_issue::{LifetimeArgs, positive_span};
use super::settings::Settings;
use super::wire::factory::Factory;
use crate::core::csr::rule::Wanted;
use crate::core::draft::Purpose;
use crate::core::lifetime::Lifetime;
use crate::core::pattern::{self, PatternError};
use crate::core::profile::{BUILT_IN, Profile};
use crate::core::subject::Subject;
use crate::core::template::Subjects;
use crate::core::time::Span;
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// The most bytes of a profile we read.
const MAX_BYTES: u64 = 1 << 20;

/// A profile, names and values.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ProfileArgs {
    /// Certificate profile: a built-in's name or a TOML file [config: issue.profile]
    #[arg(long, value_name = "NAME|FILE")]
    cert_profile: Option<String>,
    /// Subject with placeholders, such as `CN={name},O=Pumps` [default: the profile's, or CN={name}]
    #[arg(long, value_name = "DN")]
    subject: Option<String>,
    /// One more alternative name: DNS:host, IP:address, URI:… or email:…; placeholders are filled in
    #[arg(long, value_name = "NAME")]
    san: Vec<String>,
    /// A placeholder's value; `{name}` is the device's name and cannot be set
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("name", _)) => Err("`name` is the device's name and cannot be set".into()),
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE".into()),
    }
}

/// What the certificate is to be called.
pub(super) struct Names<'a> {
    device: &'a str,
    subject: Subject,
    /// Whether flag or profile names the subject.
    said: bool,
    alternative: Vec<String>,
}

impl<'a> Names<'a> {
    /// With the profile's purpose.
    pub(super) fn wanted(self, profile: &Profile) -> Wanted<'a> {
        Wanted {
            device: self.device,
            subject: self.subject,
            subject_said: self.said,
            alternative_names: self.alternative,
            purpose: profile.purpose.unwrap_or(Purpose::Device),
            extras: profile.extras.clone(),
        }
    }
}

/// From when to when, by flag, profile or configuration.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct WindowArgs {
    #[command(flatten)]
    lifetime: LifetimeArgs,
    /// Length such as 1h or 90d, from --not-before or from now
    #[arg(
        long,
        value_name = "SPAN",
        value_parser = positive_span,
        conflicts_with_all = ["days", "not_after"]
    )]
    ttl: Option<Span>,
}

impl WindowArgs {
    /// A flag goes before the profile, the profile before the configuration.
    pub(super) fn lifetime(
        &self,
        settings: &Settings,
        profile: &Profile,
    ) -> Result<Lifetime, Failure> {
        let mut lifetime = match self.ttl.or(profile.validity) {
            Some(span) => self.lifetime.lifetime(settings, span)?,
            None => self.lifetime.for_device(settings)?,
        };
        lifetime.backdate = profile.backdate.unwrap_or(lifetime.backdate);
        if let (None, Some(rule)) = (self.lifetime.on_ca_expiry, profile.on_ca_expiry) {
            lifetime.on_ca_expiry = rule;
        }
        Ok(lifetime)
    }
}

impl ProfileArgs {
    /// The profile that is named, or one that says nothing; for a device, never for a CA.
    pub(super) fn load(&self, settings: &Settings) -> Result<Profile, Failure> {
        let configured = settings.file.issue.profile.as_deref();
        let base = settings
            .project
            .as_deref()
            .filter(|_| self.cert_profile.is_none());
        let Some(name) = self.cert_profile.as_deref().or(configured) else {
            return Ok(Profile::default());
        };
        let profile = read(name, base)?;
        if let Some(Purpose::Root { .. } | Purpose::Intermediate { .. }) = profile.purpose {
            let message = format!("the profile `{name}` is for a CA, not for a device");
            return Err(other_purpose(message).hint("make a CA with `nameplate ca create NAME`"));
        }
        Ok(profile)
    }

    /// What is to be filled in. Every --set is asked for by something.
    pub(super) fn patterns<'a>(&'a self, profile: &'a Profile) -> Result<Patterns<'a>, Failure> {
        let said = self.subject.as_deref().or(profile.subject.as_deref());
        let patterns = Patterns {
            subject: said.unwrap_or("CN={name}"),
            said: said.is_some(),
            names: profile.alternative_names.iter().chain(&self.san).collect(),
            set: &self.set,
        };
        let asked = patterns.placeholders()?;
        match self.set.iter().find(|(key, _)| !asked.contains(&&key[..])) {
            None => Ok(patterns),
            Some((key, _)) => {
                let message = format!("--set gives `{key}`, and no pattern names `{{{key}}}`");
                Err(Failure::new(Kind::Usage, "profile.set", message)
                    .hint("put the placeholder into --subject, --san or the profile"))
            }
        }
    }

    /// The subject of one device with its placeholders filled in.
    pub(super) fn subject_of(&self, profile: &Profile, device: &str) -> Result<Subject, Failure> {
        Ok(self.names(profile, device)?.subject)
    }

    /// Subject and alternative names of one device with their placeholders filled in.
    pub(super) fn names<'a>(
        &self,
        profile: &Profile,
        device: &'a str,
    ) -> Result<Names<'a>, Failure> {
        let patterns = self.patterns(profile)?;
        let value_of = |key: &str| match key {
            "name" => Some(device),
            _ => patterns.set(key),
        };
        Ok(Names {
            device,
            said: patterns.said,
            subject: patterns.subject(&value_of)?,
            alternative: patterns.names(&value_of)?,
        })
    }
}

/// Patterns, and the values that --set gives.
pub(super) struct Patterns<'a> {
    subject: &'a str,
    /// Whether flag or profile names the subject.
    said: bool,
    names: Vec<&'a String>,
    set: &'a [(String, String)],
}

impl Patterns<'_> {
    /// The value that --set gives; the last one counts.
    pub(super) fn set(&self, key: &str) -> Option<&str> {
        let set = self.set.iter().rev().find(|(known, _)| known == key);
        set.map(|(_, value)| &value[..])
    }

    /// Whether flag or profile names the subject.
    pub(super) fn said(&self) -> bool {
        self.said
    }

    /// Every placeholder there is.
    pub(super) fn placeholders(&self) -> Result<Vec<&str>, PatternError> {
        let mut asked = pattern::placeholders(self.subject)?;
        for name in &self.names {
            asked.extend(pattern::placeholders(name)?);
        }
        Ok(asked)
    }

    /// Whether one device's alternative names may differ from another's.
    pub(super) fn names_vary(&self) -> bool {
        let varies = |key: &&str| self.set(key).is_none();
        let asked = self.names.iter().map(|name| pattern::placeholders(name));
        asked.flatten().flatten().any(|key| varies(&key))
    }

    pub(super) fn subject<'v>(
        &self,
        value_of: &dyn Fn(&str) -> Option<&'v str>,
    ) -> Result<Subject, PatternError> {
        pattern::fill(self.subject, value_of)
    }

    /// The subjects of all certificates.
    pub(super) fn subjects(&self) -> Result<Subjects, PatternError> {
        Subjects::new(self.subject, self.set.iter().cloned().collect())
    }

    pub(super) fn names<'v>(
        &self,
        value_of: &dyn Fn(&str) -> Option<&'v str>,
    ) -> Result<Vec<String>, PatternError> {
        let names = self.names.iter();
        names
            .map(|name| pattern::fill_text(name, value_of))
            .collect()
    }
}

/// A CA's profile, its subject, and values for the placeholders.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct CaProfileArgs {
    /// Certificate profile: root-ca, intermediate-ca or a TOML file [default: by --parent]
    #[arg(long, value_name = "NAME|FILE")]
    cert_profile: Option<String>,
    /// Subject; `{name}` is the CA's name [default: the profile's, or CN={name}]
    #[arg(long, value_name = "DN")]
    subject: Option<String>,
    /// A placeholder's value; `{name}` is the CA's name and cannot be set
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

impl CaProfileArgs {
    /// The profile that is named, or one that says nothing; it must be for a root, or for a CA
    /// below another.
    pub(super) fn load(&self, root: bool) -> Result<Profile, Failure> {
        let Some(name) = &self.cert_profile else {
            return Ok(Profile::default());
        };
        let profile = read(name, None)?;
        let what = if root {
            "a root CA"
        } else {
            "a CA below another"
        };
        let fits = match profile.purpose {
            Some(Purpose::Root { .. }) => root,
            Some(Purpose::Intermediate { .. }) => !root,
            _ => false,
        };
        if fits {
            return Ok(profile);
        }
        let message = format!("the profile `{name}` is not for {what}");
        Err(other_purpose(message)
            .hint("a CA's profile has purpose = \"root-ca\", or with --parent \"intermediate-ca\""))
    }

    /// The subject with its placeholders filled in.
    pub(super) fn subject(&self, profile: &Profile, ca: &str) -> Result<Subject, Failure> {
        let args = ProfileArgs {
            cert_profile: None,
            subject: self.subject.clone(),
            san: Vec::new(),
            set: self.set.clone(),
        };
        Ok(args.names(profile, ca)?.subject)
    }
}

/// The profile of this name; a file is looked for from `base`.
fn read(name: &str, base: Option<&Path>) -> Result<Profile, Failure> {
    if let Some(text) = Profile::built_in(name) {
        return Ok(Profile::parse(text, name)?);
    }
    let path = base.map_or_else(|| PathBuf::from(name), |base| base.join(name));
    let disk = Factory::disk();
    if !disk.exists(&path) {
        return Err(unknown(name));
    }
    let bytes = disk.read(&path, MAX_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| not_text(&path, error))?;
    Ok(Profile::parse(text, &path.display().to_string())?)
}

fn other_purpose(message: String) -> Failure {
    Failure::new(Kind::Input, "profile.purpose", message)
}

/// There is no such profile.
pub(super) fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let message = format!("`{name}` is neither a built-in profile nor a file");
    let hint = format!("the built-in profiles are {}", names.join(", "));
    Failure::new(Kind::Input, "profile.unknown", message).hint(hint)
}

fn not_text(path: &Path, error: std::str::Utf8Error) -> Failure {
    let at = error.valid_up_to();
    let message = format!("`{}` is not UTF-8 text: byte {at} is bad", path.display());
    Failure::new(Kind::Input, "file.utf8", message)
}
