//! What commands do to the world. One binary: it links once, and its tests run side by side.

mod connect;
mod device_lab;
mod preflight;
mod sandbox_mqtt;
