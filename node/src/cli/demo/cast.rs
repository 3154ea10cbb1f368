//! The processes of the demonstration, and what has been heard from them. They end with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
    process::Stdio,
    time::Duration,
};

use arborcast_net::store::Identity;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    time::Instant,
};

use super::{
    super::{failure::Failure, json},
    PATIENCE,
    figure::{CHANNELS, NAMES, Pair, denied},
    heard::{Crossed, Heard, Ready},
};

/// How often members tell what they have counted, in seconds.
const STATS_INTERVAL: &str = "0.2";
/// Lines on their way from the members.
const LINES: usize = 4096;

/// All processes.
#[derive(Debug)]
pub(super) struct Cast {
    members: Vec<Member>,
    /// By position in [`NAMES`]; `None` when a member's output has ended.
    heard: mpsc::Receiver<(usize, Option<Heard>)>,
    _coordinator: (Child, ChildStdin),
}

/// One member's process and what it said.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    process: Child,
    input: Option<ChildStdin>,
    pub(super) ready: bool,
    /// Its newest tree, and that one's edges on the way out.
    pub(super) tree: BTreeSet<Pair>,
    pub(super) overlap: BTreeSet<Pair>,
    pub(super) channels: BTreeMap<String, json::Channel>,
    /// In the order in which they came: from whom, what, when.
    pub(super) arrived: Vec<(usize, String, Instant)>,
    /// How often it told what it had counted, and what that was.
    pub(super) counted: u64,
    pub(super) crossed: Vec<Crossed>,
    /// What it said that must not be.
    pub(super) trouble: Vec<String>,
}

fn broken(what: impl std::fmt::Display) -> Failure {
    Failure::failed("demo", format!("the demonstration broke off: {what}"))
}

impl Cast {
    /// Starts coordinator and members. `folder` is for keys and what they complain of.
    pub(super) async fn start(folder: &Path, fast: bool) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(broken)?;
        let mut command = Command::new(&program);
        command.args(["demo", "--be-coordinator", "--json"]);
        if fast {
            command.arg("--fast");
        }
        let mut coordinator = spawn(command, folder, "coordinator")?;
        let input = coordinator.stdin.take().ok_or_else(|| broken("no input"))?;
        let output = coordinator.stdout.take().ok_or_else(|| broken("no output"))?;
        let first = BufReader::new(output).lines().next_line().await.map_err(broken)?;
        let ready: Ready =
            serde_json::from_str(first.as_deref().unwrap_or_default()).map_err(|_| {
                broken(complaint(folder, "the coordinator did not start", "coordinator"))
            })?;
        let ticket = folder.join("ticket");
        std::fs::write(&ticket, &ready.ticket).map_err(broken)?;

        let key = |name: &str| folder.join(format!("{name}.key"));
        let mut ids = Vec::new();
        for name in NAMES {
            let identity = Identity::open(&key(name), Path::new(""))?;
            ids.push(identity.keypair().public().to_peer_id().to_string());
        }
        let (said, heard) = mpsc::channel(LINES);
        let mut members = Vec::new();
        for (at, name) in NAMES.into_iter().enumerate() {
            let mut command = Command::new(&program);
            command.arg("join").arg(format!("@{}", ticket.display())).arg("--identity");
            command.arg(key(name)).args(["--nick", name, "--stats-interval", STATS_INTERVAL]);
            command.arg("--socket").arg(folder.join(format!("{name}.sock"))).arg("--json");
            for address in super::listen() {
                command.arg("--listen").arg(address.to_string());
            }
            let id = |at: usize| ids.get(at).cloned().unwrap_or_default();
            for other in denied(at) {
                command.arg("--deny").arg(id(other));
            }
            // One end of a channel is enough to make it slow both ways.
            for ((a, b), delay_ms) in CHANNELS {
                if a == at {
                    command.arg("--impair").arg(format!("{}:delay={delay_ms}ms", id(b)));
                }
            }
            let mut process = spawn(command, folder, name)?;
            let output = process.stdout.take().ok_or_else(|| broken("no output"))?;
            let said = said.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let heard = serde_json::from_str(&line).unwrap_or(Heard::Other);
                    if said.send((at, Some(heard))).await.is_err() {
                        return;
                    }
                }
                let _ = said.send((at, None)).await;
            });
            members.push(Member::new(id(at), process));
        }
        Ok(Self { members, heard, _coordinator: (coordinator, input) })
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn member(&self, at: usize) -> Result<&Member, Failure> {
        self.members.get(at).ok_or_else(|| broken("no such member"))
    }

    /// Has a member send a text to all.
    pub(super) async fn send(&mut self, at: usize, text: &str) -> Result<(), Failure> {
        self.write(at, &serde_json::json!({ "send": text })).await
    }

    /// Makes the channel from one member to another slower.
    pub(super) async fn impair(&mut self, (a, b): Pair, delay_ms: u32) -> Result<(), Failure> {
        let other = self.member(b)?.id.clone();
        let line = serde_json::json!({ "impair": format!("{other}:delay={delay_ms}ms") });
        self.write(a, &line).await
    }

    async fn write(&mut self, at: usize, line: &serde_json::Value) -> Result<(), Failure> {
        let member = self.members.get_mut(at).ok_or_else(|| broken("no such member"))?;
        let input = member.input.as_mut().ok_or_else(|| broken("a member has ended"))?;
        let mut line = line.to_string();
        line.push('\n');
        input.write_all(line.as_bytes()).await.map_err(broken)?;
        input.flush().await.map_err(broken)
    }

    /// Kills a member's process.
    pub(super) async fn kill(&mut self, at: usize) -> Result<(), Failure> {
        let member = self.members.get_mut(at).ok_or_else(|| broken("no such member"))?;
        member.input = None;
        member.process.kill().await.map_err(broken)
    }

    /// Ends all members in order and waits for them.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            member.input = None;
        }
        // They say farewell; nobody listens any more.
        self.heard.close();
        for member in &mut self.members {
            let _ = tokio::time::timeout(FAREWELL, member.process.wait()).await;
        }
        Ok(())
    }

    /// Listens until `look` is satisfied.
    pub(super) async fn until(
        &mut self,
        what: &str,
        look: impl Fn(&Self) -> bool,
    ) -> Result<Instant, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !look(self) {
            self.listen(deadline, what).await?;
        }
        Ok(Instant::now())
    }

    /// Hears the next line, whoever says it.
    pub(super) async fn listen(&mut self, deadline: Instant, what: &str) -> Result<(), Failure> {
        let late = || broken(format!("never came: {what}"));
        let heard =
            tokio::time::timeout_at(deadline, self.heard.recv()).await.map_err(|_| late())?;
        let (at, heard) = heard.ok_or_else(|| broken("all members have ended"))?;
        let name = NAMES.get(at).copied().unwrap_or("?");
        let ids: Vec<String> = self.members.iter().map(|member| member.id.clone()).collect();
        let Some(member) = self.members.get_mut(at) else { return Ok(()) };
        match heard {
            Some(heard) => member.take(heard, &ids),
            // One that was killed has no input any more.
            None if member.input.is_none() => {}
            None => return Err(broken(format!("member {name} has ended"))),
        }
        match member.trouble.first() {
            Some(trouble) => Err(broken(format!("member {name}: {trouble}"))),
            None => Ok(()),
        }
    }

    /// How many data frames have crossed each channel so far, both ways together.
    pub(super) fn crossings(&self) -> BTreeMap<Pair, u64> {
        let mut all = BTreeMap::new();
        for ((a, b), _) in CHANNELS {
            let frames = self.frames(a, b) + self.frames(b, a);
            all.insert((a, b), frames);
        }
        all
    }

    fn frames(&self, from: usize, to: usize) -> u64 {
        let (Some(from), Some(to)) = (self.members.get(from), self.members.get(to)) else {
            return 0;
        };
        let to = from.crossed.iter().find(|crossed| crossed.peer_id == to.id);
        to.map_or(0, |crossed| crossed.frames_out)
    }
}

/// How long members may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);

impl Member {
    fn new(id: String, mut process: Child) -> Self {
        Self {
            id,
            input: process.stdin.take(),
            process,
            ready: false,
            tree: BTreeSet::new(),
            overlap: BTreeSet::new(),
            channels: BTreeMap::new(),
            arrived: Vec::new(),
            counted: 0,
            crossed: Vec::new(),
            trouble: Vec::new(),
        }
    }

    fn take(&mut self, heard: Heard, ids: &[String]) {
        let position = |id: &str| ids.iter().position(|other| other == id);
        let pairs = |edges: &[(String, String)]| {
            edges
                .iter()
                .filter_map(|(a, b)| Some((position(a)?, position(b)?)))
                .map(|(a, b)| (a.min(b), a.max(b)))
                .collect()
        };
        match heard {
            Heard::Ready => self.ready = true,
            Heard::Tree(tree) => {
                self.tree = pairs(&tree.edges);
                self.overlap = pairs(&tree.overlap);
            }
            Heard::Channel(channel) => {
                if channel.kind == "none" {
                    self.channels.remove(&channel.peer_id);
                } else {
                    self.channels.insert(channel.peer_id.clone(), channel);
                }
            }
            Heard::Message { source, text } => {
                if let Some(source) = position(&source) {
                    self.arrived.push((source, text, Instant::now()));
                }
            }
            Heard::Stats { channels } => {
                self.counted += 1;
                self.crossed = channels;
            }
            Heard::Lost { reason } => self.trouble.push(format!("lost a message: {reason}")),
            Heard::Error { code, message } => {
                // To wait for one that was killed is part of the play.
                if code != "waiting" {
                    self.trouble.push(message);
                }
            }
            Heard::Other => {}
        }
    }
}

/// Starts a process that ends with its handle. It complains into a file.
fn spawn(mut command: Command, folder: &Path, name: &str) -> Result<Child, Failure> {
    let complaints = File::create(folder.join(format!("{name}.log"))).map_err(broken)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(complaints));
    // The demonstration is the same whatever the user has set for members of his own.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ARBORCAST_") {
            command.env_remove(name);
        }
    }
    // A Ctrl-C is for the one process that ends the others.
    #[cfg(unix)]
    command.process_group(0);
    command.kill_on_drop(true).spawn().map_err(broken)
}

/// What went wrong, with what the process said of it.
fn complaint(folder: &Path, what: &str, name: &str) -> String {
    let said = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    format!("{what}: {}", said.trim())
}
