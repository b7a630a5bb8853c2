//! Things, and the certificates attached to them.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, put};
use super::page::{Listing, TOKEN, page};
use super::{Operation, operation};
use crate::core::ids::{CertificateId, Place, ThingName};
use crate::sandbox::registry::{
    ApiError, AttachTo, AttributeChange, NewThing, Registry, Thing, ThingChange,
};

pub(super) const OPERATIONS: &[Operation] = &[
    operation("ListThings", MethodFilter::GET, "/things", list),
    operation("CreateThing", MethodFilter::POST, "/things/{name}", create),
    operation(
        "DescribeThing",
        MethodFilter::GET,
        "/things/{name}",
        describe,
    ),
    operation("UpdateThing", MethodFilter::PATCH, "/things/{name}", update),
    operation(
        "DeleteThing",
        MethodFilter::DELETE,
        "/things/{name}",
        delete,
    ),
    operation(
        "AttachThingPrincipal",
        MethodFilter::PUT,
        "/things/{name}/principals",
        attach,
    ),
    operation(
        "DetachThingPrincipal",
        MethodFilter::DELETE,
        "/things/{name}/principals",
        detach,
    ),
    operation(
        "ListThingPrincipals",
        MethodFilter::GET,
        "/things/{name}/principals",
        principals,
    ),
    operation(
        "ListThingPrincipalsV2",
        MethodFilter::GET,
        "/things/{name}/principals-v2",
        principals_v2,
    ),
    operation(
        "ListPrincipalThings",
        MethodFilter::GET,
        "/principals/things",
        things,
    ),
    operation(
        "ListPrincipalThingsV2",
        MethodFilter::GET,
        "/principals/things-v2",
        things_v2,
    ),
];

/// The header that names a principal.
const PRINCIPAL: &str = "x-amzn-principal";

fn create(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let payload = call.inner("attributePayload")?;
    let request = NewThing {
        name: call.label("name")?,
        type_name: call.name("thingTypeName")?,
        attributes: match payload {
            Some(payload) => payload.texts("attributes")?,
            None => std::collections::BTreeMap::new(),
        },
        billing_group: call.name("billingGroupName")?,
    };
    let thing = registry.create_thing(request, call.now)?;
    Ok(json!({
        "thingName": thing.name,
        "thingArn": registry.place().arn("thing", &thing.name),
        "thingId": thing.id,
    }))
}

fn find<'a>(registry: &'a Registry, name: &ThingName) -> Result<&'a Thing, ApiError> {
    let found = registry.thing(name);
    found.ok_or_else(|| ApiError::not_found("thing", name))
}

fn show(place: &Place, thing: &Thing) -> Value {
    let mut one = json!({
        "thingName": thing.name,
        "thingArn": place.arn("thing", &thing.name),
        "attributes": thing.attributes,
        "version": thing.version,
    });
    let type_name = thing.type_name.as_ref().map(ToString::to_string);
    put(&mut one, "thingTypeName", type_name);
    one
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let thing = find(registry, &call.label("name")?)?;
    let mut answer = show(registry.place(), thing);
    answer["defaultClientId"] = thing.name.as_str().into();
    answer["thingId"] = thing.id.clone().into();
    let group = thing.billing_group.as_ref().map(ToString::to_string);
    put(&mut answer, "billingGroupName", group);
    Ok(answer)
}

fn update(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let attributes = match call.inner("attributePayload")? {
        Some(payload) => Some(AttributeChange {
            attributes: payload.texts("attributes")?,
            merge: payload.flag("merge")?.unwrap_or(false),
        }),
        None => None,
    };
    let change = ThingChange {
        type_name: call.name("thingTypeName")?,
        remove_type: call.body().flag("removeThingType")?.unwrap_or(false),
        attributes,
        expected_version: call.body().number("expectedVersion")?,
    };
    registry.update_thing(&call.label("name")?, change, call.now)?;
    Ok(json!({}))
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_thing(&call.label("name")?, call.number("expectedVersion")?)?;
    Ok(json!({}))
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let prefix = call.flag("usePrefixAttributeValue")?;
    let wanted = call
        .query("attributeName")
        .zip(call.query("attributeValue"));
    let has_attribute = |thing: &Thing| {
        wanted.is_none_or(|(name, value)| {
            thing
                .attributes
                .get(name)
                .is_some_and(|is| is == value || (prefix && is.starts_with(value)))
        })
    };
    let has_type = |thing: &Thing| {
        call.query("thingTypeName").is_none_or(|wanted| {
            thing
                .type_name
                .as_ref()
                .is_some_and(|is| is.as_str() == wanted)
        })
    };
    let things = registry
        .things()
        .filter(|thing| has_attribute(thing) && has_type(thing));
    let show = move |thing: &&Thing| show(&place, thing);
    let list = Listing::by_name(things, |thing| thing.name.to_string(), show);
    page(call, &TOKEN, "things", list)
}

/// `EXCLUSIVE_THING` or not, from the query string; `None` when it is left out.
fn exclusive(call: &Call) -> Result<Option<bool>, ApiError> {
    match call.query("thingPrincipalType") {
        None => Ok(None),
        Some("EXCLUSIVE_THING") => Ok(Some(true)),
        Some("NON_EXCLUSIVE_THING") => Ok(Some(false)),
        Some(_) => Err(ApiError::invalid(
            "thingPrincipalType is neither EXCLUSIVE_THING nor NON_EXCLUSIVE_THING",
        )),
    }
}

fn type_word(exclusive: bool) -> &'static str {
    if exclusive {
        "EXCLUSIVE_THING"
    } else {
        "NON_EXCLUSIVE_THING"
    }
}

fn attach(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let request = AttachTo {
        thing: call.label("name")?,
        certificate: registry.principal_of_arn(call.header(PRINCIPAL)?)?,
        exclusive: exclusive(call)?.unwrap_or(false),
    };
    registry.attach_thing(&request)?;
    Ok(json!({}))
}

fn detach(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let id = registry.principal_of_arn(call.header(PRINCIPAL)?)?;
    registry.detach_thing(&call.label("name")?, &id)?;
    Ok(json!({}))
}

fn principals(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let thing = find(registry, &call.label("name")?)?;
    let show = move |id: &&CertificateId| Value::from(place.arn("cert", id));
    let list = Listing::by_name(thing.principals.keys(), ToString::to_string, show);
    page(call, &TOKEN, "principals", list)
}

fn principals_v2(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let wanted = exclusive(call)?;
    let thing = find(registry, &call.label("name")?)?;
    let all = thing
        .principals
        .iter()
        .filter(|(_, is)| wanted.is_none_or(|wanted| wanted == **is));
    let show = move |(id, exclusive): &(&CertificateId, &bool)| {
        json!({
            "principal": place.arn("cert", id),
            "thingPrincipalType": type_word(**exclusive),
        })
    };
    let list = Listing::by_name(all, |(id, _)| id.to_string(), show);
    page(call, &TOKEN, "thingPrincipalObjects", list)
}

fn things(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let id = registry.principal_of_arn(call.header(PRINCIPAL)?)?;
    let things = registry.things_of(&id)?;
    let show = |name: &&ThingName| Value::from(name.as_str());
    let list = Listing::by_name(things.keys(), ToString::to_string, show);
    page(call, &TOKEN, "things", list)
}

fn things_v2(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let wanted = exclusive(call)?;
    let id = registry.principal_of_arn(call.header(PRINCIPAL)?)?;
    let things = registry.things_of(&id)?;
    let all = things
        .iter()
        .filter(|(_, is)| wanted.is_none_or(|wanted| wanted == **is));
    let show = |(name, exclusive): &(&ThingName, &bool)| json!({ "thingName": name, "thingPrincipalType": type_word(**exclusive) });
    let list = Listing::by_name(all, |(name, _)| name.to_string(), show);
    page(call, &TOKEN, "principalThingObjects", list)
}
