//! What commands do to the world. One binary: it links once, and its tests run side by side.

mod sandbox_mqtt;
