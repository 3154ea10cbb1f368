//! What a member shows of its session: JSON for programs, lines for pipes, more for people.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    Event, LossReason, Message, MissReason, Multiaddr, SilenceReason,
    protocol::id::{MemberId, SeqNo},
};

use libp2p::multiaddr::Protocol;

use super::{
    complain, json,
    output::{Output, ReaderGone},
    roster::Roster,
    rules::Rule,
    terminal,
};

/// How things are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// All as JSON on standard output.
    Json,
    /// All as text on standard output, which is a terminal.
    Chat,
    /// Messages alone on standard output, which may be a file; trouble on standard error.
    Lines,
}

impl Style {
    /// The style for a command that shows messages.
    pub(super) fn for_standard_output(json: bool) -> Self {
        use std::io::IsTerminal as _;
        match (json, std::io::stdout().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Chat,
            (false, false) => Self::Lines,
        }
    }
}

/// A member that was let in, as it is shown.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) peer_id: String,
    pub(super) listen: Vec<Multiaddr>,
    pub(super) session: String,
    pub(super) ticket: Option<String>,
    /// For people.
    pub(super) text: Vec<String>,
    /// Whether the text is what the command was called for, so that files want it too.
    pub(super) text_is_result: bool,
}

/// Shows what happens.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    output: &'a Output,
    style: Style,
    messages: &'a Messages,
    /// Who is there.
    pub(super) roster: Roster,
    /// The neighbours last shown to people.
    shown_neighbours: Option<String>,
}

/// What becomes of messages.
#[derive(Debug)]
pub(super) enum Messages {
    /// Nothing.
    Hidden,
    /// They are shown like all else.
    Shown,
    /// Their bytes go to standard output, and nothing else does.
    Raw,
    /// Their bytes go there.
    Saved(Output),
}

/// The longest message that fills a screen, in bytes.
const SCREENFUL: usize = 16 << 10;

type Shown = Result<(), ReaderGone>;

impl<'a> Screen<'a> {
    pub(super) const fn new(
        output: &'a Output,
        style: Style,
        messages: &'a Messages,
        roster: Roster,
    ) -> Self {
        Self { output, style, messages, roster, shown_neighbours: None }
    }

    /// Waits until nobody looks any more, or messages cannot be saved any more.
    pub(super) async fn reader_gone(&self) {
        match self.messages {
            Messages::Saved(saved) => tokio::select! {
                () = saved.reader_gone() => {}
                () = self.output.reader_gone() => {}
            },
            Messages::Hidden | Messages::Shown | Messages::Raw => self.output.reader_gone().await,
        }
    }

    /// The member is let in.
    pub(super) async fn ready(&self, ready: Ready) -> Shown {
        if self.style == Style::Json {
            // Whoever takes the first one wants to get there without a detour.
            let mut listen = ready.listen;
            listen.sort_by_key(is_circuit);
            let line = json::Line::Ready {
                peer_id: ready.peer_id,
                listen: listen.iter().map(ToString::to_string).collect(),
                session: ready.session,
                ticket: ready.ticket,
            };
            return self.output.line(&line.text()).await;
        }
        if self.style == Style::Chat || ready.text_is_result {
            for line in &ready.text {
                self.output.line(line).await?;
            }
        }
        Ok(())
    }

    /// Something happened. Learns names from it.
    pub(super) async fn event(&mut self, event: &Event) -> Shown {
        self.roster.learn(event);
        if let Event::Message(message) = event {
            let name = || format!("{}-{}", message.source, message.seq);
            match self.messages {
                Messages::Hidden => return Ok(()),
                Messages::Shown => {}
                Messages::Raw => return self.output.bytes(&message.payload, name()).await,
                Messages::Saved(saved) => return saved.bytes(&message.payload, name()).await,
            }
        }
        match self.style {
            Style::Json => self.event_as_json(event).await,
            Style::Chat => self.event_as_text(event).await,
            Style::Lines => self.event_for_pipes(event).await,
        }
    }

    async fn event_as_json(&self, event: &Event) -> Shown {
        let line = match event {
            Event::Message(message) => json::message(message),
            Event::Joined(member) => json::Line::Joined(member.into()).text(),
            Event::Left(member) => json::Line::Left(member.into()).text(),
            Event::Tree(tree) => json::Line::Tree(json::Tree::new(self.roster.own(), tree)).text(),
            Event::Channel(channel) => json::Line::Channel(channel.into()).text(),
            Event::Lost { flow, from, to, reason } => json::lost(flow, *from, *to, *reason),
            Event::CoordinatorLost(why) => json::error("coordinator_lost", &offline(why)),
            Event::Detached(refusal) => json::error("detached", &refusal.message),
            Event::Warning(warning) => json::error("warning", &warning.to_string()),
            Event::CoordinatorBack => json::Line::CoordinatorBack {}.text(),
            // Receipts are shown by message, and the end as the command's outcome.
            Event::Delivered { .. }
            | Event::Missed { .. }
            | Event::NotSent { .. }
            | Event::Ended(_) => return Ok(()),
        };
        self.output.line(&line).await
    }

    async fn event_as_text(&mut self, event: &Event) -> Shown {
        let line = match event {
            Event::Message(message) => self.message_as_text(message, SCREENFUL),
            Event::Joined(member) => format!("  + {} joined", self.roster.label(member.member)),
            Event::Left(member) => format!("  - {} left", self.roster.label(member.member)),
            Event::Tree(tree) if self.roster.is_in_tree() => {
                let mut names: Vec<String> =
                    tree.neighbours.iter().map(|member| self.roster.label(*member)).collect();
                names.sort();
                let names = names.join(", ");
                if self.shown_neighbours.as_ref() == Some(&names) {
                    return Ok(());
                }
                let present = terminal::count(self.roster.present() as u64, "member");
                let line = match names.as_str() {
                    "" => format!("  · {present}"),
                    names => format!("  · {present} · next to you in the tree: {names}"),
                };
                self.shown_neighbours = Some(names);
                line
            }
            Event::Lost { flow, from, to, reason } => {
                format!("  ! {}", lost(&self.roster.label(flow.source), *from, *to, *reason))
            }
            Event::Missed { to, from, last, reason } => {
                format!("  ! {}", missed(&self.roster.label(*to), *from, *last, *reason))
            }
            Event::CoordinatorLost(why) => format!("  ! {}", terminal::printable(&offline(why))),
            Event::Detached(refusal) => format!("  ! {}", terminal::printable(&refusal.message)),
            Event::CoordinatorBack => "  · the coordinator answers again".to_owned(),
            Event::Warning(warning) => format!("  ! {warning}"),
            // Channels change often; `arborcast status` shows them.
            Event::Tree(_)
            | Event::Channel(_)
            | Event::Delivered { .. }
            | Event::NotSent { .. }
            | Event::Ended(_) => return Ok(()),
        };
        self.output.line(&line).await
    }

    async fn event_for_pipes(&self, event: &Event) -> Shown {
        match event {
            Event::Message(message) => {
                let line = self.message_as_text(message, usize::MAX);
                return self.output.line(&line).await;
            }
            Event::Lost { flow, from, to, reason } => {
                complain(&lost(&self.roster.label(flow.source), *from, *to, *reason));
            }
            Event::Missed { to, from, last, reason } => {
                complain(&missed(&self.roster.label(*to), *from, *last, *reason));
            }
            Event::CoordinatorLost(why) => complain(&offline(why)),
            Event::Detached(refusal) => complain(&refusal.message),
            Event::Warning(warning) => complain(&warning.to_string()),
            Event::NotSent { .. }
            | Event::Joined(_)
            | Event::Left(_)
            | Event::Tree(_)
            | Event::Channel(_)
            | Event::Delivered { .. }
            | Event::CoordinatorBack
            | Event::Ended(_) => {}
        }
        Ok(())
    }

    fn message_as_text(&self, message: &Message, most: usize) -> String {
        let mut who = self.roster.label(message.source);
        if message.to.is_some() {
            who.push_str(" (to you alone)");
        }
        match std::str::from_utf8(&message.payload) {
            Ok(text) => format!("{who}: {}", terminal::paragraph(&terminal::shortened(text, most))),
            Err(_) => format!("{who}: <{} bytes>", message.payload.len()),
        }
    }

    /// A message of this member was taken in.
    pub(super) async fn taken(&self, seq: SeqNo) -> Shown {
        match self.style {
            Style::Json => self.output.line(&json::taken(seq)).await,
            Style::Chat | Style::Lines => Ok(()),
        }
    }

    /// A rule about a channel is in force. Whether the member is there shows a mistyped name; one
    /// that is not may come later.
    pub(super) async fn ruled(&self, rule: &Rule) -> Shown {
        let peer = rule.peer();
        let line = json::Line::Ruled {
            rule: rule.name(),
            peer_id: peer.to_string(),
            present: self.roster.is_present(peer),
        };
        self.json_line(&line.text()).await
    }

    /// All present members have a message of this one.
    pub(super) async fn delivered(&self, seq: u64, members: u32, took: Duration) -> Shown {
        match self.style {
            Style::Json => self.output.line(&json::delivered(seq, members)).await,
            Style::Chat => {
                let line = match members {
                    0 => "  · nobody else is here".to_owned(),
                    members => format!("  ✓ delivered to {members} in {} ms", took.as_millis()),
                };
                self.output.line(&line).await
            }
            Style::Lines => Ok(()),
        }
    }

    /// Some do not have a message in time. People are told at the end, of all messages together.
    pub(super) async fn lacking(&self, seq: SeqNo, members: u32, missing: &[MemberId]) -> Shown {
        match self.style {
            Style::Json => {
                let missing = self.peers(missing);
                self.output.line(&json::lacking(seq, members, missing)).await
            }
            Style::Chat | Style::Lines => Ok(()),
        }
    }

    /// The only receiver of a message left without it. People are told by the event.
    pub(super) async fn missed(&self, seq: u64, by: MemberId) -> Shown {
        match self.style {
            Style::Json => {
                let nick = self.roster.nick(by).to_owned();
                let by = json::Peer { peer_id: by.to_string(), nick };
                self.output.line(&json::missed(seq, by)).await
            }
            Style::Chat | Style::Lines => Ok(()),
        }
    }

    /// Something is wrong, and the process goes on.
    pub(super) async fn problem(&self, code: &str, message: &str) -> Shown {
        match self.style {
            Style::Json => self.output.line(&json::error(code, message)).await,
            Style::Chat => self.output.line(&format!("  ! {}", terminal::printable(message))).await,
            Style::Lines => {
                complain(message);
                Ok(())
            }
        }
    }

    /// Members as people know them.
    fn peers<'m>(&self, members: impl IntoIterator<Item = &'m MemberId>) -> Vec<json::Peer> {
        let peer = |member: &MemberId| json::Peer {
            peer_id: member.to_string(),
            nick: self.roster.nick(*member).to_owned(),
        };
        members.into_iter().map(peer).collect()
    }

    /// Who keeps this member's messages waiting, and for how long.
    pub(super) async fn waiting(&self, lasted: Duration, behind: &BTreeSet<MemberId>) -> Shown {
        match self.style {
            Style::Json => self.output.line(&json::waiting(lasted, self.peers(behind))).await,
            Style::Chat => {
                let names: Vec<String> =
                    behind.iter().map(|member| self.roster.label(*member)).collect();
                let names = terminal::some_of(&names);
                let text = format!("  ! {names} has kept you waiting for {} s", lasted.as_secs());
                self.output.line(&text).await
            }
            // What these wait for is told with a code of its own.
            Style::Lines => Ok(()),
        }
    }

    /// A line as it is, for JSON readers alone.
    pub(super) async fn json_line(&self, line: &str) -> Shown {
        match self.style {
            Style::Json => self.output.line(line).await,
            Style::Chat | Style::Lines => Ok(()),
        }
    }

    /// What the command has done, for people.
    pub(super) async fn result(&self, text: &str) -> Shown {
        match self.style {
            Style::Json => Ok(()),
            Style::Chat | Style::Lines => self.output.line(text).await,
        }
    }
}

fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

fn lost(source: &str, from: SeqNo, to: SeqNo, reason: LossReason) -> String {
    let which =
        if from == to { format!("message {from}") } else { format!("messages {from} to {to}") };
    format!("lost {which} of {source}: {reason}")
}

fn missed(by: &str, from: SeqNo, last: SeqNo, reason: MissReason) -> String {
    let which = if from == last {
        format!("message {from}")
    } else {
        format!("messages {from} to {last}, as far as they were for it alone,")
    };
    format!("{by} does not get {which}: {reason}")
}

fn offline(why: &SilenceReason) -> String {
    format!(
        "the coordinator does not answer ({why}); messages flow on among members that are \
         connected, nobody can join, and if a member dies now, senders wait until the coordinator \
         is back"
    )
}
