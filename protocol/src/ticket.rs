//! The ticket: one line of text with which somebody joins a session.
//!
//! ```text
//! arb1 ‖ base32, lower case, without padding, of: version (1 byte) ‖ CBOR ‖ checksum (4 bytes)
//! ```
//!
//! Addresses are packed (`packed`), so that a ticket fits into a line of chat. Version 1 had them in full.
//!
//! The checksum is the beginning of a BLAKE3 hash over version and CBOR; later versions keep it
//! there, so that a mistyped ticket and a newer one can be told apart. A ticket of a private session
//! holds its secret: it is to be handed on like a key.

use std::{collections::BTreeSet, fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use multiaddr::Protocol;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    codec,
    id::{MemberId, SessionId},
    keys::{Access, Secret},
    limits,
    session::{Address, Contact},
};

mod packed;

/// How every ticket begins.
pub const PREFIX: &str = "arb1";

/// The version that this crate writes. It reads those before it, too.
const VERSION: u8 = 2;

/// Version 1 wrote all addresses in full.
const FULL: u8 = 1;

/// Length of the checksum in bytes: one mistyped ticket in four thousand million gets past it, and
/// then still leads to no session.
const CHECKSUM: usize = 4;

/// What one needs to join a session: the right to, and whom to ask. Built by [`Ticket::new`] and by
/// parsing alone, so that what is written can be read again.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ticket {
    /// What lets its holder come in and read.
    pub access: Access,
    /// What people call a private session, if anything.
    pub name: Option<String>,
    /// Whom to ask; never empty. Only these sign trees and certificates of the session.
    pub coordinators: Vec<Contact>,
}

impl Ticket {
    /// Makes a ticket. `name` is what people call a private session; it opens nothing.
    ///
    /// # Errors
    /// [`TicketError`] if a limit is broken, an address is none, or there is no coordinator.
    pub fn new(
        access: Access,
        name: Option<String>,
        coordinators: Vec<Contact>,
    ) -> Result<Self, TicketError> {
        let names = match &access {
            Access::Private(_) => None,
            Access::Open { name } => Some(name),
        };
        for name in names.into_iter().chain(&name) {
            check_name(name)?;
        }
        if coordinators.is_empty() {
            return Err(TicketError::NoCoordinator);
        }
        if coordinators.len() > limits::COORDINATORS {
            return Err(TicketError::TooManyCoordinators);
        }
        let mut seen = BTreeSet::new();
        let mut coordinators = coordinators;
        for Contact { member, addresses } in &mut coordinators {
            if !seen.insert(*member) {
                return Err(TicketError::Malformed("a coordinator is listed twice".to_owned()));
            }
            if addresses.len() > limits::ADDRESSES {
                return Err(TicketError::TooManyAddresses(*member));
            }
            if !addresses.iter().all(is_good) {
                return Err(TicketError::BadAddress(*member));
            }
            // In the order in which they are read, so that a ticket reads as itself.
            let (packed, others) = packed::pack(addresses);
            *addresses = packed::unpack(&packed).into_iter().flatten().chain(others).collect();
        }
        let ticket = Self { access, name, coordinators };
        if text_len(ticket.encode().len()) > limits::TICKET {
            return Err(TicketError::TooLong);
        }
        Ok(ticket)
    }

    /// The id of the session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.access.session()
    }

    /// Whether `text` is meant to be a ticket, be it a good one or not. Such a text must never be
    /// taken for the name of a session: names are public, and a mistyped ticket gives away a secret.
    #[must_use]
    pub fn looks_like(text: &str) -> bool {
        strip_prefix(text.trim()).is_some()
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (secret, open) = match &self.access {
            Access::Private(secret) => (Some(Bytes(*secret.as_bytes())), None),
            Access::Open { name } => (None, Some(name.clone())),
        };
        let contacts = self.coordinators.iter().cloned();
        let body = Body {
            secret,
            open,
            name: self.name.clone(),
            coordinators: contacts
                .map(|Contact { member, addresses }| {
                    let (packed, others) = packed::pack(&addresses);
                    (member, ByteBuf::from(packed), others)
                })
                .collect(),
        };
        let mut cbor = Zeroizing::new(codec::encode(&body));
        // Taken at once, so that no copy of the secret is left behind where the vector had grown.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + cbor.len() + CHECKSUM));
        bytes.push(VERSION);
        bytes.append(&mut cbor);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }
}

impl fmt::Display for Ticket {
    /// The ticket itself, secret and all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Zeroizing::new(BASE32_NOPAD.encode(&self.encode()));
        text.make_ascii_lowercase();
        f.write_str(PREFIX)?;
        f.write_str(&text)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("access", &self.access)
            .field("name", &self.name)
            .field("coordinators", &self.coordinators)
            .finish()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads a ticket in upper or lower case; white space does not matter, for mail and terminals break lines.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let digits = strip_prefix(text).ok_or(TicketError::NotATicket)?;
        let digits: Zeroizing<String> =
            Zeroizing::new(digits.chars().filter(|c| !c.is_whitespace()).collect());
        if PREFIX.len() + digits.len() > limits::TICKET {
            return Err(TicketError::TooLong);
        }
        if let Some((at, found)) = digits.chars().enumerate().find(|(_, c)| !is_digit(*c)) {
            return Err(TicketError::Foreign { found, at: PREFIX.len() + at + 1 });
        }
        let upper = Zeroizing::new(digits.to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| TicketError::Mistyped)?;
        let bytes = Zeroizing::new(bytes);
        let (summed, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(TicketError::Mistyped)?;
        if checksum(summed) != *sum {
            return Err(TicketError::Mistyped);
        }
        let (&version, body) = summed.split_first().ok_or(TicketError::Mistyped)?;
        let malformed = |error: codec::DecodeError| TicketError::Malformed(error.to_string());
        let (mut body, coordinators) = match version {
            FULL => {
                let mut body: Body<InFull> =
                    codec::decode(body, limits::TICKET).map_err(malformed)?;
                let contacts = std::mem::take(&mut body.coordinators).into_iter();
                let contact = |(member, addresses)| Contact { member, addresses };
                (body.without_coordinators(), contacts.map(contact).collect())
            }
            VERSION => {
                let mut body: Body<Packed> =
                    codec::decode(body, limits::TICKET).map_err(malformed)?;
                let contacts = std::mem::take(&mut body.coordinators).into_iter();
                let contact = |(member, packed, others): Packed| {
                    let mut addresses =
                        packed::unpack(&packed).ok_or(TicketError::BadAddress(member))?;
                    addresses.extend(others);
                    Ok(Contact { member, addresses })
                };
                (
                    body.without_coordinators(),
                    contacts.map(contact).collect::<Result<Vec<_>, TicketError>>()?,
                )
            }
            newer => return Err(TicketError::Version(newer)),
        };
        let access = match (body.secret.take(), body.open.take()) {
            (Some(secret), None) => Access::Private(Secret::from_bytes(secret.0)),
            (None, Some(name)) => Access::Open { name },
            (Some(_), Some(_)) | (None, None) => {
                return Err(TicketError::Malformed("neither private nor open".to_owned()));
            }
        };
        Self::new(access, body.name.take(), coordinators)
    }
}

/// Why a text is no ticket, or a ticket cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not begin as tickets do.
    #[error("this is not a ticket: a ticket begins with {PREFIX}")]
    NotATicket,
    /// The checksum does not fit.
    #[error("the ticket is cut short or mistyped; copy it again, whole")]
    Mistyped,
    /// There is a character in it that no ticket has.
    #[error(
        "the ticket has the character {found:?} at position {at}, which no ticket has; copy it \
         again as one line of letters and the digits 2 to 7"
    )]
    Foreign {
        /// The first such character.
        found: char,
        /// Where, counted from 1.
        at: usize,
    },
    /// It was made by a later version of this program.
    #[error("the ticket has version {0}, this program knows version {VERSION}; update it")]
    Version(u8),
    /// It has more than [`limits::TICKET`] characters.
    #[error(
        "the ticket would be longer than {} characters; list fewer coordinators or addresses",
        limits::TICKET
    )]
    TooLong,
    /// It names nobody to ask.
    #[error("the ticket names no coordinator; ask for a new one")]
    NoCoordinator,
    /// It names more than [`limits::COORDINATORS`].
    #[error("the ticket names more than {} coordinators", limits::COORDINATORS)]
    TooManyCoordinators,
    /// It has more than [`limits::ADDRESSES`] addresses for one coordinator.
    #[error("the ticket has more than {most} addresses for coordinator {0}", most = limits::ADDRESSES)]
    TooManyAddresses(MemberId),
    /// An address is none, is too long or ends in a peer id.
    #[error("the ticket has an address for coordinator {0} that is none; ask for a new ticket")]
    BadAddress(MemberId),
    /// The name of the session is empty, has control characters or looks like a ticket, or is longer
    /// than [`limits::SESSION_NAME`].
    #[error(
        "the session's name must have 1 to {} bytes and no control characters, and must not begin \
         with {PREFIX}",
        limits::SESSION_NAME
    )]
    BadName,
    /// The checksum fits, but the content is no ticket.
    #[error("the ticket is damaged ({0}); ask for a new one")]
    Malformed(String),
}

/// A coordinator of version 1.
type InFull = (MemberId, Vec<Address>);

/// A coordinator: its addresses as far as they can be packed, and the others.
type Packed = (MemberId, ByteBuf, Vec<Address>);

/// The content on the wire. Exactly one of `secret` and `open` is there.
#[derive(Serialize, Deserialize)]
struct Body<C> {
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    secret: Option<Bytes>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    open: Option<String>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "c")]
    coordinators: Vec<C>,
}

impl<C> Body<C> {
    /// All else.
    fn without_coordinators(mut self) -> Body<()> {
        Body {
            secret: self.secret.take(),
            open: self.open.take(),
            name: self.name.take(),
            coordinators: Vec::new(),
        }
    }
}

/// The secret while it is read or written.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
struct Bytes(#[serde(with = "serde_bytes")] [u8; Secret::LEN]);

/// What follows the prefix, whose case does not matter.
fn strip_prefix(text: &str) -> Option<&str> {
    let (head, rest) = text.split_at_checked(PREFIX.len())?;
    head.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

const fn is_digit(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '2'..='7')
}

/// Length of a ticket of so many bytes as text.
const fn text_len(bytes: usize) -> usize {
    PREFIX.len() + (bytes * 8).div_ceil(5)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    let mut hasher = blake3::Hasher::new_derive_key("arborcast/1 ticket checksum");
    hasher.update(bytes).finalize_xof().fill(&mut sum);
    sum
}

fn check_name(name: &str) -> Result<(), TicketError> {
    let good = (1..=limits::SESSION_NAME).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !Ticket::looks_like(name);
    if good { Ok(()) } else { Err(TicketError::BadName) }
}

fn is_good(address: &Address) -> bool {
    address.multiaddr().is_some_and(|address| {
        !address.is_empty() && !matches!(address.iter().last(), Some(Protocol::P2p(_)))
    })
}

#[cfg(test)]
mod tests;
