//! JUnit XML: a suite for each artifact, a test case for each rule that found something in it.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::cli::report::Linting;
use crate::core::finding::{Checked, Placed};

/// Draws the findings. What weighs less than the threshold passes, with its text in system-out;
/// what is suppressed is skipped. An artifact without findings is one case that passes.
pub(in crate::cli) fn draw(linting: &Linting<'_>) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("nameplate");
    for checked in linting.files {
        report.add_test_suite(suite(checked, linting));
    }
    report.to_string()
}

fn suite(checked: &Checked, linting: &Linting<'_>) -> TestSuite {
    let mut suite = TestSuite::new(&checked.artifact);
    let mut by_rule: BTreeMap<&str, Vec<&Placed>> = BTreeMap::new();
    for placed in &checked.findings {
        by_rule.entry(placed.finding.rule).or_default().push(placed);
    }
    if by_rule.is_empty() {
        let mut case = TestCase::new("no findings", TestCaseStatus::success());
        case.set_classname(&checked.artifact);
        suite.add_test_case(case);
    }
    for (rule, found) in by_rule {
        suite.add_test_case(case(rule, &found, linting).named(&checked.artifact));
    }
    suite
}

trait Named {
    fn named(self, artifact: &str) -> Self;
}

impl Named for TestCase {
    fn named(mut self, artifact: &str) -> Self {
        self.set_classname(artifact);
        self
    }
}

fn case(rule: &str, found: &[&Placed], linting: &Linting<'_>) -> TestCase {
    let text = |all: &[&Placed]| {
        let lines: Vec<String> = all.iter().map(|one| one.finding.to_string()).collect();
        lines.join("\n")
    };
    let counted: Vec<&Placed> = found
        .iter()
        .copied()
        .filter(|one| one.suppressed.is_none())
        .collect();
    let failing = counted
        .iter()
        .find(|one| one.finding.severity >= linting.fail_on);
    let (status, out) = match (failing, counted.is_empty()) {
        (Some(first), _) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(&*first.finding.message);
            status.set_type(first.finding.severity.to_string());
            status.set_description(text(&counted));
            (status, None)
        }
        (None, true) => {
            let mut status = TestCaseStatus::skipped();
            let reason = found.iter().find_map(|one| one.suppressed.as_deref());
            status.set_message(reason.unwrap_or_default());
            (status, None)
        }
        (None, false) => (TestCaseStatus::success(), Some(text(&counted))),
    };
    let mut case = TestCase::new(rule, status);
    if let Some(out) = out {
        case.set_system_out(out);
    }
    case
}
