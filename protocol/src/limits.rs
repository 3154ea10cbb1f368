//! Every bound on the wire, with its unit and reason. What exceeds one is refused before any
//! memory is taken for it.

use std::time::Duration;

/// Payload of one frame before sealing, in bytes. Small enough that a chat line never waits long
/// behind a piece of a file, large enough that signature and header cost little.
pub const FRAME_PAYLOAD: usize = 64 * 1024;

/// Encoded frame header, in bytes; leaves room for an in-band tree.
pub const FRAME_HEADER: usize = 4 * 1024;

/// The tree in a frame's header, in bytes: what all else there leaves of it.
pub const IN_BAND: usize = FRAME_HEADER - 384;

/// Encoded frame proof (certificate, signature, Merkle path), in bytes.
pub const FRAME_PROOF: usize = 1024;

/// A whole frame as it crosses an edge, in bytes: two 16-bit lengths, header, proof, sealed payload
/// with its 16-byte tag.
pub const FRAME: usize = 2 + FRAME_HEADER + 2 + FRAME_PROOF + FRAME_PAYLOAD + 16;

/// Small messages in one frame. Bounds the work one frame can cause at its receivers.
pub const MESSAGES_PER_FRAME: u32 = 4096;

/// One message held in memory, in bytes.
pub const MESSAGE: usize = 16 * 1024 * 1024;

/// Pieces of one message.
pub const PIECES: u32 = 256;
const _: () = assert!(PIECES as usize * FRAME_PAYLOAD == MESSAGE, "as many as the largest message");

/// One control request, in bytes.
pub const CONTROL_REQUEST: usize = 256 * 1024;

/// One control answer, in bytes: a whole tree of [`MEMBERS`] members fits.
pub const CONTROL_ANSWER: usize = 4 * 1024 * 1024;

/// A gossip message, in bytes; must be equal at all nodes, for receivers enforce it. Trees above
/// half of this are announced without their edges and fetched.
pub const GOSSIP: usize = 64 * 1024;

/// One message on an edge's control substream, in bytes: a summary of [`MEMBERS`] flows fits.
pub const EDGE_MESSAGE: usize = 2 * 1024 * 1024;

/// The first message of a substream, in bytes.
pub const HELLO: usize = 4 * 1024;

/// Members of one session.
pub const MEMBERS: usize = 10_000;

/// The train of a probe, in bytes: enough to time, too little to be felt.
pub const TRAIN: usize = 64 * 1024;

/// One probe, in bytes.
pub const PROBE: usize = TRAIN + 256;

/// Channels that one member reports.
pub const CHANNELS: usize = 64;

/// Tree neighbours of one member, whatever it offers.
pub const FANOUT: u16 = 64;

/// Addresses told for one peer.
pub const ADDRESSES: usize = 16;

/// One multiaddr, in bytes.
pub const ADDRESS: usize = 256;

/// A nickname, in bytes of UTF-8.
pub const NICK: usize = 64;

/// The name of an open or passphrase session, in bytes of UTF-8.
pub const SESSION_NAME: usize = 128;

/// A ticket as text, in characters.
pub const TICKET: usize = 4096;

/// Coordinators in one ticket.
pub const COORDINATORS: usize = 8;

/// Candidates handed to a member in one answer.
pub const CANDIDATES: usize = 32;

/// Ranges above the floor that one encoded [`crate::numbers::NumberSet`] has, and gaps that one
/// request for frames names.
pub const RANGES: usize = 1024;

/// Nesting of CBOR containers.
pub const CBOR_DEPTH: usize = 16;

/// Frames under one batch signature: a path of [`BATCH_PATH`] hashes.
pub const BATCH: usize = 1 << BATCH_PATH;

/// Hashes in the path of one frame to the root of its batch.
pub const BATCH_PATH: usize = 8;

/// A substream that has not said hello by then is closed.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
