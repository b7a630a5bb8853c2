//! `device issue`

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::args_issue::{CaArgs, CaHandle};
use super::super::args_profile::{ProfileArgs, WindowArgs};
use super::super::args_template::{Chosen, TemplateArgs};
use super::super::report::{self, Output, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use super::key::{Access, Holder, KeyArgs};
use crate::core::bundle;
use crate::core::flaw::Flaw;
use crate::core::ids::{CertificateId, ThingName};
use crate::core::key_uri::KeyUri;
use crate::core::pem;
use crate::core::subject::Subject;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Failure, Kind};
use crate::flows::device_issue::{self, KeySource, Request};
use crate::ports::{Clock, Files};

/// Make a device's key and a certificate signed by a CA
///
/// Writes the private key (mode 0600), the certificate, its chain and the CA bundle into one
/// folder; with --csr all but the key. Nothing that exists is overwritten. A killed run is finished
/// by the same command.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device's name: its thing name, and its common name unless --subject says otherwise
    name: ThingName,
    /// The identity's folder [default: devices/NAME in the project]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    window: WindowArgs,
    /// Print shell exports that name the identity to the device's commands
    #[arg(long)]
    env: bool,
    /// Put the private key into the JSON as well: for a secret store, never for a log
    #[arg(long, conflicts_with_all = ["env", "csr"])]
    include_key: bool,
    #[command(flatten)]
    ca: CaArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

/// What was issued.
#[derive(serde::Serialize)]
pub(super) struct Issued {
    device: ThingName,
    id: CertificateId,
    serial: String,
    subject: Subject,
    ca: String,
    not_before: UtcTime,
    not_after: UtcTime,
    key: Origin,
    /// Where the key is, when it is in a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_uri: Option<String>,
    /// What a certificate request asked for and did not get.
    left_out: Vec<String>,
    /// What is wrong on purpose.
    flaw: Option<&'static str>,
    #[serde(skip)]
    wrong: Option<&'static str>,
    folder: PathBuf,
    files: Vec<PathBuf>,
    checked_against: Option<PathBuf>,
    finished_earlier_run: bool,
    /// Only when it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_pem: Option<InTheClear>,
    certificate_pem: String,
    chain_pem: Option<String>,
    ca_pem: Option<String>,
    /// The folder by its full path, when shell exports are wanted.
    #[serde(skip)]
    exports: Option<PathBuf>,
    #[serde(skip)]
    now: UtcTime,
}

/// A key that is asked for in the JSON.
struct InTheClear(Zeroizing<String>);

impl serde::Serialize for InTheClear {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How the identity came by its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Origin {
    Made,
    Copied,
    Elsewhere,
}

impl Origin {
    fn of(key: &KeySource) -> Self {
        match key {
            KeySource::New(_) => Self::Made,
            KeySource::Given(..) => Self::Copied,
            KeySource::Elsewhere(..) => Self::Elsewhere,
        }
    }
}

struct Made {
    issued: device_issue::Issued,
    key_uri: Option<KeyUri>,
    flaw: Option<Flaw>,
    origin: Origin,
    left_out: Vec<String>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Issued, Failure> {
        self.check_key_is_for_json(output)?;
        let factory = Factory::open(settings)?;
        let chosen = self.template.load(settings, &factory.files)?;
        if chosen.is_none() {
            report::note("note: no template is named, so the draft is not checked against one");
        }
        let profile = self.profile.load(settings)?;
        let names = self.profile.names(&profile, self.name.as_str())?;
        let folder = self.folder(settings)?;
        let ca = self.ca.load_any(settings, &factory)?;
        let access = Access {
            factory: &factory,
            settings,
            token: &self.ca.passphrase.token,
        };
        let holder = self.key.holder((&self.name, names), &profile, &access)?;
        let Holder { key, settled, flaw } = holder.below(ca.flawed);
        let (origin, key_uri) = (Origin::of(&key), key.uri().cloned());
        let request = Request {
            device: self.name.to_string(),
            subject: settled.subject,
            purpose: settled.purpose,
            alternative_names: settled.alternative_names,
            extras: settled.extras,
            lifetime: self.window.lifetime(settings, &profile)?,
            key,
            folder: folder.clone(),
            issuer: ca.issuer(),
            template: chosen.as_ref().map(|chosen| &chosen.template),
            replaces: None,
            flaw,
        };
        let issued = factory.issue().run(&request)?;
        let made = Made {
            issued,
            key_uri,
            origin,
            left_out: settled.left_out,
            flaw,
        };
        if let Some(what) = flaw.map(Flaw::what) {
            report::note(format_args!(
                "warning: this identity is FLAWED on purpose: {what}"
            ));
        }
        let key_pem = self.key_pem(&factory, &folder, made.origin)?;
        let report = self.report(&factory, (&ca, &folder), (made, chosen));
        Ok(Issued { key_pem, ..report })
    }

    fn check_key_is_for_json(&self, output: Output) -> Result<(), Failure> {
        if !self.include_key || !output.is_text() {
            return Ok(());
        }
        let message = "--include-key is for JSON; text never shows a key";
        Err(Failure::new(Kind::Usage, "output.shape", message)
            .hint("add --format json, or take the key from its file"))
    }

    fn folder(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => settings.project()?.join("devices").join(self.name.as_str()),
        };
        std::path::absolute(&folder).map_err(|error| {
            Failure::new(Kind::Input, "file.write", "the folder has no path").because(error)
        })
    }

    /// The key, where it is asked for and here.
    fn key_pem(
        &self,
        factory: &Factory,
        folder: &Path,
        origin: Origin,
    ) -> Result<Option<InTheClear>, Failure> {
        if !self.include_key || origin == Origin::Elsewhere {
            return Ok(None);
        }
        let bytes = factory
            .files
            .read(&folder.join(bundle::KEY), pem::MAX_BYTES as u64)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(InTheClear(Zeroizing::new(text))))
    }

    fn report(
        self,
        factory: &Factory,
        (ca, folder): (&CaHandle, &Path),
        (made, chosen): (Made, Option<Chosen>),
    ) -> Issued {
        let leaf = &made.issued.certificate;
        let public = ca.issuer().text().public_files(leaf);
        let pem = |name| {
            let file = public.iter().find(|file| file.name == name);
            file.map(|file| String::from_utf8_lossy(&file.bytes).into_owned())
        };
        let with_key = match (made.origin, &made.key_uri) {
            (Origin::Elsewhere, None) => None,
            (Origin::Elsewhere, Some(_)) => Some(bundle::KEY_URI),
            (Origin::Made | Origin::Copied, _) => Some(bundle::KEY),
        };
        let names =
            with_key
                .into_iter()
                .chain([bundle::CERTIFICATE, bundle::CHAIN, bundle::CA_BUNDLE]);
        Issued {
            id: leaf.id().clone(),
            serial: leaf.serial_hex(),
            subject: leaf.subject.clone(),
            ca: ca.name.clone(),
            not_before: leaf.validity.not_before,
            not_after: leaf.validity.not_after,
            files: names.map(|name| shown(&folder.join(name))).collect(),
            folder: shown(folder),
            checked_against: chosen.map(|chosen| shown(&chosen.path)),
            finished_earlier_run: made.issued.finished,
            key: made.origin,
            key_uri: made.key_uri.map(|uri| uri.to_string()),
            left_out: made.left_out,
            flaw: made.flaw.map(Flaw::word),
            wrong: made.flaw.map(Flaw::what),
            key_pem: None,
            certificate_pem: leaf.to_pem(),
            chain_pem: pem(bundle::CHAIN),
            ca_pem: pem(bundle::CA_BUNDLE),
            exports: self.env.then(|| folder.to_owned()),
            now: factory.clock.now(),
            device: self.name,
        }
    }
}

impl Report for Issued {}

/// POSIX shell; full paths, so that they hold in any folder.
fn exports(f: &mut fmt::Formatter<'_>, folder: &Path, key: Option<&str>) -> fmt::Result {
    let path = |name: &str| folder.join(name).display().to_string();
    for (variable, value) in [
        ("NAMEPLATE_IDENTITY", folder.display().to_string()),
        ("NAMEPLATE_CERT", path(bundle::CERTIFICATE)),
        (
            "NAMEPLATE_KEY",
            key.map_or_else(|| path(bundle::KEY), str::to_owned),
        ),
        ("NAMEPLATE_CHAIN", path(bundle::CHAIN)),
    ] {
        let quoted = value.replace('\'', r"'\''");
        writeln!(f, "export {variable}='{quoted}'")?;
    }
    Ok(())
}

impl fmt::Display for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = &self.exports {
            return exports(f, folder, self.key_uri.as_deref());
        }
        let verb = if self.finished_earlier_run {
            "finished what an earlier run began:"
        } else {
            "issued"
        };
        let window = Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        };
        writeln!(f, "{verb} {}", self.device)?;
        if let (Some(flaw), Some(wrong)) = (self.flaw, self.wrong) {
            writeln!(f, "  FLAW     {flaw}: {wrong}")?;
        }
        writeln!(f, "  subject  {}", self.subject)?;
        writeln!(f, "  valid    {}", window.describe(self.now))?;
        writeln!(f, "  serial   {}", self.serial)?;
        writeln!(f, "  id       {}", self.id)?;
        writeln!(f, "  CA       {}", self.ca)?;
        if let Some(path) = &self.checked_against {
            writeln!(f, "  passes   {}", path.display())?;
        }
        if let Some(uri) = &self.key_uri {
            writeln!(f, "  key      {uri}")?;
        } else if self.key == Origin::Elsewhere {
            writeln!(f, "  key      stays where it is")?;
        }
        for what in &self.left_out {
            writeln!(f, "  left out {what}, which the request asked for")?;
        }
        self.files
            .iter()
            .try_for_each(|path| writeln!(f, "  wrote    {}", path.display()))
    }
}
