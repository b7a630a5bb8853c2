//! What commands do to the world. One binary: it links once, and its tests run side by side.

#![allow(
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too; tables of cases are long"
)]

mod batch;
mod batch_outputs;
mod bombs;
mod ca;
mod ca_interop;
mod cert;
mod cert_verify;
mod ci;
mod clock;
mod clock_set;
mod connect;
mod connect_sandbox;
mod corpus;
mod crl;
mod device_lab;
mod device_renew;
mod docs;
mod encrypted_keys;
mod fault_device;
mod fault_issue;
mod flaw;
mod fleet_lab;
mod fuzz_corpus;
mod generate;
mod isolate;
mod isolate_random;
mod issue;
#[cfg(feature = "kms")]
mod kms;
mod ledger;
#[cfg(feature = "postgres")]
mod ledger_both;
#[cfg(all(feature = "kms", feature = "pkcs11"))]
mod matrix;
mod needs_renewal;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod policy;
mod preflight;
mod preflight_depth;
mod preflight_flaws;
mod preflight_peers;
#[cfg(feature = "pkcs11")]
mod preflight_token;
mod profile;
mod project;
mod provision;
mod raw_mqtt;
mod readme;
mod register;
mod rotate;
mod rotate_faults;
mod sandbox_conformance;
mod sandbox_control;
mod sandbox_faults;
mod sandbox_fleet;
mod sandbox_impostors;
mod sandbox_mqtt;
mod sandbox_mqtt_clients;
mod sandbox_places;
mod sandbox_rates;
mod sandbox_rest;
mod sandbox_state;
mod sandbox_why;
#[cfg(feature = "postgres")]
mod server;
mod sign;
mod sweep;
mod template;
mod template_target;
mod usage;
