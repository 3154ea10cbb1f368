//! A message with its bytes and what the file says of it.

use std::fmt::Debug;

use bytes::Bytes;
use data_encoding::BASE32_NOPAD;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec,
    frame::Frame,
    limits,
    ticket::{self, Ticket},
};

/// One message with its bytes.
pub(super) struct Sample {
    pub(super) name: &'static str,
    /// What the head of the file says.
    pub(super) about: String,
    pub(super) form: Form,
    pub(super) bytes: Vec<u8>,
    /// Whether these bytes are decoded to this message.
    pub(super) decodes: Decodes,
}

type Decodes = Box<dyn Fn(&[u8]) -> bool>;

/// What the bytes are.
pub(super) enum Form {
    Cbor,
    /// Of a frame alone.
    Header,
    Frame,
    Ticket,
}

pub(super) fn cbor<T>(name: &'static str, about: &str, value: T) -> Sample
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    Sample {
        name,
        about: about.to_owned(),
        form: Form::Cbor,
        bytes: codec::encode(&value),
        decodes: Box::new(move |bytes| {
            codec::decode::<T>(bytes, limits::CONTROL_ANSWER).is_ok_and(|read| read == value)
        }),
    }
}

pub(super) fn ticket(name: &'static str, about: &str, ticket: Ticket) -> Sample {
    let text = ticket.to_string();
    let digits = text.strip_prefix(ticket::PREFIX).unwrap().to_ascii_uppercase();
    Sample {
        name,
        about: format!("{about}\nAs text:\n{text}"),
        form: Form::Ticket,
        bytes: BASE32_NOPAD.decode(digits.as_bytes()).unwrap(),
        decodes: Box::new(move |bytes| {
            let text = format!("{}{}", ticket::PREFIX, BASE32_NOPAD.encode(bytes));
            text.parse::<Ticket>().is_ok_and(|read| read == ticket)
        }),
    }
}

pub(super) fn frame(name: &'static str, about: &str, frame: Frame) -> Sample {
    Sample {
        name,
        about: about.to_owned(),
        form: Form::Frame,
        bytes: frame.bytes().to_vec(),
        decodes: Box::new(move |bytes| {
            Frame::decode(Bytes::copy_from_slice(bytes)).is_ok_and(|read| {
                read == frame && read.header() == frame.header() && read.proof() == frame.proof()
            })
        }),
    }
}
