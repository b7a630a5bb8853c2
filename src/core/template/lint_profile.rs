//! A template against a profile: what the patterns of its subject can put into names, attributes and
//! policies, for every certificate of the profile and not for one alone.

use std::collections::{BTreeMap, BTreeSet};

use super::eval::sub_names;
use super::{Body, CERTIFICATE_PREFIX, Template, Value, attribute_problem};
use crate::core::finding::Finding;
use crate::core::ids::{PolicyName, ThingName};
use crate::core::pattern::{self, PatternError};
use crate::core::subject::{ATTRIBUTES, Subject};

/// What stands for a value that varies from device to device.
const ANY: &str = "x1";
/// What stands for a value that is never put in the place of a policy variable.
const NEVER_SUBSTITUTED: &str = "x#1";
/// Where a placeholder stands in a shape: `U+E000` and the placeholder's number (private use, so
/// that no attribute that AWS IoT takes holds one).
const MARK: u32 = 0xE000;
const MARKS: u32 = 0x1000;
/// The most characters of a shape that are looked at.
const MAX_SHAPE: usize = 65_536;
/// The most characters of an attribute's value, a name, and a policy's name (API model).
const VALUE_CHARACTERS: usize = 800;
const NAME_CHARACTERS: usize = 128;

/// The subjects of a profile's certificates: a pattern, of which some placeholders have a value and
/// the others vary from device to device.
#[derive(Clone, Debug)]
pub struct Subjects {
    pattern: String,
    fixed: BTreeMap<String, String>,
    /// The placeholders that vary; `name` is the device's name, which is a thing's name.
    open: Vec<String>,
    /// The subject with marks in the places of those.
    marked: Subject,
}

impl Subjects {
    /// From a pattern such as `CN={name},OU={model}`.
    ///
    /// # Errors
    /// `pattern.syntax`, `subject.*`.
    pub fn new(pattern: &str, fixed: BTreeMap<String, String>) -> Result<Self, PatternError> {
        let mut open: Vec<String> = Vec::new();
        for name in pattern::placeholders(pattern)? {
            if !fixed.contains_key(name) && !open.iter().any(|known| known == name) {
                open.push(name.to_owned());
            }
        }
        let marks: Vec<String> = (0..MARKS).filter_map(mark).map(String::from).collect();
        let marked = pattern::fill(pattern, &|key| match fixed.get(key) {
            Some(value) => Some(&value[..]),
            None => marks
                .get(open.iter().position(|name| name == key)?)
                .map(|mark| &mark[..]),
        })?;
        Ok(Self {
            pattern: pattern.to_owned(),
            fixed,
            open,
            marked,
        })
    }

    /// One of them.
    ///
    /// # Errors
    /// `subject.value` when the pattern's own text leaves no room.
    pub fn sample(&self) -> Result<Subject, PatternError> {
        self.with(|_| ANY)
    }

    fn with<'v>(&'v self, value_of: impl Fn(&str) -> &'v str) -> Result<Subject, PatternError> {
        pattern::fill(&self.pattern, &|key| {
            let fixed = self.fixed.get(key).map(|value| &value[..]);
            Some(fixed.unwrap_or_else(|| value_of(key)))
        })
    }
}

fn mark(number: u32) -> Option<char> {
    char::from_u32(MARK + number)
}

/// Every text that a value can become.
#[derive(Clone, Debug, Default)]
struct Extent {
    /// The text with marks for what varies.
    shape: String,
    /// The fewest and the most characters it can have.
    least: usize,
    most: usize,
    /// It is a piece of what a placeholder gives, and a value need not have so many: the delimiter.
    piece: Option<String>,
}

impl Extent {
    fn text(text: &str) -> Self {
        let length = text.chars().count();
        Self {
            shape: text.to_owned(),
            least: length,
            most: length,
            piece: None,
        }
    }

    fn push(&mut self, other: &Self) {
        if self.shape.len() < MAX_SHAPE {
            self.shape.push_str(&other.shape);
        }
        self.least = self.least.saturating_add(other.least);
        self.most = self.most.saturating_add(other.most);
        self.piece = self.piece.take().or_else(|| other.piece.clone());
    }

    fn marks(&self) -> BTreeSet<u32> {
        let number = |c: char| u32::from(c).checked_sub(MARK).filter(|n| *n < MARKS);
        self.shape.chars().filter_map(number).collect()
    }
}

/// What AWS IoT takes at a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slot {
    /// The name of a thing, a type, a group or a billing group.
    Name,
    PolicyName,
    Attribute,
    /// A part of a policy's document.
    Document,
}

impl Slot {
    /// Whether a text with this character in it can be taken.
    fn takes(self, c: char) -> bool {
        let text = c.to_string();
        match self {
            Self::Name => text.parse::<ThingName>().is_ok(),
            Self::PolicyName => text.parse::<PolicyName>().is_ok(),
            Self::Attribute => attribute_problem("a", &text).is_none(),
            Self::Document => !['*', '?', '"'].contains(&c),
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Name => "a name",
            Self::PolicyName => "a policy's name",
            Self::Attribute => "an attribute's value",
            Self::Document => "a policy",
        }
    }

    /// A character that one of these placeholders may hold and that is not taken.
    fn refuses(self, open: &[&str]) -> Option<String> {
        let refused = |c: &&char| !self.takes(**c);
        let free = open.iter().find(|name| **name != "name");
        if let (Some(free), Some(c)) = (free, OFTEN.iter().find(refused)) {
            let verb = match self {
                Self::Document => "widens or breaks",
                _ => "does not fit",
            };
            let noun = self.noun();
            return Some(format!(
                "{{{free}}} may hold `{c}` and others, which {verb} {noun}"
            ));
        }
        // A device's name has letters, digits and these.
        let c = [':', '_', '-'].iter().find(refused)?;
        Some(format!(
            "{{name}} may hold `{c}`, which does not fit {}",
            self.noun()
        ))
    }

    fn most(self) -> usize {
        match self {
            Self::Name | Self::PolicyName => NAME_CHARACTERS,
            Self::Attribute => VALUE_CHARACTERS,
            Self::Document => usize::MAX,
        }
    }
}

/// Characters that values often have, in the order in which they are named as examples.
const OFTEN: [char; 12] = [' ', '*', '?', '&', '\'', '(', '"', 'é', '/', '.', ',', ':'];

impl Template {
    /// What may go wrong with certificates of a profile. An error means that it fails for all of
    /// them, a warning that it depends on the value of a placeholder.
    pub fn lint_profile(&self, subjects: &Subjects) -> Vec<Finding> {
        let mut findings = match subjects.sample() {
            Ok(sample) => self.lint_subject(&sample),
            Err(error) => {
                let rule = "template.profile-value";
                vec![Finding::error(rule, "$.Parameters", error.to_string())]
            }
        };
        let known: BTreeSet<String> = findings.iter().map(|one| one.path.clone()).collect();
        for (path, value, slot) in self.slots() {
            if known.contains(path) {
                continue;
            }
            let extents = self.extents(value, &Own::new(), subjects);
            let told = extents.iter().flatten();
            let told = told.filter_map(|extent| subjects.doubt(extent, slot, path));
            findings.extend(told.take(1));
        }
        findings
    }

    /// Every place where a parameter's value meets a rule of AWS IoT's.
    fn slots(&self) -> Vec<(&str, &Value, Slot)> {
        let mut slots = Vec::new();
        for resource in &self.resources {
            match &resource.body {
                Body::Thing(thing) => {
                    let single = [&thing.name, &thing.type_name, &thing.billing_group];
                    let names = single.into_iter().flatten().chain(&thing.groups);
                    slots.extend(names.map(|at| (&at.path[..], &at.value, Slot::Name)));
                    let values = thing.attributes.iter().map(|(_, at)| at);
                    slots.extend(values.map(|at| (&at.path[..], &at.value, Slot::Attribute)));
                }
                Body::Policy(policy) => {
                    let name = policy.name.iter();
                    slots.extend(name.map(|at| (&at.path[..], &at.value, Slot::PolicyName)));
                    if let Some((path, tree)) = &policy.document {
                        tree.each(&mut |value| slots.push((&path[..], value, Slot::Document)));
                    }
                }
                Body::Certificate(_) => {}
            }
        }
        slots
    }

    /// What a value can become, one for each element where it is a list; `None` where it fails for
    /// every certificate, or depends on nothing of the profile's.
    fn extents(&self, value: &Value, own: &Own, subjects: &Subjects) -> Option<Vec<Extent>> {
        let one = |value: &Value| {
            let mut all = self.extents(value, own, subjects)?;
            (all.len() == 1).then(|| all.remove(0))
        };
        Some(vec![match value {
            Value::Text(text) => Extent::text(text),
            Value::Null | Value::FindInMap(..) | Value::Split(..) => return None,
            Value::Ref(name) => self.parameter_extent(name, subjects)?,
            Value::List(all) => {
                let each = all.iter().map(|value| self.extents(value, own, subjects));
                return Some(each.collect::<Option<Vec<_>>>()?.concat());
            }
            Value::Join(delimiter, values) => {
                let each = values
                    .iter()
                    .map(|value| self.extents(value, own, subjects));
                let parts = each.collect::<Option<Vec<_>>>()?.concat();
                let mut joined = Extent::default();
                for (n, part) in parts.iter().enumerate() {
                    if n > 0 {
                        joined.push(&Extent::text(delimiter));
                    }
                    joined.push(part);
                }
                joined
            }
            Value::Select(index, list) => {
                let Value::Text(index) = &**index else {
                    return None;
                };
                self.element(index.parse().ok()?, (list, own), subjects)?
            }
            Value::Sub(text, inner) => {
                let inner = inner
                    .iter()
                    .map(|(name, value)| Some((name.clone(), one(value)?)));
                let inner = inner.collect::<Option<Own>>()?;
                self.substituted(text, &inner, subjects)?
            }
        }])
    }

    /// Of a list, or of the pieces of a text.
    fn element(
        &self,
        index: usize,
        (list, own): (&Value, &Own),
        subjects: &Subjects,
    ) -> Option<Extent> {
        let Value::Split(delimiter, source) = list else {
            return self.extents(list, own, subjects)?.into_iter().nth(index);
        };
        let mut source = self.extents(source, own, subjects)?.into_iter().next()?;
        let sure = match &delimiter[..] {
            "" => 0,
            delimiter => source.shape.matches(delimiter).count(),
        };
        source.piece = (index > sure).then(|| delimiter.clone());
        source.least = 0;
        Some(source)
    }

    fn substituted(&self, text: &str, own: &Own, subjects: &Subjects) -> Option<Extent> {
        let mut whole = Extent::default();
        let mut rest = text;
        for name in sub_names(text) {
            let (before, after) = rest.split_once(&format!("${{{name}}}"))?;
            whole.push(&Extent::text(before));
            match own.get(name) {
                Some(extent) => whole.push(extent),
                None => whole.push(&self.parameter_extent(name, subjects)?),
            }
            rest = after;
        }
        whole.push(&Extent::text(rest));
        Some(whole)
    }

    fn parameter_extent(&self, name: &str, subjects: &Subjects) -> Option<Extent> {
        let part = name.strip_prefix(CERTIFICATE_PREFIX)?;
        if part == "Id" {
            return Some(Extent::text(&"0".repeat(64)));
        }
        let Some(shape) = subjects.marked.jitp(part) else {
            let default = self.parameters.get(name)?.as_ref()?;
            return Some(Extent::text(default));
        };
        let bound = ATTRIBUTES.iter().find(|(.., jitp)| *jitp == Some(part))?.2;
        let mut extent = Extent::text(shape);
        if !extent.marks().is_empty() {
            extent.most = bound;
        }
        Some(extent)
    }
}

/// Extents of the variables of an `Fn::Sub`.
type Own = BTreeMap<String, Extent>;

impl Subjects {
    /// What may be wrong with a value of this extent.
    fn doubt(&self, extent: &Extent, slot: Slot, path: &str) -> Option<Finding> {
        let names = extent.marks().into_iter();
        let open: Vec<&str> = names
            .filter_map(|n| self.open.get(usize::try_from(n).ok()?))
            .map(|name| &name[..])
            .collect();
        if open.is_empty() {
            return None;
        }
        let shown = open.iter().map(|name| format!("{{{name}}}"));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let (message, remedy) = if let Some(delimiter) = &extent.piece {
            (
                format!("{shown} need not hold so many `{delimiter}`, and fails then"),
                "put the parts into attributes of their own",
            )
        } else if let Some(message) = slot.refuses(&open) {
            (message, "keep such values out of the list")
        } else if extent.most > slot.most() {
            let (most, limit, noun) = (extent.most, slot.most(), slot.noun());
            (
                format!(
                    "with {shown} it can have {most} characters, and {noun} has at most {limit}"
                ),
                "shorten the fixed parts",
            )
        } else if extent.least == 0 && slot == Slot::Name {
            (
                format!("a part of {shown} may be empty"),
                "use the whole value",
            )
        } else {
            return None;
        };
        let finding = Finding::warning("template.profile-open", path, message);
        Some(finding.remedy(format!(
            "{remedy}; `template plan --csv` checks a list's rows"
        )))
    }

    /// Subjects with a value that is never put in the place of a policy variable, for one
    /// placeholder at a time.
    pub(super) fn unsubstituted(&self) -> Vec<(&str, Subject)> {
        let open = self.open.iter().filter(|name| *name != "name");
        let with =
            |name: &String| self.with(|key| if key == name { NEVER_SUBSTITUTED } else { ANY });
        open.filter_map(|name| Some((&name[..], with(name).ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::finding::Severity;

    /// A JITP template with these properties of its thing, and a policy.
    fn template(thing: &str, policy: &str) -> Template {
        let declared = [
            "Country",
            "CommonName",
            "OrganizationalUnit",
            "Organization",
            "Id",
        ];
        let declared =
            declared.map(|name| format!(r#""{CERTIFICATE_PREFIX}{name}":{{"Type":"String"}}"#));
        let text = format!(
            r#"{{"Parameters":{{{}}},"Resources":{{
              "t":{{"Type":"AWS::IoT::Thing","Properties":{{{thing}}}}},
              "c":{{"Type":"AWS::IoT::Certificate","Properties":{{"CertificateId":{{"Ref":"AWS::IoT::Certificate::Id"}}}}}},
              "p":{{"Type":"AWS::IoT::Policy","Properties":{{{policy}}}}}}}}}"#,
            declared.join(",")
        );
        Template::parse(&text).unwrap()
    }

    const CN: &str = r#"{"Ref":"AWS::IoT::Certificate::CommonName"}"#;
    const O: &str = r#"{"Ref":"AWS::IoT::Certificate::Organization"}"#;
    const OU: &str = r#"{"Ref":"AWS::IoT::Certificate::OrganizationalUnit"}"#;

    fn subjects(pattern: &str, set: &[(&str, &str)]) -> Subjects {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        Subjects::new(pattern, set.iter().map(own).collect()).unwrap()
    }

    /// Each finding's rule, place and message.
    fn told(thing: &str, policy: &str, subjects: &Subjects) -> Vec<String> {
        let findings = template(thing, policy).lint_profile(subjects);
        let one = |finding: &Finding| {
            let rule = finding.rule.trim_start_matches("template.");
            let severity = finding.severity;
            assert_eq!(
                severity == Severity::Warning,
                rule == "profile-open",
                "{finding:?}"
            );
            let place = finding.path.rsplit("Properties.").next().unwrap();
            format!("{rule} {place}: {}", finding.message)
        };
        findings.iter().map(one).collect()
    }

    const NAMED: &str = r#""PolicyName":"p""#;

    #[test]
    fn a_parameter_that_no_certificate_fills_is_named() {
        let thing = format!(r#""ThingName":{CN}"#);
        let told = told(
            &thing,
            NAMED,
            &subjects("CN={name},OU={model},O=Pumps", &[]),
        );
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("parameter-unfilled"), "{told:?}");
        assert!(
            told[0].contains("Certificate::Country` has no value"),
            "{told:?}"
        );
    }

    #[test]
    fn fixed_text_that_aws_refuses_fails_for_all() {
        let thing = format!(r#""ThingName":{CN},"AttributePayload":{{"o":{O}}}"#);
        let spaced = subjects("C=DE,CN={name},OU=x,O=Example Pumps", &[]);
        let found = told(&thing, NAMED, &spaced);
        assert!(
            found[0].starts_with("profile-value AttributePayload.o: "),
            "{found:?}"
        );
        // The same where --set gives the value.
        let set = subjects(
            "C=DE,CN={name},OU=x,O={owner}",
            &[("owner", "Example Pumps")],
        );
        assert_eq!(told(&thing, NAMED, &set).len(), 1);
        let good = subjects("C=DE,CN={name},OU=x,O={owner}", &[("owner", "Example")]);
        assert_eq!(told(&thing, NAMED, &good), [""; 0]);
        // A common name with a dot is no thing's name.
        let dotted = subjects("C=DE,CN={name}.example,OU=x,O=y", &[]);
        let found = told(&thing, NAMED, &dotted);
        assert!(
            found[0].starts_with("profile-value ThingName: "),
            "{found:?}"
        );
    }

    #[test]
    fn a_placeholder_that_may_hold_spaces_is_named_where_it_hurts() {
        let open = subjects("C=DE,CN={name},OU={model},O={owner}", &[]);
        let thing = format!(
            r#""ThingName":{CN},"ThingTypeName":{OU},"AttributePayload":{{"o":{O},"cn":{CN}}}"#
        );
        let found = told(&thing, NAMED, &open);
        assert_eq!(
            found,
            [
                "profile-open ThingTypeName: {model} may hold ` ` and others, which does not fit a name",
                "profile-open AttributePayload.o: {owner} may hold ` ` and others, which does not \
                 fit an attribute's value",
            ]
        );
        // A device's name is a thing's name wherever it stands; only a policy's has no colon.
        let policy = format!(r#""PolicyName":{CN}"#);
        let thing = format!(r#""ThingName":{CN},"ThingGroups":[{CN}]"#);
        let found = told(&thing, &policy, &subjects("C=DE,CN={name},OU=a,O=b", &[]));
        assert_eq!(
            found,
            ["profile-open PolicyName: {name} may hold `:`, which does not fit a policy's name"]
        );
    }

    #[test]
    fn names_that_may_grow_too_long_are_counted() {
        let join = |parts: &str| {
            let thing = format!(r#""ThingName":{{"Fn::Join":["-",[{parts}]]}}"#);
            told(
                &thing,
                NAMED,
                &subjects("C=DE,CN={name},OU=abc,O={name}", &[]),
            )
        };
        // CN and O have at most 64 characters each.
        assert_eq!(join(&format!("{CN},{OU}")), [""; 0]);
        assert_eq!(
            join(&format!("{CN},{O}")),
            [
                "profile-open ThingName: with {name} it can have 129 characters, and a name has at most 128"
            ]
        );
        let fixed = subjects("C=DE,CN={name},OU=abc,O=b", &[]);
        let long = format!(
            r#""ThingName":{{"Fn::Sub":"{}${{AWS::IoT::Certificate::CommonName}}"}}"#,
            "p".repeat(65)
        );
        let found = told(&long, NAMED, &fixed);
        assert!(found[0].contains("it can have 129 characters"), "{found:?}");
        let sure = format!(
            r#""ThingName":{{"Fn::Sub":"{}${{AWS::IoT::Certificate::CommonName}}"}}"#,
            "p".repeat(127)
        );
        let found = told(&sure, NAMED, &fixed);
        assert!(
            found[0].starts_with("profile-value ThingName: "),
            "{found:?}"
        );
    }

    #[test]
    fn pieces_that_need_not_be_there_are_named() {
        let piece = |index: u8, pattern: &str| {
            let thing = format!(
                r#""ThingName":{CN},"AttributePayload":{{"p":{{"Fn::Select":["{index}",{{"Fn::Split":["-",{CN}]}}]}}}}"#
            );
            told(&thing, NAMED, &subjects(pattern, &[]))
        };
        assert_eq!(piece(0, "C=DE,CN={name},OU=a,O=b"), [""; 0]);
        assert_eq!(piece(1, "C=DE,CN=np-{name},OU=a,O=b"), [""; 0]);
        // With one value that is tried, it fails; with another it would not.
        let found = piece(2, "C=DE,CN=np-{name},OU=a,O=b");
        assert!(
            found[0].starts_with("profile-value AttributePayload.p: "),
            "{found:?}"
        );
    }

    #[test]
    fn values_do_not_widen_a_policy_that_is_written_out() {
        let policy = |part: &str| {
            format!(
                r#""PolicyDocument":{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"iot:Connect",
                "Resource":{{"Fn::Join":["",["arn:aws:iot:eu-west-1:123456789012:client/",{part}]]}}}}]}}"#
            )
        };
        let thing = format!(r#""ThingName":{CN}"#);
        let open = subjects("C=DE,CN={name},OU={model},O=b", &[]);
        assert_eq!(told(&thing, &policy(CN), &open), [""; 0]);
        assert_eq!(
            told(&thing, &policy(OU), &open),
            [
                "profile-open PolicyDocument: {model} may hold `*` and others, which widens or breaks a policy"
            ]
        );
    }

    #[test]
    fn values_that_are_never_put_into_a_policy_are_found() {
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect",
          "Resource":"arn:aws:iot:eu-west-1:123456789012:client/${iot:Connection.Thing.ThingName}",
          "Condition":{"StringLike":{"iot:ClientId":"*","iot:Certificate.Subject.Organization":"${iot:Certificate.Subject.Organization}"}}}]}"#;
        let documents = BTreeMap::from([(
            "p".parse().unwrap(),
            policy
                .replace("StringLike", "StringEquals")
                .replace("\"iot:ClientId\":\"*\",", ""),
        )]);
        let place = crate::core::ids::Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        };
        let template = template(&format!(r#""ThingName":{CN}"#), NAMED);
        let found = |pattern: &str| {
            let finding = template.lint_access_open(&subjects(pattern, &[]), &documents, &place);
            finding.map(|finding| finding.message)
        };
        assert_eq!(found("C=DE,CN={name},OU={model},O=b"), None);
        let message = found("C=DE,CN={name},OU=a,O={owner}").unwrap();
        assert!(
            message.starts_with("a value of {owner} with one of"),
            "{message}"
        );
    }

    #[test]
    fn what_grows_at_each_level_stays_bounded() {
        let mut value = OU.to_owned();
        for _ in 0..6 {
            value = format!(r#"{{"Fn::Sub":["{}",{{"a":{value}}}]}}"#, "${a}".repeat(20));
        }
        let thing = format!(r#""ThingName":{CN},"AttributePayload":{{"a":{value}}}"#);
        let template = template(&thing, NAMED);
        let slots = template.slots();
        let (_, value, _) = slots.iter().find(|(path, ..)| path.ends_with('a')).unwrap();
        let open = subjects("C=DE,CN={name},OU={model},O=b", &[]);
        let extent = template
            .extents(value, &Own::new(), &open)
            .unwrap()
            .remove(0);
        assert_eq!(extent.least, 20_usize.pow(6));
        assert!(
            extent.shape.len() < 21 * MAX_SHAPE,
            "{}",
            extent.shape.len()
        );
    }
}
