//! MQTT 3.1.1 and 5 as AWS IoT Core speaks them. Everything here is pure: packets, sessions and
//! the time go in, packets and records come out. [`super::broker`] performs what is decided.

/// What a connection's policies allow.
pub(crate) mod access;
/// Bytes to packets.
pub(crate) mod decode;
/// Packets to bytes.
pub(crate) mod encode;
/// Sessions, subscriptions, retained messages: all of the broker's decisions.
pub(crate) mod hub;
/// Packets of both versions in one form.
pub(crate) mod packet;
/// What clients send, without a network.
pub(super) mod replay;
/// Which topics and filters AWS IoT takes.
pub(crate) mod topics;
/// Which subscriptions match a topic.
pub(crate) mod trie;
