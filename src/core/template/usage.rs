//! Who runs a template: the three differ in what a template may hold.

use std::fmt;

use super::{Body, CERTIFICATE_PREFIX, Template, TemplateKind, Value};

/// Who runs a template.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub enum Usage {
    /// AWS IoT, when a device connects for the first time. Every declared parameter is one of the
    /// certificate's, and must have a value.
    #[serde(rename = "JITP")]
    Jitp,
    /// AWS IoT, when a device asks for it over MQTT. The device gives the parameters, AWS IoT the
    /// certificate's id.
    #[serde(rename = "FLEET_PROVISIONING")]
    FleetProvisioning,
    /// `RegisterThing` and bulk registration: the caller gives the parameters, and the certificate
    /// as a request, a PEM or an id.
    RegisterThing,
}

impl Usage {
    /// As reports name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jitp => TemplateKind::Jitp.as_str(),
            Self::FleetProvisioning => TemplateKind::FleetProvisioning.as_str(),
            Self::RegisterThing => "RegisterThing",
        }
    }

    /// Whether Mappings, DeviceConfiguration and functions are documented for it.
    pub fn has_functions(self) -> bool {
        self == Self::FleetProvisioning
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<TemplateKind> for Usage {
    fn from(kind: TemplateKind) -> Self {
        match kind {
            TemplateKind::Jitp => Self::Jitp,
            TemplateKind::FleetProvisioning => Self::FleetProvisioning,
        }
    }
}

impl Template {
    /// What a template is written for, by what it declares: JITP when that is nothing but what AWS
    /// IoT fills in from a certificate's subject; `RegisterThing` when the certificate is given as a
    /// request, a PEM, or an id of the caller's.
    pub fn usage(&self) -> Usage {
        let certificate = self.resources.iter().find_map(|one| match &one.body {
            Body::Certificate(body) => Some(body),
            _ => None,
        });
        let own_id = |value: &Value| match value {
            Value::Ref(name) => !name.starts_with(CERTIFICATE_PREFIX),
            _ => false,
        };
        let by_caller = certificate.is_some_and(|body| {
            let id = body.id.as_ref();
            body.csr.is_some() || body.pem.is_some() || id.is_some_and(|id| own_id(&id.value))
        });
        let id = format!("{CERTIFICATE_PREFIX}Id");
        let mut names = self.parameters.keys();
        let all_filled = names.all(|name| name.starts_with(CERTIFICATE_PREFIX));
        let of_subject = self.parameters.keys().any(|name| *name != id);
        match (by_caller, all_filled && of_subject) {
            (true, _) => Usage::RegisterThing,
            (false, true) => Usage::Jitp,
            (false, false) => Usage::FleetProvisioning,
        }
    }
}
