//! A line of input in JSON: what programs write to have something sent, or a channel changed.

use crate::protocol::{
    id::{Class, MemberId, ServiceId},
    limits,
};
use data_encoding::{BASE64, BASE64_NOPAD};
use serde::Deserialize;

use super::{rules::Rule, terminal};

/// A line of input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    send: Option<String>,
    send_b64: Option<String>,
    service: Option<u32>,
    class: Option<Class>,
    to: Option<String>,
    impair: Option<String>,
    deny: Option<String>,
    allow: Option<String>,
}

/// What a line of input asks for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// To send something.
    Send {
        /// The message.
        payload: Vec<u8>,
        /// Its service, if it names one.
        service: Option<ServiceId>,
        /// Its class, if it names one.
        class: Option<Class>,
        /// Its only receiver, if it is not for all.
        to: Option<MemberId>,
    },
    /// To change a channel.
    Rule(Rule),
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
const EXAMPLE: &str = r#"a line looks like {"send":"text"} or {"send_b64":"aGVsbG8="}, with "to", "service" or "class" if need be"#;

/// Reads a line of input.
pub(super) fn read(line: &[u8]) -> Result<Request, Problem> {
    // An array would be read as the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new("invalid_input", format!("not a JSON object; {EXAMPLE}")));
    }
    let input: Input = serde_json::from_slice(line)
        .map_err(|error| Problem::new("invalid_input", format!("{error}; {EXAMPLE}")))?;
    if let Some(rule) = rule(&input)? {
        return Ok(Request::Rule(rule));
    }
    let to =
        input.to.map(|to| to.parse::<MemberId>()).transpose().map_err(|error| {
            Problem::new("invalid_input", format!("\"to\" names nobody: {error}"))
        })?;
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
    Ok(Request::Send { payload, service: input.service.map(ServiceId), class: input.class, to })
}

/// What a line asks of a channel, if anything.
fn rule(input: &Input) -> Result<Option<Rule>, Problem> {
    let wrong = |name: &str, error: &dyn std::fmt::Display| {
        Problem::new("invalid_input", format!("\"{name}\": {error}"))
    };
    let rule = match (&input.impair, &input.deny, &input.allow) {
        (None, None, None) => return Ok(None),
        (Some(impair), None, None) => {
            Rule::Impair(impair.parse().map_err(|error| wrong("impair", &error))?)
        }
        (None, Some(deny), None) => {
            Rule::Deny(deny.parse().map_err(|error| wrong("deny", &error))?)
        }
        (None, None, Some(allow)) => {
            Rule::Allow(allow.parse().map_err(|error| wrong("allow", &error))?)
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            return Err(Problem::new(
                "invalid_input",
                "give one of \"impair\", \"deny\" and \"allow\" in a line",
            ));
        }
    };
    let sends = input.send.is_some() || input.send_b64.is_some();
    if sends || input.service.is_some() || input.class.is_some() || input.to.is_some() {
        return Err(Problem::new(
            "invalid_input",
            "a line either sends something or changes a channel, not both",
        ));
    }
    Ok(Some(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_text_or_base64_with_an_optional_service() {
        let text = read(br#"{"send":"a\nb","service":9}"#);
        let expected = Request::Send {
            payload: b"a\nb".to_vec(),
            service: Some(ServiceId(9)),
            class: None,
            to: None,
        };
        assert_eq!(text, Ok(expected));
        for encoded in ["//4=", "//4"] {
            let data = read(format!(r#"{{"send_b64":"{encoded}"}}"#).as_bytes());
            assert_eq!(
                data,
                Ok(Request::Send {
                    payload: vec![0xff, 0xfe],
                    service: None,
                    class: None,
                    to: None
                })
            );
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
            b"{\"deny\":\"nobody\"}",
            b"{\"allow\":\"\"}",
            b"{\"impair\":\"delay=40ms\"}",
        ] {
            let problem = read(bad).map_err(|problem| problem.code);
            assert_eq!(problem, Err("invalid_input"), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn channels_are_changed_one_in_a_line_and_by_nothing_else() {
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let line = |name: &str, more: &str| format!(r#"{{"{name}":"{peer}{more}"}}"#);
        for line in [line("deny", ""), line("allow", ""), line("impair", ":none")] {
            assert!(matches!(read(line.as_bytes()), Ok(Request::Rule(_))), "{line}");
        }
        let problem = read(line("impair", ":loss=7").as_bytes()).expect_err("too much");
        assert!(problem.message.contains("loss=7"), "{}", problem.message);
        for both in [r#""send":"a""#, r#""service":1"#, &format!(r#""allow":"{peer}""#)] {
            let line = format!(r#"{{"deny":"{peer}",{both}}}"#);
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn r16_a_line_can_name_a_class() {
        let class = |line: &str| match read(line.as_bytes()) {
            Ok(Request::Send { class, .. }) => class,
            other => panic!("{other:?}"),
        };
        assert_eq!(class(r#"{"send":"a","class":"live"}"#), Some(Class::Live));
        assert_eq!(class(r#"{"send":"a","class":"reliable"}"#), Some(Class::Reliable));
        assert_eq!(class(r#"{"send":"a"}"#), None);
    }

    #[test]
    fn r9_a_receiver_is_a_peer_id_and_anything_else_is_told_so() {
        let to = MemberId::from_bytes([7; 32]);
        let request = read(format!(r#"{{"send":"a","to":"{to}"}}"#).as_bytes());
        let sent =
            Request::Send { payload: b"a".to_vec(), service: None, class: None, to: Some(to) };
        assert_eq!(request, Ok(sent));
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
