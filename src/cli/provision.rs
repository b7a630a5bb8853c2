//! `provision`

use std::fmt;
use std::path::PathBuf;

use super::args_fleet::{self, FleetArgs, KeyFrom, LineArgs};
use super::identity::in_project;
use super::report::{Report, note};
use super::settings::Settings;
use super::wire;
use super::wire_device::Machine;
use crate::core::bundle;
use crate::core::key::PrivateKey;
use crate::core::pem;
use crate::core::subject::Subject;
use crate::explain::{Failure, Kind};
use crate::flows::enrol::{KeyWish, Terms};
use crate::flows::identity::{self, Paths};
use crate::flows::provision::{Provision, Provisioned, Request};
use crate::ports::Files;

/// Get this device's own identity with a claim, by fleet provisioning
///
/// Connects with the claim, asks for a certificate for a key that is made here, has the template make
/// the thing, proves the new identity by connecting with it, and puts it in its place in one step.
/// Run the same command again after whatever cut it off: it goes on from there.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The folder that becomes the identity [config: device.identity]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// The claim's folder, laid out as an identity's
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_CLAIM")]
    claim: Option<PathBuf>,
    /// The claim's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "claim_key")]
    claim_cert: Option<PathBuf>,
    /// The claim's private key, PEM
    #[arg(long, value_name = "FILE", requires = "claim_cert")]
    claim_key: Option<PathBuf>,
    /// The client id to ask with [default: claim- and 16 random digits]
    #[arg(long, value_name = "ID")]
    claim_client_id: Option<String>,
    /// Destroy the claim's certificate and key once the new identity is in its place
    #[arg(long)]
    forget_claim: bool,
    #[command(flatten)]
    fleet: FleetArgs,
    /// The subject of the certificate request
    #[arg(long, value_name = "SUBJECT", default_value = "CN=device")]
    subject: Subject,
    /// A private key that is there, PEM; it is copied into the identity
    #[arg(long, value_name = "FILE", conflicts_with = "key_from")]
    key: Option<PathBuf>,
    /// A certificate request that is there, PEM, for the key that --key names
    #[arg(long, value_name = "FILE", requires = "key")]
    csr: Option<PathBuf>,
    /// The client id of the new identity [default: its thing's name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    line: LineArgs,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Provisioned, Failure> {
        let machine = Machine::default();
        let request = self.request(settings, &machine)?;
        let flow = Provision {
            enrol: args_fleet::enrol(&machine),
            swap: &machine.swap,
            tidy: &machine.files,
        };
        let line = &request.terms.line;
        let mut endpoints = line.others.clone();
        endpoints.push(line.endpoint.clone());
        let mut witness = wire::witness(settings, &endpoints);
        Ok(flow.run(&request, &mut |text| note(text), &mut witness)?)
    }

    fn request(&self, settings: &Settings, machine: &Machine) -> Result<Request, Failure> {
        let configured = || {
            let folder = settings.file.device.identity.clone()?;
            Some(in_project(settings, folder))
        };
        let folder = self.identity.clone().or_else(configured);
        let folder = folder.ok_or_else(|| missing("identity's folder", "--identity DIR"))?;
        let claim = self.claim_paths()?;
        // After success the claim may be gone already; then nobody asks with it either.
        let asker = identity::load(&machine.files, &claim);
        let is_done = machine.files.exists(&folder.join(bundle::CERTIFICATE));
        let asker = match asker {
            Err(_) if is_done => identity::load(&machine.files, &Paths::in_folder(&folder))?,
            other => other?,
        };
        let template = self.fleet.template.clone();
        let template = template.ok_or_else(|| missing("template", "--template NAME"))?;
        let forget = if self.forget_claim {
            [Some(claim.certificate), Some(claim.key), claim.chain]
                .into_iter()
                .flatten()
                .collect()
        } else {
            Vec::new()
        };
        Ok(Request {
            folder,
            key: self.key_wish(machine)?,
            terms: Terms {
                line: self.line.line(settings, machine)?,
                asker,
                template,
                parameters: self.fleet.parameters()?,
                format: self.fleet.payload.into(),
                client_id: self.client_id.clone(),
            },
            claim_client_id: self.claim_client_id.clone(),
            forget,
            start_over: self.fleet.start_over,
        })
    }

    fn claim_paths(&self) -> Result<Paths, Failure> {
        match (&self.claim_cert, &self.claim_key, &self.claim) {
            (Some(certificate), Some(key), _) => Ok(Paths {
                key: key.clone(),
                certificate: certificate.clone(),
                chain: None,
                ca: None,
            }),
            (_, _, Some(folder)) => Ok(Paths::in_folder(folder)),
            _ => Err(missing("claim", "--claim DIR")),
        }
    }

    fn key_wish(&self, machine: &Machine) -> Result<KeyWish, Failure> {
        let subject = self.subject.clone();
        let Some(path) = &self.key else {
            return Ok(match self.fleet.key_from {
                KeyFrom::Cloud => KeyWish::Service,
                KeyFrom::Device => KeyWish::Here {
                    algorithm: self.fleet.curve.into(),
                    subject,
                },
            });
        };
        let key: PrivateKey = identity::key(&machine.files, path)?;
        let csr_pem = match &self.csr {
            None => None,
            Some(path) => {
                let text = machine.files.read(path, pem::MAX_BYTES as u64)?;
                Some(String::from_utf8_lossy(&text).into_owned())
            }
        };
        Ok(KeyWish::Given {
            key,
            csr_pem,
            subject,
        })
    }
}

fn missing(what: &str, flag: &str) -> Failure {
    Failure::new(
        Kind::Usage,
        "device.missing-input",
        format!("no {what} was named"),
    )
    .hint(format!("name it with {flag}"))
}

impl Report for Provisioned {}

impl fmt::Display for Provisioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.display();
        if self.already {
            write!(f, "there is an identity in {folder} already")?;
        } else {
            write!(f, "provisioned: the identity is in {folder}")?;
        }
        write!(f, "\n  certificate  {}", self.certificate_id)?;
        for (what, value) in [
            ("thing", &self.told.thing_name),
            ("client id", &self.told.client_id),
            ("template", &self.told.template),
        ] {
            if let Some(value) = value {
                write!(f, "\n  {what:<11}  {value}")?;
            }
        }
        match &self.told.device_configuration {
            Some(all) => {
                for (name, value) in all {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    write!(f, "\n  {name:<11}  {text}")?;
                }
            }
            None if !self.already => f.write_str(
                "\n  the template's answer was lost, and with it the device's configuration",
            )?,
            None => {}
        }
        orphans(f, self.unanswered, self.given_up.len())?;
        if self.claim_forgotten {
            f.write_str("\n  the claim's files are destroyed")?;
        }
        Ok(())
    }
}

/// Certificates that may be left at the target.
pub(super) fn orphans(f: &mut fmt::Formatter<'_>, unanswered: u32, given_up: usize) -> fmt::Result {
    if unanswered == 0 && given_up == 0 {
        return Ok(());
    }
    write!(
        f,
        "\n  left over    {unanswered} asked for without an answer, {given_up} given up: never \
         registered, so AWS IoT deletes what it issued after an hour"
    )
}
