//! What commands do to the world. One binary: it links once, and its tests run side by side.

#![allow(
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too; tables of cases are long"
)]

mod batch;
mod batch_outputs;
mod ca;
mod ca_interop;
mod cert_verify;
mod connect;
mod corpus;
mod crl;
mod device_lab;
mod docs;
mod fault_issue;
mod issue;
mod ledger;
mod needs_renewal;
mod preflight;
mod project;
mod readme;
mod register;
mod rotate;
mod rotate_faults;
mod sandbox_mqtt;
mod sandbox_rest;
mod sweep;
