//! Target → control plane: the sandbox (a running one, or one at an address of its own) or AWS.

use std::fmt;

use crate::cli::args::Target;
use crate::cli::settings::Settings;
use crate::core::ids::Place;
use crate::effects::aws::{AwsAccess, AwsControlPlane};
use crate::explain::{Failure, Kind};
use crate::ports::cloud::ControlPlane;

/// A control plane, and what reports call it.
pub(in crate::cli) struct Connected {
    /// The control plane.
    pub(in crate::cli) plane: Box<dyn ControlPlane>,
    /// Where it is.
    pub(in crate::cli) target: TargetReport,
}

/// Where a control-plane command went. Part of every such report.
#[derive(Clone, Debug, serde::Serialize)]
pub(in crate::cli) struct TargetReport {
    /// `sandbox` or `aws`.
    pub(in crate::cli) kind: Target,
    /// How it was reached.
    pub(in crate::cli) reached: Reached,
    /// Account and Region.
    #[serde(flatten)]
    pub(in crate::cli) place: Place,
    /// The control plane's URL, where it is not AWS's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) url: Option<String>,
}

/// How a control plane was reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Reached {
    /// AWS's own address.
    Aws,
    /// A URL that the user gave.
    EndpointUrl,
}

impl fmt::Display for TargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { account, region } = &self.place;
        let name = match self.kind {
            Target::Sandbox => "sandbox",
            Target::Aws => "AWS",
        };
        write!(f, "{name} (account {account}, {region}")?;
        match (self.reached, &self.url) {
            (_, Some(url)) => write!(f, ", at {url})"),
            (_, None) => f.write_str(")"),
        }
    }
}

impl TargetReport {
    /// Refuses a change of AWS that nobody has confirmed; the sandbox is there to be changed.
    pub(in crate::cli) fn confirm(&self, yes: bool, what: &str) -> Result<(), Failure> {
        if yes || self.kind == Target::Sandbox {
            return Ok(());
        }
        let Place { account, region } = &self.place;
        let message = format!("this would {what} in AWS account {account}, Region {region}");
        Err(Failure::new(Kind::Refused, "target.confirm", message)
            .hint("if that is the right place, run it again with --yes"))
    }
}

/// The control plane that the settings point at.
pub(in crate::cli) fn connect(settings: &Settings) -> Result<Connected, Failure> {
    match (settings.target, &settings.endpoint_url) {
        (Target::Aws, _) => connect_aws(settings),
        (Target::Sandbox, Some(url)) => connect_url(settings, url),
        (Target::Sandbox, None) => Err(Failure::new(
            Kind::Unavailable,
            "sandbox.not-running",
            "no sandbox runs here",
        )),
    }
}

fn connect_aws(settings: &Settings) -> Result<Connected, Failure> {
    let plane = AwsControlPlane::aws(&AwsAccess {
        region: settings.region.clone(),
        profile: settings.profile.clone(),
        endpoint_url: settings.endpoint_url.clone(),
    })?;
    let target = TargetReport {
        kind: Target::Aws,
        reached: match settings.endpoint_url {
            Some(_) => Reached::EndpointUrl,
            None => Reached::Aws,
        },
        place: plane.place()?,
        url: settings.endpoint_url.clone(),
    };
    let plane = Box::new(plane);
    Ok(Connected { plane, target })
}

fn connect_url(settings: &Settings, url: &str) -> Result<Connected, Failure> {
    let place = settings.sandbox_place()?;
    let plane = AwsControlPlane::sandbox(&place, url, &format!("the sandbox at {url}"))?;
    let target = TargetReport {
        kind: Target::Sandbox,
        reached: Reached::EndpointUrl,
        place,
        url: Some(url.to_owned()),
    };
    let plane = Box::new(plane);
    Ok(Connected { plane, target })
}
