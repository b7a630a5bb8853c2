//! Documents of the policies that a template calls by name, as a flag.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::core::ids::PolicyName;
use crate::explain::{Failure, Kind};
use crate::flows::template_register::policies_named;

/// Policies that the template calls by name.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct PolicyArgs {
    /// The document of a policy that the template calls by name; NAME may be left out when it calls
    /// one
    #[arg(long, value_name = "[NAME=]FILE")]
    policy: Vec<String>,
}

impl PolicyArgs {
    /// Reads them.
    pub(super) fn documents(&self, body: &str) -> Result<BTreeMap<PolicyName, String>, Failure> {
        let mut documents = BTreeMap::new();
        for given in &self.policy {
            let (name, path) = match given.split_once('=') {
                Some((name, path)) => (name.parse()?, PathBuf::from(path)),
                None => (only_one(body)?, PathBuf::from(given)),
            };
            documents.insert(name, super::read_text(&path)?);
        }
        Ok(documents)
    }
}

fn only_one(body: &str) -> Result<PolicyName, Failure> {
    let mut named = policies_named(body);
    named.sort();
    named.dedup();
    if named.len() == 1 {
        return Ok(named.remove(0));
    }
    let message = match named.len() {
        0 => "--policy names a document, and the template calls no policy by name".to_owned(),
        _ => "the template calls several policies by name".to_owned(),
    };
    Err(
        Failure::new(Kind::Usage, "template-register.policy-name", message)
            .hint("write --policy NAME=FILE"),
    )
}
