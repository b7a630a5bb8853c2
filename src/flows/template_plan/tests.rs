use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::core::batch::ListFormat;
use crate::core::ids::{CertificateId, PolicyName, TemplateName};
use crate::core::status::CertificateStatus;
use crate::core::template::PrerequisiteKind;
use crate::core::time::UtcTime;
use crate::ports::Clock;
use crate::ports::cloud::{
    AttachedThing, CaRegistration, CaSummary, CaUpdate, CaView, CertificateRegistration,
    CertificateSummary, CertificateView, CloudErrorKind, CloudResult, ControlPlane, NewTemplate,
    PolicyVersion, PolicyView, Registered, TemplateSummary, TemplateUpdate, TemplateVersion,
    TemplateView, ThingView,
};

/// Time passes only in sleep.
#[derive(Default)]
struct Sleeper {
    slept: Cell<Duration>,
}

impl Clock for Sleeper {
    fn now(&self) -> UtcTime {
        unreachable!("a plan does not ask for the date")
    }
    fn now_nanos(&self) -> i128 {
        unreachable!("a plan does not ask for the date")
    }
    fn monotonic(&self) -> Duration {
        self.slept.get()
    }
    fn sleep(&self, duration: Duration) {
        self.slept.set(self.slept.get() + duration);
    }
}

/// Every second thing is there, of type `old` and in group `g`; counts its calls.
#[derive(Default)]
struct Plane {
    calls: Cell<u64>,
    prerequisites: RefCell<Vec<String>>,
    fails_at: Option<&'static str>,
    most_at_once: Cell<usize>,
}

macro_rules! not_asked {
    ($($name:ident($($arg:ty),*) -> $out:ty;)*) => {
        $(fn $name(&self, $(_: $arg),*) -> CloudResult<$out> {
            panic!("{} is not asked", stringify!($name))
        })*
    };
}

impl ControlPlane for Plane {
    fn describe_things(&self, names: &[ThingName]) -> CloudResult<Vec<Option<ThingView>>> {
        self.calls.set(self.calls.get() + names.len() as u64);
        self.most_at_once
            .set(self.most_at_once.get().max(names.len()));
        if names
            .iter()
            .any(|name| Some(name.as_str()) == self.fails_at)
        {
            return Err(CloudError {
                kind: CloudErrorKind::Throttled,
                operation: "DescribeThing",
                target: "a test".into(),
                name: "ThrottlingException".into(),
                message: "slow down".into(),
                request_id: None,
            });
        }
        let view = |name: &ThingName| {
            let even = name.as_str().ends_with(['0', '2', '4', '6', '8']);
            even.then(|| ThingView {
                name: name.clone(),
                type_name: Some("old".into()),
                attributes: BTreeMap::new(),
                billing_group: None,
            })
        };
        Ok(names.iter().map(view).collect())
    }
    fn groups_of_things(&self, names: &[ThingName]) -> CloudResult<Vec<Vec<ThingName>>> {
        self.calls.set(self.calls.get() + names.len() as u64);
        Ok(names.iter().map(|_| vec!["g".parse().unwrap()]).collect())
    }
    fn has(&self, _: PrerequisiteKind, name: &str) -> CloudResult<bool> {
        self.calls.set(self.calls.get() + 1);
        self.prerequisites.borrow_mut().push(name.to_owned());
        Ok(name != "absent")
    }

    not_asked! {
        place() -> Place;
        endpoint() -> String;
        registration_code() -> String;
        register_ca(&CaRegistration) -> CertificateId;
        describe_ca(&CertificateId) -> Option<CaView>;
        update_ca(&CertificateId, &CaUpdate) -> ();
        list_cas() -> Vec<CaSummary>;
        create_template(&NewTemplate) -> ();
        describe_template(&TemplateName) -> Option<TemplateView>;
        list_templates() -> Vec<TemplateSummary>;
        create_template_version(&TemplateName, &str) -> i32;
        update_template(&TemplateName, &TemplateUpdate) -> ();
        template_versions(&TemplateName) -> Vec<TemplateVersion>;
        template_version(&TemplateName, i32) -> Option<String>;
        delete_template_version(&TemplateName, i32) -> ();
        create_policy(&PolicyName, &str) -> ();
        get_policy(&PolicyName) -> Option<PolicyView>;
        create_policy_version(&PolicyName, &str) -> String;
        policy_versions(&PolicyName) -> Vec<PolicyVersion>;
        delete_policy_version(&PolicyName, &str) -> ();
        attach_policy(&PolicyName, &str) -> ();
        detach_policy(&PolicyName, &str) -> ();
        attached_policies(&str) -> Vec<PolicyName>;
        register_certificate(&CertificateRegistration) -> Registered;
        describe_certificate(&CertificateId) -> Option<CertificateView>;
        update_certificate(&CertificateId, CertificateStatus) -> ();
        delete_certificate(&CertificateId) -> ();
        certificates_by_ca(&CertificateId) -> Vec<CertificateSummary>;
        describe_thing(&ThingName) -> Option<ThingView>;
        list_things() -> Vec<ThingView>;
        groups_of(&ThingName) -> Vec<ThingName>;
        delete_thing(&ThingName) -> ();
        attach_thing(&AttachedThing, &str) -> ();
        detach_thing(&ThingName, &str) -> ();
        principals_of(&ThingName) -> Vec<String>;
        things_of(&str) -> Vec<AttachedThing>;
    }
}

const TEMPLATE: &str = r#"{"Parameters":{"ThingName":{"Type":"String"},"Type":{"Type":"String"},
  "Group":{"Type":"String"},"CSR":{"Type":"String","Default":"x"}},"Resources":{
  "t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},
       "ThingTypeName":{"Ref":"Type"},"ThingGroups":[{"Ref":"Group"}]},
       "OverrideSettings":{"ThingTypeName":"FAIL","ThingGroups":"FAIL"}},
  "c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"1"}}}}"#;

/// What is heard of each line, and how it ends.
type Told = (Vec<(u64, String)>, Result<Summary, PlanError>);

fn planned(list: &str, from_line: u64, (plane, clock): (&Plane, &Sleeper)) -> Told {
    let template = Template::parse(TEMPLATE).unwrap();
    let list = list.to_owned();
    let rows = move || {
        let bytes = std::io::Cursor::new(list.clone().into_bytes());
        Ok(Rows::open(Box::new(bytes), ListFormat::Csv, None)?)
    };
    let device = |row: &Row| {
        let values = [("ThingName", "name"), ("Type", "type"), ("Group", "group")];
        let value = |(parameter, column): (&str, &str)| {
            (parameter.to_owned(), row.value(column).unwrap().to_owned())
        };
        Ok(Device {
            values: values.map(value).into(),
            subject: None,
        })
    };
    let home = Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    let plan = ListPlan {
        rows: &rows,
        device: &device,
        template: &template,
        usage: Usage::RegisterThing,
        existing: &ExistingThings::default(),
        place: &home,
        gate: &Gate::new(&BTreeMap::new(), &home),
        threads: 2,
        from_line,
    };
    let mut looks = Looks::new(plane, clock, NonZeroU32::new(10).unwrap());
    let mut told = Vec::new();
    let outcome = plan.run(Some(&mut looks), &mut |plans| {
        told.extend(plans.iter().map(|plan| (plan.line, why(plan))));
    });
    (told, outcome)
}

#[test]
fn each_rows_own_thing_is_looked_for() {
    let list =
        "name,type,group\np-1,new,h\np-2,new,g\np-4,old,h\np-6,old,g\np-3,absent,g\np-2,old,g\n";
    let (plane, clock) = (Plane::default(), Sleeper::default());
    let (told, outcome) = planned(list, 1, (&plane, &clock));
    let told: Vec<(u64, &str)> = told.iter().map(|(line, why)| (*line, &why[..])).collect();
    let conflict = |name: &str, what: &str| {
        format!(
            "template.conflict: thing {name} is there and differs, and the template's {what} says FAIL"
        )
    };
    assert_eq!(told[0], (2, ""), "it is not there");
    assert_eq!(told[1], (3, &conflict("p-2", "ThingTypeName")[..]));
    assert_eq!(told[2], (4, &conflict("p-4", "ThingGroups")[..]));
    assert_eq!(told[3], (5, ""), "it is there, and as it should be");
    assert!(told[4].1.contains("thing type `absent`"), "{told:?}");
    assert_eq!(told[5], (7, ""), "what comes twice is told last");
    assert_eq!(told[6], (7, "line 3 makes thing `p-2`, too"));
    let summary = outcome.unwrap();
    assert_eq!((summary.rows, summary.pass, summary.fail), (6, 2, 4));
    // Of what is named, each was asked for once.
    let mut asked = plane.prerequisites.into_inner();
    asked.sort();
    assert_eq!(asked, ["absent", "g", "h", "new", "old"]);
    assert!(plane.most_at_once.get() <= 16);
}

#[test]
fn calls_keep_their_pace() {
    let rows: Vec<String> = (0..200).map(|n| format!("p-{n},old,g\n")).collect();
    let rows = rows.concat();
    let (plane, clock) = (Plane::default(), Sleeper::default());
    planned(&format!("name,type,group\n{rows}"), 1, (&plane, &clock))
        .1
        .unwrap();
    // 200 things, the groups of the 100 that are there, one type and one group.
    assert_eq!(plane.calls.get(), 302);
    let slept = clock.slept.get();
    // Ten a second; the last calls need no wait after them.
    assert!(
        (Duration::from_secs(28)..=Duration::from_secs(31)).contains(&slept),
        "{slept:?}"
    );
}

#[test]
fn a_plan_that_stops_says_where_it_goes_on() {
    let rows: Vec<String> = (0..300).map(|n| format!("p-{n},old,g\n")).collect();
    let rows = rows.concat();
    let list = format!("name,type,group\n{rows}p-3,old,g\np-290,old,g\n");
    let failing = Plane {
        fails_at: Some("p-200"),
        ..Plane::default()
    };
    let clock = Sleeper::default();
    let (told, outcome) = planned(&list, 1, (&failing, &clock));
    let error = outcome.unwrap_err();
    // Blocks of 128 rows; the list's first row is line 2.
    assert!(
        matches!(error, PlanError::Target { line: 130, .. }),
        "{error:?}"
    );
    assert_eq!(
        (error.kind().exit_code(), error.code()),
        (4, "cloud.throttled")
    );
    assert_eq!(error.hint().unwrap(), "go on with --from-line 130");
    let lines: Vec<u64> = told.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, (2..130).collect::<Vec<_>>());

    let (told, outcome) = planned(&list, 130, (&Plane::default(), &clock));
    let summary = outcome.unwrap();
    assert_eq!((summary.rows, summary.duplicates), (174, 2));
    assert_eq!(told[0].0, 130);
    // Also that of a row which was told the first time.
    assert_eq!(told[174], (302, "line 5 makes thing `p-3`, too".to_owned()));
    assert_eq!(
        told[175],
        (303, "line 292 makes thing `p-290`, too".to_owned())
    );
}
