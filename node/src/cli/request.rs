//! A line of input in JSON: what programs write to have something sent.

use arborcast::protocol::{
    id::{Class, MemberId, ServiceId},
    limits,
};
use data_encoding::{BASE64, BASE64_NOPAD};
use serde::Deserialize;

use super::terminal;

/// A line of input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    send: Option<String>,
    send_b64: Option<String>,
    service: Option<u32>,
    class: Option<Class>,
    to: Option<String>,
}

/// What a line of input asks for.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Request {
    /// The message.
    pub(super) payload: Vec<u8>,
    /// Its service, if it names one.
    pub(super) service: Option<ServiceId>,
    /// Its only receiver, if it is not for all.
    pub(super) to: Option<MemberId>,
}

/// What is wrong with a line of input, or with a message.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A message of so many bytes is too large.
    pub(super) fn too_large(bytes: u64) -> Self {
        Self::new(
            "message_too_large",
            format!(
                "message is {}, the limit is {}: cut it into several messages",
                terminal::size(bytes),
                terminal::size(limits::MESSAGE as u64)
            ),
        )
    }
}

/// How a line of input looks, for those whose line does not.
const EXAMPLE: &str = r#"a line looks like {"send":"text"} or {"send_b64":"aGVsbG8="}"#;

/// Reads a line of input.
pub(super) fn read(line: &[u8]) -> Result<Request, Problem> {
    // An array would be read as the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new("invalid_input", format!("not a JSON object; {EXAMPLE}")));
    }
    let input: Input = serde_json::from_slice(line)
        .map_err(|error| Problem::new("invalid_input", format!("{error}; {EXAMPLE}")))?;
    let to =
        input.to.map(|to| to.parse::<MemberId>()).transpose().map_err(|error| {
            Problem::new("invalid_input", format!("\"to\" names nobody: {error}"))
        })?;
    match input.class {
        None | Some(Class::Reliable) => {}
        Some(Class::Live) => {
            return Err(Problem::new(
                "unsupported",
                "class \"live\" is not supported yet; leave \"class\" out to send reliably",
            ));
        }
    }
    let payload = match (input.send, input.send_b64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(encoded)) => BASE64
            .decode(encoded.as_bytes())
            .or_else(|error| BASE64_NOPAD.decode(encoded.as_bytes()).map_err(|_| error))
            .map_err(|error| {
                Problem::new("invalid_input", format!("\"send_b64\" is not base64: {error}"))
            })?,
        (None, None) => {
            return Err(Problem::new("invalid_input", format!("nothing to send; {EXAMPLE}")));
        }
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                "invalid_input",
                "give either \"send\" or \"send_b64\", not both",
            ));
        }
    };
    if payload.len() > limits::MESSAGE {
        return Err(Problem::too_large(payload.len() as u64));
    }
    Ok(Request { payload, service: input.service.map(ServiceId), to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_text_or_base64_with_an_optional_service() {
        let text = read(br#"{"send":"a\nb","service":9}"#);
        let expected = Request { payload: b"a\nb".to_vec(), service: Some(ServiceId(9)), to: None };
        assert_eq!(text, Ok(expected));
        for encoded in ["//4=", "//4"] {
            let data = read(format!(r#"{{"send_b64":"{encoded}"}}"#).as_bytes());
            assert_eq!(data, Ok(Request { payload: vec![0xff, 0xfe], service: None, to: None }));
        }
        assert!(read(br#"{"send":"","class":"reliable"}"#).is_ok());
    }

    #[test]
    fn wrong_input_is_told_what_is_wrong() {
        for bad in [
            &b"hello"[..],
            b"",
            b"{}",
            b"[]",
            b"[\"arr\",null,null,null,null]",
            b"\"send\"",
            b"{\"send\":7}",
            b"{\"send\":null}",
            b"{\"sned\":\"x\"}",
            b"{\"send\":\"a\",\"send_b64\":\"\"}",
            b"{\"send_b64\":\"?\"}",
            b"{\"send\":\"a\",\"service\":-1}",
            b"{\"send\":\"a\",\"service\":4294967296}",
            b"{\"send\":\"a\",\"class\":\"fast\"}",
            b"{\"send\":\"a\"} {\"send\":\"b\"}",
            b"{\"send\":\"\xff\"}",
            b"{\"send\":\"a\"",
        ] {
            let problem = read(bad).map_err(|problem| problem.code);
            assert_eq!(problem, Err("invalid_input"), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn what_does_not_exist_yet_is_refused_by_name() {
        let problem = read(br#"{"send":"a","class":"live"}"#).map_err(|problem| problem.code);
        assert_eq!(problem, Err("unsupported"));
    }

    #[test]
    fn r9_a_receiver_is_a_peer_id_and_anything_else_is_told_so() {
        let to = MemberId::from_bytes([7; 32]);
        let request = read(format!(r#"{{"send":"a","to":"{to}"}}"#).as_bytes());
        assert_eq!(request.map(|request| request.to), Ok(Some(to)));
        for wrong in ["x", "", "bea", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"] {
            let problem = read(format!(r#"{{"send":"a","to":"{wrong}"}}"#).as_bytes()).unwrap_err();
            assert_eq!(problem.code, "invalid_input");
            assert!(problem.message.contains("12D3KooW"), "{}", problem.message);
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = "[".repeat(1 << 20);
        assert!(read(deep.as_bytes()).is_err());
    }
}
