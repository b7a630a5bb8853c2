//! Findings as other programs read them.

/// JUnit XML.
pub(super) mod junit;
/// SARIF 2.1.0.
pub(super) mod sarif;
