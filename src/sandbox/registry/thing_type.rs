//! The end of thing types.

use super::{ApiError, Registry};
use crate::core::ids::ThingName;
use crate::core::time::{Span, UtcTime};

/// How long after its deprecation a type can be deleted (API reference, `DeleteThingType`).
const WAIT: Span = Span::seconds(300);

impl Registry {
    /// `DeprecateThingType`: no thing can get it any more. With `undo`, they can again.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn deprecate_type(
        &mut self,
        name: &ThingName,
        undo: bool,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let entry = state.types.change(name.as_str());
            let entry = entry.ok_or_else(|| ApiError::not_found("thing type", name))?;
            entry.deprecated = if undo {
                None
            } else {
                entry.deprecated.or(Some(now))
            };
            entry.dates.modified = now;
            Ok(())
        })
    }

    /// `DeleteThingType`.
    ///
    /// # Errors
    /// `InvalidRequestException` while it has things, is not deprecated, or has been for less than
    /// five minutes; `ResourceNotFoundException`.
    pub fn delete_type(&mut self, name: &ThingName, now: UtcTime) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let entry = state.types.get(name.as_str());
            let entry = entry.ok_or_else(|| ApiError::not_found("thing type", name))?;
            let Some(since) = entry.deprecated else {
                let message = format!("thing type {name} must be deprecated before it is deleted");
                return Err(ApiError::invalid(message));
            };
            if now < since.plus(WAIT) {
                let message = format!(
                    "thing type {name} was deprecated at {since}; it can be deleted five minutes \
                     later"
                );
                return Err(ApiError::invalid(message));
            }
            let mut things = state.things.all();
            if let Some(thing) = things.find(|thing| thing.type_name.as_ref() == Some(name)) {
                let message = format!("thing type {name} is the type of thing {}", thing.name);
                return Err(ApiError::invalid(message));
            }
            drop(things);
            state.tags.remove(&place.arn("thingtype", name));
            state.types.remove(name.as_str());
            Ok(())
        })
    }
}
