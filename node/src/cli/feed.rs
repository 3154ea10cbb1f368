//! From lines of input to messages of the session, in order, as fast as the session takes them.

use std::str::FromStr;

use crate::{
    Node, SendError, Session,
    protocol::{
        id::{Class, MemberId, SeqNo, ServiceId},
        limits, opaque,
        tree::Tree,
    },
};
use futures::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::{
    input::{Body, Line},
    request::{self, Problem, Request},
    rules::Rule,
    terminal,
};

/// What lines of input are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// The only line is a whole file.
    File,
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

/// What came of a line, in order of the lines.
pub(super) type Outcome = Result<Done, Problem>;

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    /// A message was taken in.
    Sent(Taken),
    /// A rule is in force.
    Ruled(Rule),
}

/// A message that was taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    /// Its number.
    pub(super) seq: SeqNo,
    /// Its class.
    pub(super) class: Class,
    /// Its only receiver; `None`: all.
    pub(super) to: Option<MemberId>,
}

/// What was handed over.
enum Doing {
    /// A message, its class and its only receiver.
    Send(crate::Queued, Class, Option<MemberId>),
    Ruled(Rule),
}

/// The same with the number of its line; or why it could not be.
type Handed = (u64, Option<OwnedSemaphorePermit>, Result<Doing, Problem>);

/// Whom messages are for, as people say it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Receiver {
    Member(MemberId),
    /// By the name of exactly one member of the tree.
    Named(String),
}

impl FromStr for Receiver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(member) => Ok(Self::Member(member)),
            Err(error) => match opaque::typed(text.trim()) {
                Ok(name) => Ok(Self::Named(name.to_string())),
                Err(_) => Err(format!("neither a name nor a peer id: {error}")),
            },
        }
    }
}

impl Receiver {
    fn resolve(&self, session: &Session) -> Result<MemberId, Problem> {
        match self {
            Self::Member(member) => Ok(*member),
            Self::Named(name) => named(name, session),
        }
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) format: Format,
    pub(super) session: Session,
    pub(super) node: Node,
    /// The service of messages that name none.
    pub(super) service: ServiceId,
    /// The class of messages that name none.
    pub(super) class: Class,
    /// The only receiver of messages that name none; `None`: all.
    pub(super) to: Option<Receiver>,
    /// Says when to begin...
    pub(super) open: watch::Receiver<bool>,
    /// ...and is told when there is something to begin with.
    pub(super) begun: watch::Sender<bool>,
    /// Somebody was told that a pipe is not looked into.
    pub(super) told: bool,
}

impl Feed {
    /// Sends what comes from `lines` once `open` says so. The stream ends when the lines do.
    pub(super) fn start(mut self, mut lines: mpsc::Receiver<Line>) -> impl Stream<Item = Outcome> {
        let (handed, queue) = mpsc::channel::<Handed>(AHEAD);
        let format = self.format;
        tokio::spawn(async move {
            let mut first = lines.recv().await;
            self.begun.send_replace(first.is_some());
            if self.open.wait_for(|open| *open).await.is_err() {
                return;
            }
            loop {
                let line = match first.take() {
                    Some(line) => Some(line),
                    None => lines.recv().await,
                };
                let Some(Line { number, body, room }) = line else { return };
                let Some(outcome) = self.hand_over(body).await else { continue };
                if handed.send((number, room, outcome)).await.is_err() {
                    return;
                }
            }
        });
        outcomes(queue, format)
    }

    /// Does what a line asks for. `None` if there is nothing to wait for.
    async fn hand_over(&mut self, body: Body) -> Option<Result<Doing, Problem>> {
        self.warn_of_address(&body);
        let request = match message(body, self.format)? {
            Ok(request) => addressed(request, self.format, &self.session),
            Err(problem) => Err(problem),
        };
        match request {
            Err(problem) => Some(Err(problem)),
            Ok(Request::Rule(rule)) => {
                Some(rule.apply(&self.node).await.map(|()| Doing::Ruled(rule)))
            }
            Ok(Request::Send { payload, service, class, to }) => {
                let to = match to {
                    Some(to) => Some(to),
                    None => match self.receiver() {
                        Ok(to) => to,
                        Err(problem) => return Some(Err(problem)),
                    },
                };
                let service = service.unwrap_or(self.service);
                let class = class.unwrap_or(self.class);
                if class == Class::Live && to.is_some() {
                    return Some(Err(live_alone()));
                }
                let message = self.session.message(payload).service(service).class(class);
                let message = match to {
                    Some(to) => message.to(to),
                    None => message,
                };
                let queued = message.send().await;
                Some(queued.map(|queued| Doing::Send(queued, class, to)).map_err(problem))
            }
        }
    }

    /// Who gets what names no receiver. Once found, it stays the same whoever comes.
    fn receiver(&mut self) -> Result<Option<MemberId>, Problem> {
        let Some(receiver) = &self.to else { return Ok(None) };
        let member = receiver.resolve(&self.session)?;
        self.to = Some(Receiver::Member(member));
        Ok(Some(member))
    }

    /// Tells once that a pipe is not looked into: its bytes are messages as they are.
    fn warn_of_address(&mut self, body: &Body) {
        if !self.told && self.to.is_none() && looks_addressed(body, self.format) {
            self.told = true;
            tracing::warn!(
                "a line that begins with /to was sent to all as it stands, as is all that comes \
                 through a pipe; `arborcast send --to NAME`, or --json with \"to\", sends to one"
            );
        }
    }
}

/// Whether somebody may have meant a line of a pipe for one member.
fn looks_addressed(body: &Body, format: Format) -> bool {
    match (format, body) {
        (Format::Raw, Body::Bytes(line)) => line.starts_with(TO),
        (Format::Raw, Body::TooLong(_))
        | (Format::File | Format::Typed | Format::Json, Body::Bytes(_) | Body::TooLong(_)) => false,
    }
}

/// What came of each line, in order, once it is known.
fn outcomes(queue: mpsc::Receiver<Handed>, format: Format) -> impl Stream<Item = Outcome> {
    stream::unfold(queue, move |mut queue| async move {
        let (number, room, outcome) = queue.recv().await?;
        let outcome = match outcome {
            Ok(Doing::Send(queued, class, to)) => {
                let taken = |seq| Done::Sent(Taken { seq, class, to });
                queued.seq().await.map(taken).map_err(problem)
            }
            Ok(Doing::Ruled(rule)) => Ok(Done::Ruled(rule)),
            Err(problem) => Err(problem),
        };
        drop(room);
        let of_line = |problem: Problem| Problem {
            message: match format {
                Format::File | Format::Typed => problem.message,
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
        (Body::TooLong(bytes), Format::File | Format::Raw | Format::Typed) => {
            return Some(Err(Problem::too_large(bytes)));
        }
    };
    match format {
        // A person that presses the return key says nothing, and so does white space in JSON.
        Format::Typed | Format::Json if line.trim_ascii().is_empty() => None,
        Format::File | Format::Raw | Format::Typed => {
            Some(Ok(Request::Send { payload: line, service: None, class: None, to: None }))
        }
        Format::Json => Some(request::read(&line)),
    }
}

/// How a person says whom a line is for alone.
const TO: &[u8] = b"/to ";

/// What a person typed as `/to NAME text` is for that member alone.
fn addressed(request: Request, format: Format, session: &Session) -> Result<Request, Problem> {
    let (Format::Typed, Request::Send { payload, service, class, .. }) = (format, &request) else {
        return Ok(request);
    };
    let Some(rest) = payload.strip_prefix(TO) else { return Ok(request) };
    let usage = || Problem::new("invalid_input", "say /to NAME TEXT, with a name or a peer id");
    let text = std::str::from_utf8(rest).map_err(|_| usage())?;
    let (name, text) = text.trim_start().split_once(' ').ok_or_else(usage)?;
    let to = name.parse::<Receiver>().map_err(|_| usage())?.resolve(session)?;
    let payload = text.as_bytes().to_vec();
    Ok(Request::Send { payload, service: *service, class: *class, to: Some(to) })
}

/// The other member that people call so.
fn named(name: &str, session: &Session) -> Result<MemberId, Problem> {
    let unknown = |message: String| Err(Problem::new("unknown_peer", message));
    let Some((_, tree)) = session.tree() else {
        return unknown(format!(
            "this member knows no tree in which to look for {name:?}; say it with a peer id"
        ));
    };
    match one_named(name, session.member_id(), &tree) {
        Ok(Some(member)) => Ok(member),
        Ok(None) => unknown(format!(
            "nobody else here is called {name:?}; `arborcast tree` shows who is there"
        )),
        Err(Several) => {
            unknown(format!("several members are called {name:?}; say it with a peer id"))
        }
    }
}

/// A name that does not tell members apart.
#[derive(PartialEq, Eq, Debug)]
struct Several;

fn one_named(name: &str, own: MemberId, tree: &Tree) -> Result<Option<MemberId>, Several> {
    let others = tree.members().filter(|member| member.nick == name && member.id != own);
    let mut named = others.map(|member| member.id);
    match (named.next(), named.next()) {
        (_, Some(_)) => Err(Several),
        (found, None) => Ok(found),
    }
}

/// A message of class live that is for one member alone.
fn live_alone() -> Problem {
    Problem::new(
        "unsupported",
        "class live is for all members: leave the receiver out, or send with class reliable",
    )
}

fn problem(error: SendError) -> Problem {
    match error {
        SendError::Rejected(why) if why.is_unknown_peer() => {
            Problem::new("unknown_peer", why.to_string())
        }
        SendError::Rejected(why) => Problem::new("rejected", why.to_string()),
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
        let empty = Request::Send { payload: Vec::new(), service: None, class: None, to: None };
        assert_eq!(message(bytes(""), Format::Raw), Some(Ok(empty)));
        assert_eq!(message(bytes(" "), Format::Typed), None);
        assert_eq!(message(bytes("\r"), Format::Json), None);
    }

    #[test]
    fn a_pipe_is_not_looked_into_and_who_may_think_so_is_told() {
        let line = "/to bea hello";
        let as_it_is = Request::Send {
            payload: line.as_bytes().to_vec(),
            service: None,
            class: None,
            to: None,
        };
        assert_eq!(message(bytes(line), Format::Raw), Some(Ok(as_it_is)));
        assert!(looks_addressed(&bytes(line), Format::Raw));
        assert!(!looks_addressed(&bytes("/tomorrow"), Format::Raw));
        for format in [Format::File, Format::Typed, Format::Json] {
            assert!(!looks_addressed(&bytes(line), format), "{format:?}");
        }
    }

    #[test]
    fn r9_a_receiver_is_a_peer_id_or_the_name_of_one_other_member() {
        use crate::protocol::{id::Incarnation, tree::Member};

        let [own, bea, cy, other_cy] = [1, 2, 3, 4].map(|n| MemberId::from_bytes([n; 32]));
        let member = |(id, nick): (MemberId, &str)| Member {
            id,
            incarnation: Incarnation::from_bytes([0; 16]),
            nick: nick.to_owned(),
            group: 0,
        };
        let members = [(own, "bea"), (bea, "bea"), (cy, "cy"), (other_cy, "cy")].map(member);
        let tree = Tree::new(members, [], []).expect("is a tree");
        assert_eq!(one_named("bea", own, &tree), Ok(Some(bea)));
        assert_eq!(one_named("cy", own, &tree), Err(Several));
        assert_eq!(one_named("bea", bea, &tree), Ok(Some(own)));
        assert_eq!(one_named("dee", own, &tree), Ok(None));
        assert_eq!(own.to_string().parse(), Ok(Receiver::Member(own)));
        assert_eq!(" bea ".parse(), Ok(Receiver::Named("bea".to_owned())));
        assert!(" ".parse::<Receiver>().is_err());
    }

    #[test]
    fn a_line_that_is_too_long_is_a_problem_in_every_format() {
        for format in [Format::File, Format::Raw, Format::Typed, Format::Json] {
            let problem = message(Body::TooLong(1 << 30), format);
            let code = problem.and_then(Result::err).map(|problem| problem.code);
            assert_eq!(code, Some("message_too_large"));
        }
    }
}
