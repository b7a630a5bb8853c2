use std::process::Command;

use super::*;
use crate::core::cert::Certificate;
use crate::core::template::{TemplateKind, jitp_parameters, shipped};
use crate::core::time::{Span, UtcTime};

/// Certificates that OpenSSL makes: a self-signed CA, and what it signs.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {line}: {text}");
    }

    fn read(&self, name: &str) -> Certificate {
        let pem = std::fs::read(self.0.path().join(name)).unwrap();
        Certificate::all_from_pem(&pem).unwrap().remove(0)
    }

    fn key(&self, name: &str) {
        self.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
        ));
    }

    /// A self-signed certificate with this CN, valid for `days`.
    fn own(&self, name: &str, cn: &str) -> Certificate {
        self.key(name);
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={cn} -days 30 -out {name}.pem"
        ));
        self.read(&format!("{name}.pem"))
    }

    /// A certificate with this subject, signed by `ca`.
    fn signed(&self, ca: &str, name: &str, subject: &str) -> Certificate {
        self.key(name);
        self.openssl(&format!(
            "req -new -key {name}.key -subj {subject} -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 20 -out {name}.pem"
        ));
        self.read(&format!("{name}.pem"))
    }
}

fn place() -> Place {
    Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    }
}

fn memory() -> Registry {
    Registry::open(place(), Store::memory()).unwrap()
}

fn name(error: &ApiError) -> &'static str {
    error.name.as_str()
}

const ROLE: &str = "arn:aws:iam::123456789012:role/Provisioning";

/// One day after the certificate's notBefore.
fn soon(certificate: &Certificate) -> UtcTime {
    certificate.validity.not_before.plus(Span::days(1))
}

fn sni_only(ca: &Certificate) -> CaRegistration {
    CaRegistration {
        certificate: ca.clone(),
        verification: None,
        mode: CertificateMode::SniOnly,
        active: true,
        auto_registration: true,
        config: None,
    }
}

fn proven(ca: &Certificate, proof: Certificate) -> CaRegistration {
    CaRegistration {
        verification: Some(proof),
        mode: CertificateMode::Default,
        ..sni_only(ca)
    }
}

/// The shipped JITP template and its policy, in place.
fn with_template(registry: &mut Registry, now: UtcTime) {
    let shipped = &shipped()[0];
    let policy = "pump".parse().unwrap();
    let document = shipped.policy_for(&place()).unwrap();
    registry.create_policy(&policy, &document, now).unwrap();
    let request = NewTemplate {
        name: "pumps".parse().unwrap(),
        kind: TemplateKind::Jitp,
        body: shipped.body_for(&place(), &policy),
        role: ROLE.into(),
        description: None,
        enabled: true,
        hook: None,
    };
    registry.create_template(request, now).unwrap();
}

fn named() -> RegistrationConfig {
    RegistrationConfig::Named("pumps".parse().unwrap())
}

#[test]
fn the_registration_code_stays_until_it_is_deleted() {
    let mut registry = memory();
    let code = registry.registration_code().unwrap();
    assert_eq!(code.len(), 64);
    assert_eq!(registry.registration_code().unwrap(), code);
    registry.delete_registration_code().unwrap();
    let gone = registry.delete_registration_code().unwrap_err();
    assert_eq!(name(&gone), "ResourceNotFoundException");
    assert_ne!(registry.registration_code().unwrap(), code);
}

#[test]
fn a_ca_is_registered_only_with_proof_of_its_key() {
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    lab.own("other", "Root");
    let now = soon(&ca);
    let mut registry = memory();
    let code = registry.registration_code().unwrap();
    let good = lab.signed("ca", "good", &format!("/CN={code}"));
    let wrong_key = lab.signed("other", "wrong-key", &format!("/CN={code}"));
    let wrong_code = lab.signed("ca", "wrong-code", "/CN=abc");
    let cases = [
        (
            proven(&ca, wrong_key),
            now,
            "CertificateValidationException",
        ),
        (
            proven(&ca, wrong_code),
            now,
            "RegistrationCodeValidationException",
        ),
        (
            proven(&ca, good.clone()),
            good.validity.not_after.plus(Span::seconds(1)),
            "CertificateValidationException",
        ),
        (
            proven(&ca, good.clone()),
            ca.validity.not_after.plus(Span::seconds(1)),
            "CertificateValidationException",
        ),
        (
            CaRegistration {
                mode: CertificateMode::SniOnly,
                ..proven(&ca, good.clone())
            },
            now,
            "InvalidRequestException",
        ),
        (
            CaRegistration {
                mode: CertificateMode::Default,
                ..sni_only(&ca)
            },
            now,
            "InvalidRequestException",
        ),
        (sni_only(&good), now, "CertificateValidationException"),
    ];
    for (request, at, wanted) in cases {
        assert_eq!(
            name(&registry.register_ca(request, at).unwrap_err()),
            wanted
        );
    }
    registry.register_ca(proven(&ca, good), now).unwrap();
}

#[test]
fn the_same_ca_again_is_refused_with_its_arn() {
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    let now = soon(&ca);
    let mut registry = memory();
    let id = registry.register_ca(sni_only(&ca), now).unwrap();
    assert_eq!(&id, ca.id());
    let again = registry.register_ca(sni_only(&ca), now).unwrap_err();
    assert_eq!(name(&again), "ResourceAlreadyExistsException");
    let arn = format!("arn:aws:iot:eu-west-1:123456789012:cacert/{id}");
    assert_eq!(again.resource, Some((id.to_string(), arn)));
    assert_eq!(registry.cas_with_subject(&ca.subject_der).len(), 1);
}

#[test]
fn an_eleventh_ca_of_one_subject_is_over_the_limit() {
    let lab = Lab::new();
    let mut registry = memory();
    for n in 0..11 {
        let ca = lab.own(&format!("ca{n}"), "Root");
        let result = registry.register_ca(sni_only(&ca), soon(&ca));
        if n < 10 {
            result.unwrap();
        } else {
            assert_eq!(name(&result.unwrap_err()), "LimitExceededException");
        }
    }
}

#[test]
fn a_first_connection_is_provisioned_whole_or_not_at_all() {
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    let now = soon(&ca);
    let mut registry = memory();
    with_template(&mut registry, now);
    let request = CaRegistration {
        config: Some(named()),
        ..sni_only(&ca)
    };
    let ca_id = registry.register_ca(request, now).unwrap();
    let (template_name, template) = registry.jitp_template(&ca_id).unwrap();
    assert_eq!(template_name.as_str(), "pumps");

    let leaf = lab.signed("ca", "pump-1", "/CN=pump-1/serialNumber=SN-1");
    registry.register_pending(&leaf, &ca_id, now).unwrap();
    let entry = registry.certificate(leaf.id()).unwrap();
    assert_eq!(entry.status, CertificateStatus::PendingActivation);
    assert_eq!(entry.mode, CertificateMode::SniOnly);

    let plan = template
        .render(
            TemplateKind::Jitp,
            &jitp_parameters(&leaf.subject, leaf.id()),
        )
        .unwrap();
    let mut broken = plan.clone();
    broken
        .policies
        .push(crate::core::template::PolicyPlan::Named(
            "missing".parse().unwrap(),
        ));
    let generation = registry.generation();
    let error = registry.run_plan(leaf.id(), &broken, now).unwrap_err();
    assert_eq!(name(&error), "ResourceNotFoundException");
    assert_eq!(registry.generation(), generation);
    assert_eq!(registry.things().count(), 0);
    assert_eq!(registry.principal(leaf.id()), Principal::default());

    let done = registry.run_plan(leaf.id(), &plan, now).unwrap();
    assert_eq!(done.status, Some(CertificateStatus::Active));
    assert!(done.thing_created);
    assert!(registry.generation() > generation);
    let principal = registry.principal(leaf.id());
    assert_eq!(principal.policies[0].0.as_str(), "pump");
    assert_eq!(principal.things[0].name.as_str(), "pump-1");
    assert_eq!(principal.things[0].attributes["serialNumber"], "SN-1");
}

#[test]
fn a_second_certificate_of_a_device_keeps_its_thing() {
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    let now = soon(&ca);
    let mut registry = memory();
    with_template(&mut registry, now);
    let request = CaRegistration {
        config: Some(named()),
        ..sni_only(&ca)
    };
    let ca_id = registry.register_ca(request, now).unwrap();
    let template = registry.jitp_template(&ca_id).unwrap().1;
    for (file, is_new) in [("old", true), ("new", false)] {
        let leaf = lab.signed("ca", file, "/CN=pump-1/serialNumber=SN-1");
        registry.register_pending(&leaf, &ca_id, now).unwrap();
        let values = jitp_parameters(&leaf.subject, leaf.id());
        let plan = template.render(TemplateKind::Jitp, &values).unwrap();
        let done = registry.run_plan(leaf.id(), &plan, now).unwrap();
        assert_eq!(done.thing_created, is_new);
    }
    let thing = registry.thing(&"pump-1".parse().unwrap()).unwrap();
    assert_eq!((thing.principals.len(), thing.version), (2, 1));
}

#[test]
fn certificates_follow_their_ca_and_their_status() {
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    let now = soon(&ca);
    let leaf = lab.signed("ca", "leaf", "/CN=pump-1");
    let mut registry = memory();
    let request = CertificateRegistration {
        certificate: leaf.clone(),
        ca: None,
        status: CertificateStatus::Active,
        without_ca: false,
    };
    let unknown = registry.register_certificate(&request, now).unwrap_err();
    assert_eq!(name(&unknown), "CertificateValidationException");
    let inactive = CaRegistration {
        active: false,
        ..sni_only(&ca)
    };
    registry.register_ca(inactive, now).unwrap();
    let error = registry.register_certificate(&request, now).unwrap_err();
    assert_eq!(name(&error), "CertificateStateException");
    let change = CaChange {
        active: Some(true),
        ..CaChange::default()
    };
    registry.update_ca(ca.id(), change, now).unwrap();
    registry.register_certificate(&request, now).unwrap();
    let again = registry.register_certificate(&request, now).unwrap_err();
    assert_eq!(name(&again), "ResourceAlreadyExistsException");
}

#[test]
fn a_certificate_in_use_is_not_deleted() {
    let lab = Lab::new();
    let leaf = lab.own("leaf", "pump-1");
    let now = soon(&leaf);
    let mut registry = memory();
    let request = CertificateRegistration {
        certificate: leaf,
        ca: None,
        status: CertificateStatus::Active,
        without_ca: true,
    };
    let id = registry.register_certificate(&request, now).unwrap();
    let thing: ThingName = "pump-1".parse().unwrap();
    let new = NewThing {
        name: thing.clone(),
        type_name: None,
        attributes: BTreeMap::new(),
        billing_group: None,
    };
    registry.create_thing(new, now).unwrap();
    let attach = AttachTo {
        thing: thing.clone(),
        certificate: id.clone(),
        exclusive: true,
    };
    registry.attach_thing(&attach).unwrap();
    registry.attach_thing(&attach).unwrap();
    let delete =
        |registry: &mut Registry| registry.delete_certificate(&id, true).map_err(|e| name(&e));
    assert_eq!(delete(&mut registry), Err("CertificateStateException"));
    let set = |registry: &mut Registry, status| {
        registry
            .update_certificate(&id, status, now)
            .map_err(|e| name(&e))
    };
    assert_eq!(
        set(&mut registry, CertificateStatus::PendingActivation),
        Err("InvalidRequestException")
    );
    assert_eq!(set(&mut registry, CertificateStatus::Revoked), Ok(()));
    assert_eq!(set(&mut registry, CertificateStatus::Revoked), Ok(()));
    assert_eq!(
        set(&mut registry, CertificateStatus::Active),
        Err("CertificateStateException")
    );
    assert_eq!(delete(&mut registry), Err("DeleteConflictException"));
    assert_eq!(
        name(&registry.delete_thing(&thing, None).unwrap_err()),
        "InvalidRequestException"
    );
    registry.detach_thing(&thing, &id).unwrap();
    assert_eq!(delete(&mut registry), Ok(()));
    registry.delete_thing(&thing, None).unwrap();
    registry.delete_thing(&thing, None).unwrap();
}

#[test]
fn policies_keep_their_versions_and_limits() {
    let mut registry = memory();
    let now = UtcTime::from_unix(0);
    let policy: PolicyName = "p".parse().unwrap();
    let text = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;
    registry.create_policy(&policy, text, now).unwrap();
    let error = registry.create_policy(&policy, text, now).unwrap_err();
    assert_eq!(name(&error), "ResourceAlreadyExistsException");
    let error = registry
        .create_policy(&"q".parse().unwrap(), "{", now)
        .unwrap_err();
    assert_eq!(name(&error), "MalformedPolicyException");
    for n in 2..=5 {
        assert_eq!(
            registry.create_policy_version(&policy, text, n == 3, now),
            Ok(n)
        );
    }
    let error = registry
        .create_policy_version(&policy, text, true, now)
        .unwrap_err();
    assert_eq!(name(&error), "VersionsLimitExceededException");
    let error = registry.delete_policy_version(&policy, 3).unwrap_err();
    assert_eq!(name(&error), "DeleteConflictException");
    registry.delete_policy_version(&policy, 5).unwrap();
    assert_eq!(
        registry.create_policy_version(&policy, text, false, now),
        Ok(6)
    );
    let error = registry.delete_policy(&policy).unwrap_err();
    assert_eq!(name(&error), "DeleteConflictException");
    let group = NewGroup {
        name: "site".parse().unwrap(),
        parent: None,
        description: None,
        attributes: BTreeMap::new(),
    };
    registry.create_group(group, now).unwrap();
    let arn = place().arn("thinggroup", "site");
    for n in 0..3 {
        let one: PolicyName = format!("g{n}").parse().unwrap();
        registry.create_policy(&one, text, now).unwrap();
        let result = registry.attach_policy(&one, &arn);
        assert_eq!(result.is_ok(), n < 2);
    }
}

#[test]
fn templates_are_linted_and_keep_their_versions() {
    let mut registry = memory();
    let now = UtcTime::from_unix(0);
    with_template(&mut registry, now);
    let pumps = "pumps".parse().unwrap();
    let body = shipped()[0].body.to_owned();
    let error = registry
        .create_template_version(&pumps, body.replace("AWS::IoT::Policy", "X"), false, now)
        .unwrap_err();
    assert!(
        error.message.contains(": $.Resources.policy.Type: "),
        "{error}"
    );
    for n in 2..=5 {
        let made = registry.create_template_version(&pumps, body.clone(), n == 2, now);
        assert_eq!(made, Ok(n));
    }
    let error = registry
        .create_template_version(&pumps, body, false, now)
        .unwrap_err();
    assert_eq!(name(&error), "VersionsLimitExceededException");
    let error = registry.delete_template_version(&pumps, 2).unwrap_err();
    assert_eq!(name(&error), "DeleteConflictException");
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    let request = CaRegistration {
        config: Some(named()),
        ..sni_only(&ca)
    };
    registry.register_ca(request, soon(&ca)).unwrap();
    let error = registry.delete_template(&pumps).unwrap_err();
    assert_eq!(name(&error), "DeleteConflictException");
}

#[test]
fn things_are_idempotent_and_versioned() {
    let mut registry = memory();
    let now = UtcTime::from_unix(0);
    let thing: ThingName = "pump-1".parse().unwrap();
    let new = |pairs: &[(&str, &str)]| NewThing {
        name: thing.clone(),
        type_name: None,
        attributes: pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        billing_group: None,
    };
    let four = new(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
    assert_eq!(
        name(&registry.create_thing(four, now).unwrap_err()),
        "InvalidRequestException"
    );
    let spaced = new(&[("a", "1 2")]);
    assert_eq!(
        name(&registry.create_thing(spaced, now).unwrap_err()),
        "InvalidRequestException"
    );
    let first = registry.create_thing(new(&[("a", "1")]), now).unwrap();
    assert_eq!(
        registry.create_thing(new(&[("a", "1")]), now).unwrap().id,
        first.id
    );
    let other = registry.create_thing(new(&[]), now).unwrap_err();
    assert_eq!(name(&other), "ResourceAlreadyExistsException");
    let change = |version, merge| ThingChange {
        attributes: Some(AttributeChange {
            attributes: [("a".into(), String::new()), ("b".into(), "2".into())].into(),
            merge,
        }),
        expected_version: version,
        ..ThingChange::default()
    };
    let error = registry
        .update_thing(&thing, change(Some(7), true), now)
        .unwrap_err();
    assert_eq!(name(&error), "VersionConflictException");
    registry
        .update_thing(&thing, change(Some(1), true), now)
        .unwrap();
    let is = registry.thing(&thing).unwrap();
    assert_eq!(is.version, 2);
    assert_eq!(is.attributes, [("b".to_owned(), "2".to_owned())].into());
}

#[test]
fn what_was_answered_is_there_after_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.sqlite");
    let lab = Lab::new();
    let ca = lab.own("ca", "Root");
    let now = soon(&ca);
    let leaf = lab.signed("ca", "leaf", "/CN=pump-1/serialNumber=7");
    let code = {
        let mut registry = Registry::open(place(), Store::durable(&file).unwrap()).unwrap();
        with_template(&mut registry, now);
        let request = CaRegistration {
            config: Some(named()),
            ..sni_only(&ca)
        };
        let id = registry.register_ca(request, now).unwrap();
        registry.register_pending(&leaf, &id, now).unwrap();
        let template = registry.jitp_template(&id).unwrap().1;
        let plan = template
            .render(
                TemplateKind::Jitp,
                &jitp_parameters(&leaf.subject, leaf.id()),
            )
            .unwrap();
        registry.run_plan(leaf.id(), &plan, now).unwrap();
        registry.registration_code().unwrap()
    };
    let open = || Registry::open(place(), Store::durable(&file).unwrap());
    let mut registry = open().unwrap();
    assert_eq!(registry.registration_code().unwrap(), code);
    let principal = registry.principal(leaf.id());
    assert_eq!((principal.policies.len(), principal.things.len()), (1, 1));
    assert_eq!(
        registry.cas_with_subject(&ca.subject_der)[0].config,
        Some(named())
    );
    drop(registry);
    let elsewhere = Place {
        account: "999999999999".parse().unwrap(),
        ..place()
    };
    let store = Store::durable(&file).unwrap();
    assert!(matches!(
        Registry::open(elsewhere, store),
        Err(RegistryError::Place { .. })
    ));
    let foreign = folder.path().join("other.sqlite");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        Store::durable(&foreign),
        Err(StoreError::Foreign { .. })
    ));
}
