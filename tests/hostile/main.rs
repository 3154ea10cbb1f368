//! Peers that lie, babble and stall, against a real coordinator and real nodes on loopback. Whatever
//! they do gets an answer with words or is dropped and counted, and two honest members go on talking.

mod control;
mod edges;
mod peer;
mod pushes;
mod sockets;
mod world;
