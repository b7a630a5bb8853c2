//! Policies and templates that are made to cost much: an answer or an error each, and no more findings
//! than a person could read. What each costs is counted where it is spent, beside the code.

use std::time::{Duration, Instant};

use nameplate::core::policy::{Document, MAX_WITH_SPACE};
use nameplate::core::policylint;
use nameplate::core::template::{MAX_CHARACTERS, Template, Usage};
use nameplate::explain::Explain;

fn policy(statements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

fn statement(resources: &str, condition: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":"iot:Publish","Resource":[{resources}]{condition}}}"#)
}

/// `count` times the same, with commas.
fn many(one: &str, count: usize) -> String {
    vec![one; count].join(",")
}

/// Each with the size that the API's model allows.
fn policies() -> Vec<(&'static str, String)> {
    let size = MAX_WITH_SPACE - 1_000;
    let keys = |count: usize| -> String {
        let all: Vec<String> = (0..count)
            .map(|n| format!(r#""iot:k{n}":["a*","b"]"#))
            .collect();
        format!(r#","Condition":{{"StringLike":{{{}}}}}"#, all.join(","))
    };
    let pattern = |text: String| policy(&statement(&format!("\"{text}\""), ""));
    vec![
        (
            "statements",
            policy(&many(&statement("\"*\"", ""), size / 60)),
        ),
        ("empty statements", policy(&many("{}", size / 3))),
        (
            "resources",
            policy(&statement(&many("\"a*\"", size / 5), "")),
        ),
        ("stars", pattern("*a".repeat(size / 2))),
        ("variables", pattern("${iot:ClientId}".repeat(size / 15))),
        ("open variables", pattern("${".repeat(size / 2))),
        ("conditions", policy(&statement("\"*\"", &keys(size / 30)))),
        (
            "a long key",
            format!(
                r#"{{"{}":[{}]}}"#,
                "k".repeat(size / 2),
                many("1", size / 4)
            ),
        ),
        (
            "a dotted key",
            format!(
                r#"{{"{}":[{}]}}"#,
                ".".repeat(size / 2),
                many("1", size / 4)
            ),
        ),
        (
            "numbers",
            format!(r#"{{"Version":[{}]}}"#, many("1", size / 2)),
        ),
        ("nesting", "[".repeat(size)),
        (
            "space",
            format!("{}{}", " ".repeat(size), policy(&statement("\"*\"", ""))),
        ),
    ]
}

#[test]
fn policy_bombs_get_an_answer() {
    for (name, text) in policies() {
        let begun = Instant::now();
        let parsed = Document::parse(&text).map_err(|error| error.code());
        let outcome = match name {
            "space" => parsed.is_ok(),
            "nesting" => parsed.as_ref().is_err_and(|code| *code == "policy.json"),
            _ => parsed.is_err(),
        };
        assert!(outcome, "{name}: {:?}", parsed.err());
        policylint::lint(&text, &policylint::Request::default());
        // Milliseconds in a release build; this is only so that nothing hangs.
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{name}: {:?}",
            begun.elapsed()
        );
    }
}

fn template(properties: &str, sections: &str) -> String {
    format!(
        r#"{{"Parameters":{{"A":{{"Type":"String"}}}},{sections}"Resources":{{
          "t":{{"Type":"AWS::IoT::Thing","Properties":{{"ThingName":"x"{properties}}}}}}}}}"#
    )
}

fn templates() -> Vec<(&'static str, String)> {
    let numbered = |count: usize, one: &dyn Fn(usize) -> String| {
        let all: Vec<String> = (0..count).map(one).collect();
        all.join(",")
    };
    let mappings = numbered(360, &|n| format!(r#""m{n}":{{"a":{{"b":"c"}}}}"#));
    let resources = numbered(330, &|n| format!(r#""r{n}":{{"Type":"AWS::IoT::X"}}"#));
    let unknown = numbered(900, &|n| format!(r#""u{n}":1"#));
    let nested = |open: &str, close: &str, levels: usize| {
        let type_name = format!(
            "{}{}{}",
            open.repeat(levels),
            r#"{"Ref":"A"}"#,
            close.repeat(levels)
        );
        template(&format!(r#","ThingTypeName":{type_name}"#), "")
    };
    let sub = format!(r#"{{"Fn::Sub":["{}",{{"a":"#, "${a}".repeat(150));
    let property = |text: String| template(&format!(r#","ThingTypeName":{text}"#), "");
    vec![
        (
            "mappings",
            template("", &format!(r#""Mappings":{{{mappings}}},"#)),
        ),
        (
            "groups",
            template(&format!(r#","ThingGroups":[{}]"#, many("\"a\"", 2_400)), ""),
        ),
        ("resources", format!(r#"{{"Resources":{{{resources}}}}}"#)),
        ("unknown keys", format!(r#"{{"Resources":{{}},{unknown}}}"#)),
        (
            "a join",
            property(format!(
                r#"{{"Fn::Join":["",[{}]]}}"#,
                many(r#"{"Ref":"A"}"#, 800)
            )),
        ),
        (
            "a sub",
            property(format!(r#"{{"Fn::Sub":"{}"}}"#, "${A}".repeat(2_400))),
        ),
        ("subs in subs", nested(&sub, "}]}", 8)),
        (
            "splits in joins",
            nested(r#"{"Fn::Join":["y",{"Fn::Split":["y","#, "]}]}", 6),
        ),
        ("deep functions", nested(r#"{"Fn::Join":["",["#, "]]}", 300)),
        ("nesting", "[".repeat(MAX_CHARACTERS)),
        ("size", format!("[{}]", many("1", MAX_CHARACTERS))),
    ]
}

#[test]
fn template_bombs_get_an_answer() {
    let values = [("A".to_owned(), "y".repeat(4_096))].into();
    for (name, text) in templates() {
        let begun = Instant::now();
        if let Ok(template) = Template::parse(&text) {
            assert!(text.chars().count() <= MAX_CHARACTERS, "{name}");
            template.lint(Usage::FleetProvisioning);
            let rendered = template.render(Usage::FleetProvisioning, &values);
            let grows = ["a join", "a sub", "subs in subs"].contains(&name);
            assert!(!grows || rendered.is_err(), "{name}");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{name}: {:?}",
            begun.elapsed()
        );
    }
}
