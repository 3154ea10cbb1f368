//! A real coordinator and real nodes in this process, on loopback sockets: the library as an
//! application uses it, and peers that lie, babble and stall. Whatever those do gets an answer with
//! words or is dropped and counted, and two honest members go on talking.

#![expect(clippy::wildcard_enum_match_arm, reason = "tests wait for one event among many")]

mod control;
mod edges;
mod hosting;
mod impaired;
mod library;
mod peer;
mod pushes;
mod sockets;
mod world;
