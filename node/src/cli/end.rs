//! Why a member stops, and what that makes of the command.

use crate::protocol::refusal::Refusal;

use super::{
    Exit,
    failure::{Failure, refusal_code},
    receipts::Receipts,
    screen::Screen,
    terminal,
};

/// Why a member stops.
#[derive(Debug)]
pub(super) enum End {
    /// All input is sent, and delivered as far as could be waited for.
    Input,
    /// As many messages as were asked for have come.
    Enough,
    /// The process was asked to end.
    Asked,
    /// Nobody reads what is shown.
    ReaderGone,
    /// The coordinator ended the membership.
    Removed(Refusal),
    /// The node ended for no reason that it told.
    Closed,
    /// The coordinator of this process ended by itself.
    CoordinatorEnded,
}

impl End {
    /// How the command ends.
    pub(super) async fn outcome(
        &self,
        must_deliver: bool,
        receipts: &Receipts,
        failed_lines: u64,
        screen: &Screen<'_>,
    ) -> Result<(), Failure> {
        let open = receipts.open() + receipts.missed;
        let not_delivered = || {
            let all = terminal::count(receipts.taken, "message");
            if receipts.lacking.is_empty() {
                return format!(
                    "{open} of {all} not confirmed by all who should get them; `arborcast tree` shows \
                     who is there"
                );
            }
            let lacking = receipts.lacking.iter().map(|member| screen.roster.label(*member));
            let lacking = terminal::some_of(&lacking.collect::<Vec<_>>());
            format!(
                "{open} of {all} not confirmed by all who should get them: not by {lacking}, which \
                 stopped, are slow or have just gone"
            )
        };
        match self {
            Self::Asked if must_deliver && (open > 0 || failed_lines > 0) => {
                Err(Failure::failed("interrupted", format!("interrupted: {}", not_delivered())))
            }
            Self::Input if must_deliver && failed_lines > 0 => Err(Failure::failed(
                "not_sent",
                format!("{} not sent; see above", terminal::count(failed_lines, "message")),
            )),
            Self::Input if open > 0 => {
                if must_deliver {
                    return Err(Failure::failed("not_delivered", not_delivered()));
                }
                let _ = screen.problem("not_delivered", &not_delivered()).await;
                Ok(())
            }
            Self::Input if must_deliver && receipts.taken > 0 => {
                let messages = terminal::count(receipts.taken, "message");
                let text = match receipts.members {
                    0 => match screen.roster.elsewhere() {
                        0 => {
                            format!(
                                "nobody else is in the session: {messages} delivered to 0 members"
                            )
                        }
                        others => format!(
                            "nobody else is in reach, and {} of the session out of it: {messages} \
                         delivered to 0 members",
                            terminal::count(others as u64, "member"),
                        ),
                    },
                    members => {
                        let members = terminal::count(u64::from(members), "member");
                        format!("delivered {messages} to {members}")
                    }
                };
                let _ = screen.result(&text).await;
                Ok(())
            }
            Self::Input if must_deliver && receipts.live > 0 => {
                let messages = terminal::count(receipts.live, "message");
                let _ = screen.result(&format!("sent {messages} of class live")).await;
                Ok(())
            }
            Self::Input | Self::Enough | Self::Asked | Self::ReaderGone => Ok(()),
            Self::Removed(refusal) => Err(Failure {
                exit: Exit::NotAdmitted,
                code: refusal_code(refusal.code),
                message: refusal.message.clone(),
            }),
            Self::Closed => Err(Failure::failed("closed", "the session has ended")),
            Self::CoordinatorEnded => {
                Err(Failure::failed("coordinator_ended", "the coordinator of this process ended"))
            }
        }
    }
}
