//! Flags that name policies, and what is known of the device that they are asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::policy::read_text;
use super::settings::Settings;
use super::wire::factory::Factory;
use super::wire::target::{Connected, TargetReport, connect};
use crate::core::cert::Certificate;
use crate::core::ids::{AccountId, Place, PolicyName, ThingName};
use crate::core::json::Places;
use crate::core::policy::simulate::{Device, DeviceThing};
use crate::core::policy::{Document, NamedPolicy, Piece};
use crate::explain::{Failure, Kind};
use crate::ports::Files;
use crate::ports::cloud::AttachedThing;

/// The most bytes of a certificate file.
const MAX_CERTIFICATE: u64 = 1 << 20;

/// Which policies.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct PolicyArgs {
    /// A policy document, JSON; `-` is stdin; may be given several times
    #[arg(long, value_name = "FILE|-")]
    policy: Vec<PathBuf>,
    /// A policy of the target; may be given several times
    #[arg(long, value_name = "NAME")]
    policy_name: Vec<PolicyName>,
    /// The policies and things of the certificate at the target, as they stand there, with those of
    /// the things' groups
    #[arg(long, requires = "cert")]
    attached: bool,
}

/// Which device asks.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct DeviceArgs {
    /// The device's certificate, PEM or DER
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The client id it connects with [default: the thing's name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The thing that its certificate is attached to
    #[arg(long, value_name = "NAME", conflicts_with = "attached")]
    thing: Option<ThingName>,
    /// The certificate is not attached to it
    #[arg(long, requires = "thing")]
    not_attached: bool,
    /// Attached exclusively: the client id need not be the thing's name
    #[arg(long, requires = "thing", conflicts_with = "not_attached")]
    exclusive: bool,
    /// The thing's type
    #[arg(long, value_name = "NAME", requires = "thing")]
    thing_type: Option<ThingName>,
    /// An attribute of the thing; may be given several times
    #[arg(long, value_name = "NAME=VALUE", requires = "thing")]
    attribute: Vec<String>,
    /// Where it connects from
    #[arg(long, value_name = "IP")]
    source_ip: Option<IpAddr>,
    /// Another condition key, such as aws:SourceVpc; given several times, it has several values
    #[arg(long, value_name = "KEY=VALUE")]
    context: Vec<String>,
    /// The account of bare names [default: that of the policies; --region names the Region]
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
}

/// A policy with its text.
pub(super) struct Loaded {
    pub(super) policy: NamedPolicy,
    pub(super) text: String,
    /// Its ARN, where it has one.
    pub(super) arn: Option<String>,
}

/// What the flags name, gathered.
pub(super) struct Gathered {
    /// The policies that are asked.
    pub(super) policies: Vec<Loaded>,
    /// The policies of thing groups; [`DeviceThing::policies`] has them too.
    pub(super) of_groups: Vec<Loaded>,
    pub(super) device: Device,
    pub(super) place: Place,
    pub(super) target: Option<TargetReport>,
}

impl Loaded {
    fn new(name: String, text: String, arn: Option<String>) -> Result<Self, Failure> {
        let document = Document::parse(&text).map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("`{name}`: {}", failure.message);
            Failure { message, ..failure }.hint(format!("`nameplate policy lint {name}` says more"))
        })?;
        let document = Arc::new(document);
        Ok(Self {
            policy: NamedPolicy { name, document },
            text,
            arn,
        })
    }

    /// Line and column of a path in its text.
    pub(super) fn place_of(&self, path: &str) -> (usize, usize) {
        Places::of(&self.text).find(path)
    }
}

/// Reads what the flags name.
pub(super) fn gather(
    policies: &PolicyArgs,
    device: &DeviceArgs,
    settings: &Settings,
) -> Result<Gathered, Failure> {
    if policies.policy.is_empty() && policies.policy_name.is_empty() && !policies.attached {
        let message = "no policy was named";
        return Err(Failure::new(Kind::Usage, "policy.none", message).hint(
            "name files with --policy, policies of the target with --policy-name, or use --attached",
        ));
    }
    let mut loaded = Vec::new();
    for path in &policies.policy {
        let name = path.display().to_string();
        loaded.push(Loaded::new(name, read_text(path)?, None)?);
    }
    let asks = policies.attached || !policies.policy_name.is_empty();
    let connected = if asks { Some(connect(settings)?) } else { None };
    let mut gathered = Gathered {
        place: device.place(settings, &loaded, connected.as_ref())?,
        device: device.device()?,
        policies: loaded,
        of_groups: Vec::new(),
        target: connected.as_ref().map(|one| one.target.clone()),
    };
    if let Some(connected) = &connected {
        for name in &policies.policy_name {
            gathered.policies.push(of_target(connected, name)?);
        }
        if policies.attached {
            gathered.attached(connected)?;
        }
    }
    Ok(gathered)
}

/// A policy's default version at the target.
fn of_target(connected: &Connected, name: &PolicyName) -> Result<Loaded, Failure> {
    let target = &connected.target;
    let Some(view) = connected.plane.get_policy(name)? else {
        let message = format!("there is no policy `{name}` in the {target}");
        return Err(Failure::new(Kind::Input, "policy.unknown", message)
            .hint("name a policy that is there, or a file with --policy"));
    };
    let arn = target.place.arn("policy", name);
    Loaded::new(name.to_string(), view.document, Some(arn))
}

impl Gathered {
    /// Adds what the certificate is attached to at the target.
    fn attached(&mut self, connected: &Connected) -> Result<(), Failure> {
        let Some(certificate) = &self.device.certificate else {
            return Ok(());
        };
        let plane = &connected.plane;
        let at = &connected.target.place;
        let arn = at.arn("cert", certificate.id());
        if plane.describe_certificate(certificate.id())?.is_none() {
            let message = format!(
                "the certificate {} is not registered in the {}",
                certificate.id().short(),
                connected.target
            );
            return Err(
                Failure::new(Kind::Input, "policy.certificate", message).hint(
                    "name the policies with --policy or --policy-name, and its thing with --thing",
                ),
            );
        }
        for name in plane.attached_policies(&arn)? {
            self.policies.push(of_target(connected, &name)?);
        }
        for attached in plane.things_of(&arn)? {
            let thing = self.thing(connected, &attached)?;
            self.device.things.push(thing);
        }
        if let ([thing], None) = (&self.device.things[..], &self.device.client_id) {
            self.device.client_id = Some(thing.name.clone());
        }
        Ok(())
    }

    /// A thing as it stands at the target, with the policies of its groups.
    fn thing(
        &mut self,
        connected: &Connected,
        attached: &AttachedThing,
    ) -> Result<DeviceThing, Failure> {
        let plane = &connected.plane;
        let view = plane.describe_thing(&attached.name)?;
        let (type_name, attributes) = view.map_or((None, BTreeMap::new()), |view| {
            (view.type_name, view.attributes)
        });
        let mut names: BTreeSet<PolicyName> = BTreeSet::new();
        for group in plane.groups_of(&attached.name)? {
            let arn = connected.target.place.arn("thinggroup", &group);
            names.extend(plane.attached_policies(&arn)?);
        }
        let mut policies = Vec::new();
        for name in names {
            let loaded = of_target(connected, &name)?;
            policies.push(loaded.policy.clone());
            self.of_groups.push(loaded);
        }
        Ok(DeviceThing {
            name: attached.name.to_string(),
            type_name,
            attributes,
            exclusive: attached.exclusive,
            policies,
        })
    }
}

impl DeviceArgs {
    fn device(&self) -> Result<Device, Failure> {
        let certificate = match &self.cert {
            Some(path) => {
                let bytes = Factory::disk().read(path, MAX_CERTIFICATE)?;
                Certificate::all_from_pem(&bytes)?.into_iter().next()
            }
            None => None,
        };
        let thing = self.thing.as_ref().filter(|_| !self.not_attached);
        let mut attributes = BTreeMap::new();
        for text in &self.attribute {
            let (name, value) = pair("--attribute", text)?;
            attributes.insert(name.to_owned(), value.to_owned());
        }
        let thing_of = |name: &ThingName| DeviceThing {
            name: name.to_string(),
            type_name: self.thing_type.as_ref().map(ToString::to_string),
            attributes,
            exclusive: self.exclusive,
            policies: Vec::new(),
        };
        let mut context: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for text in &self.context {
            let (key, value) = pair("--context", text)?;
            context.entry(key).or_default().push(value.to_owned());
        }
        let named = self.client_id.clone();
        Ok(Device {
            client_id: named.or(self.thing.as_ref().map(ToString::to_string)),
            certificate,
            things: thing.map(thing_of).into_iter().collect(),
            source_ip: self.source_ip,
            context: context
                .into_iter()
                .map(|(key, values)| (key.to_owned(), values))
                .collect(),
        })
    }

    /// Account and Region of bare names: flags, then the target's, then the policies', then the
    /// sandbox's.
    fn place(
        &self,
        settings: &Settings,
        policies: &[Loaded],
        connected: Option<&Connected>,
    ) -> Result<Place, Failure> {
        let base = match connected.map(|one| one.target.place.clone()) {
            Some(place) => place,
            None => match policies.iter().find_map(|one| written_place(&one.policy)) {
                Some(place) => place,
                None => settings.sandbox_place()?,
            },
        };
        let region = super::policy::region_flag(settings)?;
        Ok(Place {
            account: self.account.clone().unwrap_or(base.account),
            region: region.unwrap_or(base.region),
        })
    }
}

/// The account and Region that a policy's first whole ARN names.
fn written_place(policy: &NamedPolicy) -> Option<Place> {
    let statements = policy.document.statements().iter();
    let mut patterns = statements.flat_map(|statement| &statement.resources.patterns);
    patterns.find_map(|pattern| {
        let Some(Piece::Literal(start)) = pattern.pieces().first() else {
            return None;
        };
        let mut parts = start.splitn(6, ':').skip(3);
        let (region, account) = (parts.next()?, parts.next()?);
        parts.next()?;
        Some(Place {
            account: account.parse().ok()?,
            region: region.parse().ok().filter(|_| !region.is_empty())?,
        })
    })
}

fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| {
        let message = format!("{flag}: `{text}` is not NAME=VALUE");
        Failure::new(Kind::Usage, "policy.pair", message)
    })
}
