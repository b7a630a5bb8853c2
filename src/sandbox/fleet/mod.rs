//! Fleet provisioning: a device with a claim asks over MQTT for a certificate of its own, and to be
//! provisioned with it by a template. Source: developer guide "Device provisioning MQTT API".

mod hook;

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

pub use hook::{HookTarget, Hooks};

use super::Shared;
use super::faults::FaultName;
use super::keypair::KeyPair;
use super::logs::{Record, Stage, Why};
use super::provisioning;
use super::registry::{
    ApiError, CertificateEntry, ErrorName, Provisioned, Registry, Request as Wanted, fleet_code,
};
use super::service::{Answer, Request, Service};
use crate::core::ids::{CertificateId, TemplateName};
use crate::core::payload::Format;
use crate::core::template::{MAX_PARAMETER_VALUE, Plan, Template, TemplateKind};

/// The most parameters of one request; far more than a template can use.
const MAX_PARAMETERS: usize = 256;

/// The service behind the provisioning topics.
pub(super) struct Fleet {
    shared: Shared,
}

/// What a topic asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Operation {
    Keys,
    Csr,
    Provision(TemplateName),
}

/// A request that is refused, as AWS IoT tells it.
#[derive(Debug)]
struct Rejection {
    status: u16,
    code: &'static str,
    message: String,
    why: Box<Why>,
}

impl Rejection {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let rule = format!("fleet.{code}");
        Self {
            status,
            code,
            message: message.into(),
            why: Box::new(Why::new(Stage::Provisioning, rule, remedy(code))),
        }
    }

    /// Denied by this rule.
    fn denied(rule: &str, message: impl Into<String>, remedy: &str) -> Self {
        Self::new(403, "AccessDenied", message).because(Why::new(Stage::Provisioning, rule, remedy))
    }

    fn because(self, why: Why) -> Self {
        Self {
            why: Box::new(why),
            ..self
        }
    }
}

/// What mends a request that is refused with this code.
fn remedy(code: &str) -> &'static str {
    match code {
        "InvalidCertificateOwnershipToken" => {
            "ask for a certificate again: a token is good for an hour and one provisioning"
        }
        "InvalidPayload" => "send one map, as JSON or CBOR as the topic says",
        "InvalidCsr" => {
            "send a signing request in PEM, with a P-256 or P-384 key or RSA of 2048 bits and more"
        }
        "InvalidParameters" => "send what the template's Parameters name, each as a text",
        "ResourceNotFound" => "create what is missing, or name what is there",
        "ResourceConflict" => "change the template's OverrideSettings, or what is in its way",
        "InternalError" => "look at the disk of the state folder",
        _ => "change the request as the details say",
    }
}

impl From<ApiError> for Rejection {
    fn from(error: ApiError) -> Self {
        let (status, code) = fleet_code(error.name);
        Self::new(status, code, error.message)
    }
}

/// The operation and the format that a topic names.
fn parse_topic(topic: &str) -> Option<(Operation, Format)> {
    let (rest, format) = topic.rsplit_once('/')?;
    let format = Format::parse(format)?;
    let operation = match rest {
        "$aws/certificates/create" => Operation::Keys,
        "$aws/certificates/create-from-csr" => Operation::Csr,
        other => {
            let name = other
                .strip_prefix("$aws/provisioning-templates/")?
                .strip_suffix("/provision")?;
            Operation::Provision(name.parse().ok()?)
        }
    };
    Some((operation, format))
}

impl Service for Fleet {
    fn serves(&self, topic: &str) -> bool {
        parse_topic(topic).is_some()
    }

    fn answer(&self, request: &Request) -> Vec<Answer> {
        let Some((operation, format)) = parse_topic(&request.topic) else {
            return Vec::new();
        };
        let mut about = About::default();
        let outcome = self.run(&operation, format, request, &mut about);
        self.record(&operation, request, about, &outcome);
        let (ending, body) = match outcome {
            Ok(body) => ("accepted", body),
            Err(rejection) => ("rejected", rejected(&rejection)),
        };
        vec![Answer {
            topic: format!("{}/{ending}", request.topic),
            payload: format.encode(&body),
        }]
    }
}

fn rejected(rejection: &Rejection) -> Value {
    json!({
        "statusCode": rejection.status,
        "errorCode": rejection.code,
        "errorMessage": rejection.message,
    })
}

/// What the record of a request says beside its outcome.
#[derive(Default)]
struct About {
    certificate: Option<CertificateId>,
    details: Option<String>,
}

impl Fleet {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        let registry = &self.shared.registry;
        registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        operation: &Operation,
        format: Format,
        request: &Request,
        about: &mut About,
    ) -> Result<Value, Rejection> {
        let now = self.shared.clock.now();
        if !self.registry().may_claim(request.certificate.id(), now) {
            return Err(Rejection::denied(
                "fleet.claim-ended",
                "the certificate is not active, or its claim has ended",
                "ask for a new claim (CreateProvisioningClaim): it is good for five minutes and its \
                 own template",
            ));
        }
        let body = format
            .decode(&request.payload)
            .map_err(|why| Rejection::new(400, "InvalidPayload", why))?;
        match operation {
            Operation::Keys => self.create_keys(about),
            Operation::Csr => self.create_from_csr(&body, about),
            Operation::Provision(template) => self.provision(template, &body, request, about),
        }
    }

    fn create_keys(&self, about: &mut About) -> Result<Value, Rejection> {
        let pair = KeyPair::generate()?;
        let mut answer = self.entitle(&Wanted::for_key(pair.public.clone()), about)?;
        answer["privateKey"] = pair.private_pem.as_str().into();
        Ok(answer)
    }

    fn create_from_csr(
        &self,
        body: &Map<String, Value>,
        about: &mut About,
    ) -> Result<Value, Rejection> {
        let csr = text(body, "certificateSigningRequest")?.unwrap_or_default();
        let wanted =
            Wanted::parse(csr).map_err(|error| Rejection::new(400, "InvalidCsr", error.message))?;
        self.entitle(&wanted, about)
    }

    fn entitle(&self, wanted: &Wanted, about: &mut About) -> Result<Value, Rejection> {
        let made = self.registry().entitle(wanted, self.shared.clock.now())?;
        about.certificate = Some(made.certificate.id().clone());
        Ok(json!({
            "certificateId": made.certificate.id(),
            "certificatePem": made.certificate.to_pem(),
            "certificateOwnershipToken": made.token,
        }))
    }

    fn provision(
        &self,
        name: &TemplateName,
        body: &Map<String, Value>,
        request: &Request,
        about: &mut About,
    ) -> Result<Value, Rejection> {
        let token = text(body, "certificateOwnershipToken")?.unwrap_or_default();
        if token.is_empty() {
            return Err(token_refused(
                "Certificate ownership token cannot be empty.",
            ));
        }
        let mut parameters = parameters(body)?;
        let (template, hook, arn) = self.template(name)?;
        let entry = self
            .registry()
            .entitled(token, self.shared.clock.now())
            .cloned()
            .ok_or_else(|| {
                token_refused("The certificate ownership token is unknown, used or has expired.")
            })?;
        about.certificate = Some(entry.id.clone());
        if let Some(hook) = hook {
            let asked = asked(request, &entry, &arn, &parameters);
            let allowed = self.shared.hooks.ask(&hook, &asked);
            parameters.extend(allowed.map_err(hook_denied)?);
        }
        self.meet_faults()?;
        parameters.insert("AWS::IoT::Certificate::Id".into(), entry.id.to_string());
        let plan = template
            .render(TemplateKind::FleetProvisioning, &parameters)
            .map_err(|error| {
                Rejection::new(400, "InvalidParameters", error.to_string())
                    .because(provisioning::why_not_rendered(&error))
            })?;
        let done = self.run_plan(token, &plan)?;
        about.details = Some(told(&done));
        let mut answer = json!({ "deviceConfiguration": plan.device_configuration });
        if let Some(thing) = &done.thing {
            answer["thingName"] = thing.as_str().into();
        }
        Ok(answer)
    }

    fn run_plan(&self, token: &str, plan: &Plan) -> Result<Provisioned, Rejection> {
        let now = self.shared.clock.now();
        let mut registry = self.registry();
        let done = registry.provision_entitled(token, plan, now);
        done.map_err(|error| {
            let why = provisioning::why_not_run(&error, plan, &registry);
            Rejection::from(error).because(why)
        })
    }

    /// A template that runs late, or not at all.
    fn meet_faults(&self) -> Result<(), Rejection> {
        let delay = self.shared.faults.span(FaultName::TemplateDelay);
        if !delay.is_zero() {
            self.shared.clock.sleep(delay);
        }
        if self.shared.faults.has(FaultName::TemplateFail) {
            let (message, why) = provisioning::on_purpose();
            return Err(Rejection::new(500, "InternalError", message).because(why));
        }
        Ok(())
    }

    /// The template's default version, its hook and its ARN.
    fn template(
        &self,
        name: &TemplateName,
    ) -> Result<(Template, Option<Value>, String), Rejection> {
        let registry = self.registry();
        let entry = registry
            .template(name)
            .filter(|entry| entry.kind == TemplateKind::FleetProvisioning)
            .ok_or_else(|| {
                let message = format!("there is no fleet provisioning template {name}");
                Rejection::from(ApiError::new(ErrorName::ResourceNotFound, message))
            })?;
        if !entry.enabled {
            let message = format!("template {name} is not enabled");
            let remedy = "enable it (`aws iot update-provisioning-template --enabled`)";
            return Err(Rejection::denied(
                "fleet.template-disabled",
                message,
                remedy,
            ));
        }
        let text = entry.default_version().map_or("", |version| &version.body);
        let template = Template::parse(text)
            .map_err(|error| Rejection::new(400, "InvalidParameters", error.to_string()))?;
        let arn = registry.place().arn("provisioningtemplate", name);
        Ok((template, entry.hook.clone(), arn))
    }

    fn record(
        &self,
        operation: &Operation,
        request: &Request,
        about: About,
        outcome: &Result<Value, Rejection>,
    ) {
        let (event, metric) = match operation {
            Operation::Keys => ("GetDeviceCredentials", "CreateKeysAndCertificateFailed"),
            Operation::Csr => ("GetDeviceCredentials", "CreateCertificateFromCsrFailed"),
            Operation::Provision(_) => ("ProvisionDevice", "RegisterThingFailed"),
        };
        let mut record = match outcome {
            Ok(_) => Record::success(event),
            Err(rejection) => {
                let details = format!("{}: {}", rejection.code, rejection.message);
                let mut why = rejection.why.clone().of(&request.certificate);
                if let Operation::Provision(template) = operation {
                    why.template = Some(template.to_string());
                }
                Record::failure(event, metric, details).why(why)
            }
        };
        record.details = record.details.or(about.details);
        let claim = request.certificate.id().as_str();
        record = record.of(request.source, Some(claim), Some(&request.client_id));
        record.device_certificate_id = about.certificate.map(|id| id.to_string());
        if let Operation::Provision(template) = operation {
            record.provisioning_template_name = Some(template.to_string());
        }
        self.shared.logs.write(record);
    }
}

fn hook_denied(message: String) -> Rejection {
    let remedy = "see what the pre-provisioning hook says of this device";
    Rejection::denied("fleet.hook", message, remedy)
}

fn token_refused(message: &str) -> Rejection {
    Rejection::new(400, "InvalidCertificateOwnershipToken", message)
}

fn told(done: &Provisioned) -> String {
    match (&done.thing, done.thing_created) {
        (Some(thing), true) => format!("thing `{thing}` created"),
        (Some(thing), false) => format!("thing `{thing}` was there"),
        (None, _) => "no thing".to_owned(),
    }
}

/// The event that a hook gets.
fn asked(
    request: &Request,
    entry: &CertificateEntry,
    template: &str,
    parameters: &BTreeMap<String, String>,
) -> Value {
    json!({
        "claimCertificateId": request.certificate.id(),
        "certificateId": entry.id,
        "certificatePem": &*entry.pem,
        "templateArn": template,
        "clientId": request.client_id,
        "parameters": parameters,
    })
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Rejection> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => {
            let message = format!("{name} is not a string");
            Err(Rejection::new(400, "InvalidPayload", message))
        }
    }
}

fn parameters(body: &Map<String, Value>) -> Result<BTreeMap<String, String>, Rejection> {
    let wrong = |message: String| Rejection::new(400, "InvalidParameters", message);
    let given = match body.get("parameters") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong("parameters is not a map".into())),
    };
    if given.len() > MAX_PARAMETERS {
        return Err(wrong(format!("more than {MAX_PARAMETERS} parameters")));
    }
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) if text.chars().count() <= MAX_PARAMETER_VALUE => {
            Ok((name.clone(), text.clone()))
        }
        Value::String(_) => Err(wrong(format!(
            "the value of {name} is longer than {MAX_PARAMETER_VALUE} characters"
        ))),
        _ => Err(wrong(format!("the value of {name} is not a string"))),
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
