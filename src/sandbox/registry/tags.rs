//! Tags of what can be tagged.

use std::collections::BTreeMap;

use super::entities::Tags;
use super::state::State;
use super::{ApiError, ErrorName, Registry};
use crate::core::ids::Place;

/// The most tags of a resource, and the longest key and value (AWS's tagging rules).
const MOST: usize = 50;
const KEY: usize = 128;
const VALUE: usize = 256;

impl Registry {
    /// `TagResource`: adds tags, and replaces those of the same key.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `InvalidRequestException`, `LimitExceededException` for more
    /// than 50.
    pub fn tag(&mut self, arn: &str, tags: BTreeMap<String, String>) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            check_resource(state, place, arn)?;
            for (key, value) in &tags {
                check(key, value)?;
            }
            let mut all = state.tags.get(arn).cloned().unwrap_or_default();
            all.0.extend(tags);
            if all.0.len() > MOST {
                let message = format!("a resource has at most {MOST} tags");
                return Err(ApiError::new(ErrorName::LimitExceeded, message));
            }
            if !all.0.is_empty() {
                state.tags.put(arn, all);
            }
            Ok(())
        })
    }

    /// `UntagResource`; a key that is not there is no error.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `InvalidRequestException`.
    pub fn untag(&mut self, arn: &str, keys: &[String]) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            check_resource(state, place, arn)?;
            if let Some(Tags(all)) = state.tags.change(arn) {
                all.retain(|key, _| !keys.contains(key));
            }
            Ok(())
        })
    }

    /// `ListTagsForResource`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `InvalidRequestException`.
    pub fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>, ApiError> {
        check_resource(&self.state, &self.place, arn)?;
        let tags = self.state.tags.get(arn);
        Ok(tags.map(|Tags(all)| all.clone()).unwrap_or_default())
    }
}

fn check(key: &str, value: &str) -> Result<(), ApiError> {
    let allowed = |text: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
    };
    let key_fits = (1..=KEY).contains(&key.chars().count()) && allowed(key);
    if !key_fits || key.starts_with("aws:") {
        let message = "a tag's key has 1 to 128 letters, digits, spaces or `_.:/=+-@`, and does \
                       not begin with `aws:`";
        return Err(ApiError::invalid(message));
    }
    if value.chars().count() > VALUE || !allowed(value) {
        let message = format!(
            "the value of tag `{key}` is longer than {VALUE} characters, or holds others than \
             letters, digits, spaces or `_.:/=+-@`"
        );
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

/// Whether the ARN is of a resource that is here, and of a kind that can be tagged.
fn check_resource(state: &State, place: &Place, arn: &str) -> Result<(), ApiError> {
    let named = |kind: &str| arn.strip_prefix(&place.arn(kind, ""));
    let found = if let Some(name) = named("thinggroup") {
        state.groups.get(name).is_some()
    } else if let Some(name) = named("thingtype") {
        state.types.get(name).is_some()
    } else if let Some(name) = named("billinggroup") {
        state.billing_groups.get(name).is_some()
    } else if let Some(name) = named("provisioningtemplate") {
        state.templates.get(name).is_some()
    } else if let Some(name) = named("policy") {
        state.policies.get(name).is_some()
    } else if let Some(name) = named("cacert") {
        state.cas.get(name).is_some()
    } else {
        let shown: String = arn.chars().take(120).collect();
        return Err(ApiError::invalid(format!(
            "`{shown}` is not the ARN of something of this account and Region that takes tags"
        )));
    };
    if found {
        Ok(())
    } else {
        Err(ApiError::not_found("the resource", arn))
    }
}
