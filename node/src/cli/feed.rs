//! From lines of input to messages of the session, in order, as fast as the session takes them.

use arborcast::{
    Node, SendError, Session,
    protocol::{
        id::{MemberId, SeqNo, ServiceId},
        limits,
    },
};
use futures::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::{
    input::{Body, Line},
    request::{self, Problem, Request},
    terminal,
};

/// What lines of input are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Each line is a message.
    Raw,
    /// Each line but the empty ones is a message: what people type.
    Typed,
    /// Each line is a JSON object.
    Json,
}

/// Messages on their way into the session that were handed over but have no number yet. Enough for
/// the engine to put many small ones into one frame.
const AHEAD: usize = 1024;

/// What came of a line, in order of the lines: the message's number and its only receiver.
pub(super) type Outcome = Result<(SeqNo, Option<MemberId>), Problem>;

/// A message that was handed over, or could not be.
type Handed =
    (u64, Option<OwnedSemaphorePermit>, Result<(arborcast::Queued, Option<MemberId>), Problem>);

/// Sends what comes from `lines` once `open` says so. The stream ends when the lines do.
pub(super) fn start(
    mut lines: mpsc::Receiver<Line>,
    format: Format,
    session: Session,
    node: Node,
    service: ServiceId,
    receiver: Option<MemberId>,
    mut open: watch::Receiver<bool>,
) -> impl Stream<Item = Outcome> {
    let (handed, queue) = mpsc::channel::<Handed>(AHEAD);
    tokio::spawn(async move {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        while let Some(Line { number, body, room }) = lines.recv().await {
            let outcome = match message(body, format) {
                None => continue,
                Some(Err(problem)) => Err(problem),
                Some(Ok(request)) => match addressed(request, format, &session).await {
                    Err(problem) => Err(problem),
                    Ok(Request::Rule(rule)) => {
                        rule.apply(&node).await;
                        continue;
                    }
                    Ok(Request::Send { payload, service: own, to }) => {
                        let (service, to) = (own.unwrap_or(service), to.or(receiver));
                        let queued = session.queue_to(to, service, payload).await;
                        queued.map(|queued| (queued, to)).map_err(problem)
                    }
                },
            };
            if handed.send((number, room, outcome)).await.is_err() {
                return;
            }
        }
    });
    stream::unfold(queue, move |mut queue| async move {
        let (number, room, outcome) = queue.recv().await?;
        let outcome = match outcome {
            Ok((queued, to)) => queued.seq().await.map(|seq| (seq, to)).map_err(problem),
            Err(problem) => Err(problem),
        };
        drop(room);
        let of_line = |problem: Problem| Problem {
            message: match format {
                Format::Typed => problem.message,
                Format::Raw | Format::Json => format!("line {number}: {}", problem.message),
            },
            ..problem
        };
        Some((outcome.map_err(of_line), queue))
    })
}

/// What a line asks for; `None` if for nothing.
fn message(body: Body, format: Format) -> Option<Result<Request, Problem>> {
    let line = match (body, format) {
        (Body::Bytes(line), _) => line,
        (Body::TooLong(bytes), Format::Json) => {
            return Some(Err(Problem::new(
                "message_too_large",
                format!(
                    "the line has {}; a message may have {}, which needs less",
                    terminal::size(bytes),
                    terminal::size(limits::MESSAGE as u64)
                ),
            )));
        }
        (Body::TooLong(bytes), Format::Raw | Format::Typed) => {
            return Some(Err(Problem::too_large(bytes)));
        }
    };
    match format {
        // A person that presses the return key says nothing, and so does white space in JSON.
        Format::Typed | Format::Json if line.trim_ascii().is_empty() => None,
        Format::Raw | Format::Typed => {
            Some(Ok(Request::Send { payload: line, service: None, to: None }))
        }
        Format::Json => Some(request::read(&line)),
    }
}

/// How a person says whom a line is for alone.
const TO: &[u8] = b"/to ";

/// What a person typed as `/to NAME text` is for that member alone.
async fn addressed(
    request: Request,
    format: Format,
    session: &Session,
) -> Result<Request, Problem> {
    let (Format::Typed, Request::Send { payload, service, .. }) = (format, &request) else {
        return Ok(request);
    };
    let Some(rest) = payload.strip_prefix(TO) else { return Ok(request) };
    let usage = || Problem::new("invalid_input", "say /to NAME TEXT, with a name or a peer id");
    let text = std::str::from_utf8(rest).map_err(|_| usage())?;
    let (name, text) = text.trim_start().split_once(' ').ok_or_else(usage)?;
    let to = match name.parse() {
        Ok(member) => member,
        Err(_) => named(name, session).await?,
    };
    Ok(Request::Send { payload: text.as_bytes().to_vec(), service: *service, to: Some(to) })
}

/// The member that people call so.
async fn named(name: &str, session: &Session) -> Result<MemberId, Problem> {
    let tree = session.tree().await;
    let members = tree.iter().flat_map(|(_, tree)| tree.members());
    let mut named = members.filter(|member| member.nick == name).map(|member| member.id);
    match (named.next(), named.next()) {
        (Some(member), None) => Ok(member),
        (Some(_), Some(_)) => Err(Problem::new(
            "unknown_peer",
            format!("several members are called {name:?}; say /to with a peer id"),
        )),
        (None, _) => Err(Problem::new(
            "unknown_peer",
            format!("nobody here is called {name:?}; `arborcast tree` shows who is there"),
        )),
    }
}

fn problem(error: SendError) -> Problem {
    match error {
        SendError::UnknownPeer(reason) => Problem::new("unknown_peer", reason),
        SendError::Rejected(reason) => Problem::new("rejected", reason),
        SendError::Closed => Problem::new("closed", "the session has ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Body {
        Body::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn a_pipe_sends_empty_lines_and_a_person_does_not() {
        let empty = Request::Send { payload: Vec::new(), service: None, to: None };
        assert_eq!(message(bytes(""), Format::Raw), Some(Ok(empty)));
        assert_eq!(message(bytes(" "), Format::Typed), None);
        assert_eq!(message(bytes("\r"), Format::Json), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_a_problem_in_every_format() {
        for format in [Format::Raw, Format::Typed, Format::Json] {
            let problem = message(Body::TooLong(1 << 30), format);
            let code = problem.and_then(Result::err).map(|problem| problem.code);
            assert_eq!(code, Some("message_too_large"));
        }
    }
}
