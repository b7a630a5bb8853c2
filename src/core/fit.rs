//! Whether a device's draft will pass its provisioning template, asked before it is signed.

use crate::core::ids::CertificateId;
use crate::core::subject::{ATTRIBUTES, Subject};
use crate::core::template::{RenderError, Template, TemplateKind, jitp_parameters};
use crate::explain::{Explain, Kind};

/// What AWS IoT would refuse at the first connect, found now.
///
/// # Errors
/// `template.parameter-missing` with every parameter that has neither a value in the subject nor a
/// default; `template.*` when the template cannot be filled in with this subject.
pub fn fits(template: &Template, subject: &Subject) -> Result<(), FitError> {
    // The certificate's id is not known before it is signed; any id has the right form.
    let values = jitp_parameters(subject, &CertificateId::of_der(b""));
    let missing: Vec<String> = template
        .missing_parameters(&values)
        .into_iter()
        .map(described)
        .collect();
    if !missing.is_empty() {
        return Err(FitError::Missing {
            subject: subject.to_string(),
            missing,
        });
    }
    template
        .render(TemplateKind::Jitp, &values)
        .map(|_| ())
        .map_err(|source| FitError::Render {
            subject: subject.to_string(),
            source,
        })
}

fn described(parameter: &str) -> String {
    let short = parameter
        .strip_prefix("AWS::IoT::Certificate::")
        .and_then(|name| ATTRIBUTES.iter().find(|(.., jitp)| *jitp == Some(name)))
        .map(|(short, ..)| *short);
    match short {
        Some(short) => format!("{parameter} (subject attribute {short})"),
        None => format!("{parameter} (a certificate's subject cannot give it)"),
    }
}

/// A draft that its template would turn down.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Parameters without a value.
    #[error("the template needs {}, which the subject `{subject}` does not give", missing.join(", "))]
    Missing {
        /// The subject.
        subject: String,
        /// The parameters.
        missing: Vec<String>,
    },
    /// Cannot be filled in.
    #[error("the template cannot be filled in from the subject `{subject}`")]
    Render {
        /// The subject.
        subject: String,
        /// Why.
        #[source]
        source: RenderError,
    },
}

impl Explain for FitError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "template.parameter-missing",
            Self::Render { source, .. } => source.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "add the attribute to --subject, or give the parameter a Default in the template"
                    .into(),
            ),
            Self::Render { source, .. } => source.hint(),
        }
    }
}
