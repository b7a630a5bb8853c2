//! The tests that run the program as its users do: one binary, one module a verb.

mod connect;
mod device_lab;
mod preflight;
