//! Signing a certificate that is wrong on purpose. Where the flaw lies in the certificate itself,
//! it is put into the draft; where it lies around it, another key or another CA is made and thrown
//! away.

use crate::core::cert::Certificate;
use crate::core::draft::{Draft, DraftSpec, IssuerView};
use crate::core::flaw::{Flaw, assemble};
use crate::core::key::{KeyAlgorithm, PublicKey};
use crate::core::subject::Subject;
use crate::flows::device_issue::{DeviceIssue, IssueError};
use crate::flows::issuer::Issuer;
use crate::ports::Signer;

/// The certificate of `spec` with `flaw` in it.
///
/// # Errors
/// `draft.*`, `key.*`, `signer.*`.
pub fn sign(
    issue: &DeviceIssue<'_>,
    flaw: Flaw,
    (spec, issuer): (&DraftSpec<'_>, &Issuer<'_>),
) -> Result<Certificate, IssueError> {
    let other = other_key(issue, flaw, spec.public_key)?;
    let spec = DraftSpec {
        public_key: other.as_ref().unwrap_or(spec.public_key),
        ..spec.clone()
    };
    if flaw == Flaw::WrongCa {
        let (signer, view) = stranger(issue)?;
        return spoilt(flaw, (&spec, &view), &*signer);
    }
    spoilt(flaw, (&spec, &issuer.view()?), issuer.signer)
}

fn spoilt(
    flaw: Flaw,
    (spec, view): (&DraftSpec<'_>, &IssuerView),
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    let draft = Draft::new(spec, view)?;
    let tbs = flaw.spoil(draft.tbs(), spec.purpose)?;
    let signature = flaw.spoil_signature(signer.sign(&tbs)?);
    Ok(assemble(&tbs, &signature)?)
}

/// A key that is not the one beside the certificate, when that is the flaw.
fn other_key(
    issue: &DeviceIssue<'_>,
    flaw: Flaw,
    own: &PublicKey,
) -> Result<Option<PublicKey>, IssueError> {
    if flaw != Flaw::WrongKey {
        return Ok(None);
    }
    let made = issue.keygen.generate(own.algorithm());
    let (_, public) = made.map_err(IssueError::Key)?;
    Ok(Some(public))
}

/// A CA that exists for one signature.
fn stranger(issue: &DeviceIssue<'_>) -> Result<(Box<dyn Signer>, IssuerView), IssueError> {
    let made = issue.keygen.generate(KeyAlgorithm::EcP256);
    let (key, public) = made.map_err(IssueError::Key)?;
    let subject = Subject::common_name("a CA that nobody knows");
    let view = IssuerView::self_signed(&subject, &public)?;
    let signer = (issue.signer_of)(&key).map_err(IssueError::Key)?;
    Ok((signer, view))
}
