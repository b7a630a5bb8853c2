//! Flags that say what a certificate is to hold: a profile, values for its placeholders, a window.

use std::path::{Path, PathBuf};

use super::args_issue::{LifetimeArgs, positive_span};
use super::settings::Settings;
use super::wire::factory::Factory;
use crate::core::csr::rule::Wanted;
use crate::core::draft::Purpose;
use crate::core::lifetime::Lifetime;
use crate::core::pattern;
use crate::core::profile::{BUILT_IN, Profile};
use crate::core::subject::Subject;
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
    /// The profile that is named, or one that says nothing.
    pub(super) fn load(&self, settings: &Settings) -> Result<Profile, Failure> {
        let configured = settings.file.issue.profile.as_deref();
        let Some(name) = self.cert_profile.as_deref().or(configured) else {
            return Ok(Profile::default());
        };
        if let Some(text) = Profile::built_in(name) {
            return Ok(Profile::parse(text, name)?);
        }
        let mut path = PathBuf::from(name);
        if let (None, Some(project)) = (&self.cert_profile, &settings.project) {
            path = project.join(path);
        }
        let disk = Factory::disk();
        if !disk.exists(&path) {
            return Err(unknown(name));
        }
        let bytes = disk.read(&path, MAX_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| not_text(&path, error))?;
        Ok(Profile::parse(text, &path.display().to_string())?)
    }

    /// Subject and alternative names with their placeholders filled in.
    pub(super) fn names<'a>(
        &self,
        profile: &Profile,
        device: &'a str,
    ) -> Result<Names<'a>, Failure> {
        let said = self.subject.as_deref().or(profile.subject.as_deref());
        let subject = said.unwrap_or("CN={name}");
        let patterns: Vec<&String> = profile.alternative_names.iter().chain(&self.san).collect();
        self.all_used(subject, &patterns)?;
        let value_of = |key: &str| {
            let set = || self.set.iter().rev().find(|(known, _)| known == key);
            if key == "name" {
                Some(device)
            } else {
                set().map(|(_, value)| value.as_str())
            }
        };
        Ok(Names {
            device,
            said: said.is_some(),
            subject: pattern::fill(subject, &value_of)?,
            alternative: patterns
                .into_iter()
                .map(|pattern| pattern::fill_text(pattern, &value_of))
                .collect::<Result<_, _>>()?,
        })
    }

    /// A value that nothing asks for is a slip of the pen.
    fn all_used(&self, subject: &str, patterns: &[&String]) -> Result<(), Failure> {
        let mut asked = pattern::placeholders(subject)?;
        for pattern in patterns {
            asked.extend(pattern::placeholders(pattern)?);
        }
        match self.set.iter().find(|(key, _)| !asked.contains(&&key[..])) {
            None => Ok(()),
            Some((key, _)) => {
                let message = format!("--set gives `{key}`, and no pattern names `{{{key}}}`");
                Err(Failure::new(Kind::Usage, "profile.set", message)
                    .hint("put the placeholder into --subject, --san or the profile"))
            }
        }
    }
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
