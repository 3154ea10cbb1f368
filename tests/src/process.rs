//! Real processes with the JSON lines they print: started in folders of their own, waited for with
//! deadlines, ended with the test. Nothing here sleeps for luck: every wait is for something.
//!
//! `ARBORCAST_BIN_DIR` names a folder with binaries to test; else they are built. `ARBORCAST_E2E_LOG`
//! is their `--log`.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::slot::Slot;

mod log;

pub use log::{Arrived, Log, Receipt, digest};

/// How long anything may take, on a machine that is busy with much else. Tests assert what happens; how
/// soon it does is for the benchmark `figures`.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often channels are measured and members report and renew: a quarter of the default or less, so
/// that tests wait less. Leases and bounds are as always.
const SHORT_PERIODS: [(&str, &str); 3] = [
    ("ARBORCAST_SESSION__PROBE_MS", "500"),
    ("ARBORCAST_COORDINATOR_ENGINE__REPORT_MS", "1000"),
    ("ARBORCAST_COORDINATOR_ENGINE__RENEW_MS", "1000"),
];

/// The same with leases to match.
const SHORT_LEASES: [(&str, &str); 4] = {
    let [probe, report, renew] = SHORT_PERIODS;
    [probe, report, renew, ("ARBORCAST_COORDINATOR_ENGINE__LEASE_MS", "3000")]
};

/// Where every process of a test listens.
pub const LOOPBACK: [&str; 4] =
    ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];

/// The one place that asks for the time.
#[expect(clippy::disallowed_methods, reason = "processes live in real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// A folder for the processes of one test, with their homes; gone with it. Its test has a [`Slot`].
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    periods: &'static [(&'static str, &'static str)],
    slot: Arc<Slot>,
}

impl Place {
    /// A new one, whose processes measure, report and renew often.
    #[must_use]
    pub fn new() -> Self {
        Self::with_periods(&SHORT_PERIODS)
    }

    /// The same, with leases of three seconds, so that pauses of some seconds are long.
    #[must_use]
    pub fn with_short_leases() -> Self {
        Self::with_periods(&SHORT_LEASES)
    }

    /// A new one, whose processes have all settings as they are by default.
    #[must_use]
    pub fn with_default_periods() -> Self {
        Self::with_periods(&[])
    }

    fn with_periods(periods: &'static [(&'static str, &'static str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let slot = Slot::take();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a Unix socket has a hundred characters at most.
        let folder =
            std::env::temp_dir().join(format!("arborcast-e2e-{}-{number}", std::process::id()));
        for part in ["state", "run"] {
            fs::create_dir_all(folder.join(part)).expect("a folder for the test can be made");
        }
        Self { folder, periods, slot }
    }

    /// Where a process is to listen that is to come back there, by TCP and QUIC. (Any free port of the
    /// system's might be given to somebody else meanwhile.)
    #[must_use]
    pub fn fixed_addresses(&self) -> [String; 2] {
        let port = self.slot.port();
        [format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file for the test can be written");
        path
    }

    /// Starts `arborcast` with `--json`.
    #[must_use]
    pub fn start(&self, name: &str, args: &[&str]) -> Process {
        self.process("arborcast", name, args).arg("--json").start()
    }

    /// A process to be started.
    #[must_use]
    pub fn process(&self, binary: &str, name: &str, args: &[&str]) -> Prepared {
        let mut command = Command::new(binaries().join(binary));
        command
            .args(args)
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("USER", "tester")
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("TMPDIR", self.path("run"))
            .env("RUST_BACKTRACE", "1");
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ARBORCAST_") {
                command.env_remove(variable);
            }
        }
        command.envs(self.periods.iter().copied());
        if let Some(filter) = std::env::var_os("ARBORCAST_E2E_LOG") {
            command.env("ARBORCAST_LOG", filter);
        }
        Prepared { command, name: name.to_owned(), null_input: false, is_unread: false }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder with the binaries, built if need be.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("ARBORCAST_BIN_DIR") {
            return PathBuf::from(folder);
        }
        // …/target/PROFILE/deps/e2e-…
        let own = std::env::current_exe().expect("a test knows where it is");
        let profile = own.ancestors().nth(2).expect("tests lie two folders below the target's");
        let target = profile.parent().expect("a profile's folder lies in the target's");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut build = Command::new(cargo);
        build
            .args(["build", "--workspace", "--bins", "--examples", "--quiet", "--target-dir"])
            .arg(target);
        // What cargo tells a test about its own package would be news to build scripts, and much
        // would be built again.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_MANIFEST_", "CARGO_PKG_"]
                .iter()
                .any(|own| name.to_string_lossy().starts_with(own))
            {
                build.env_remove(name);
            }
        }
        match profile.file_name().and_then(OsStr::to_str) {
            Some("debug") | None => {}
            Some(profile) => {
                build.args(["--profile", profile]);
            }
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        build.current_dir(workspace.expect("the tests' crate lies in the workspace"));
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "the binaries do not build");
        profile.to_owned()
    })
}

/// A process that is not started yet.
#[derive(Debug)]
pub struct Prepared {
    command: Command,
    name: String,
    null_input: bool,
    is_unread: bool,
}

impl Prepared {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// One more variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// It runs in this network namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        // `ip` becomes the process itself, so its id is that of what it runs.
        self.behind("ip", &["netns", "exec", namespace])
    }

    /// It is started as `nohup` starts processes: closed terminals are ignored.
    #[must_use]
    pub fn ignoring_hangup(self) -> Self {
        // The shell becomes the process itself, too.
        self.behind("sh", &["-c", r#"trap "" HUP; exec "$0" "$@""#])
    }

    /// Another program starts it.
    fn behind(mut self, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).arg(self.command.get_program());
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        self.command = command;
        self
    }

    /// It gets the null device as its input.
    #[must_use]
    pub const fn null_input(mut self) -> Self {
        self.null_input = true;
        self
    }

    /// Nobody reads its standard output before [`Process::read`].
    #[must_use]
    pub const fn unread(mut self) -> Self {
        self.is_unread = true;
        self
    }

    /// The command, for those who start it in their own way.
    #[must_use]
    pub fn command(self) -> Command {
        self.command
    }

    /// Starts it.
    #[must_use]
    pub fn start(mut self) -> Process {
        let mut child = self
            .command
            .stdin(if self.null_input { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let shared = Arc::new(Shared::default());
        let stdout = child.stdout.take().expect("is piped");
        let stderr = child.stderr.take().expect("is piped");
        let stdin = child.stdin.take();
        let (gate, opened) = mpsc::sync_channel::<()>(1);
        let gate = self.is_unread.then_some(gate);
        let readers = [
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    // Fails as soon as nobody holds the gate any more.
                    let _ = opened.recv();
                    read_lines(stdout, |line| shared.on_line(line));
                }
            }),
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || read_lines(stderr, |line| shared.on_complaint(&line))
            }),
        ];
        // A thread, so that a process that does not read blocks no test.
        let (input, lines) = mpsc::sync_channel::<Vec<u8>>(100_000);
        if let Some(mut stdin) = stdin {
            std::thread::spawn(move || lines.iter().try_for_each(|line| stdin.write_all(&line)));
        }
        Process {
            name: self.name,
            child,
            shared,
            readers: Some(readers),
            gate,
            input: Some(input),
            started: now(),
        }
    }
}

fn read_lines(source: impl std::io::Read, mut take: impl FnMut(String)) {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let mut line = Vec::new();
    loop {
        line.clear();
        match source.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                take(String::from_utf8_lossy(text).into_owned());
            }
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_line(&self, line: String) {
        self.lock().take(line);
        self.changed.notify_all();
    }

    fn on_complaint(&self, line: &str) {
        let mut log = self.lock();
        log.note("!", line);
        log.complaints.push(line.to_owned());
        drop(log);
        self.changed.notify_all();
    }
}

/// A running process. Ended, and no other with it, when dropped; tells its story if the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    shared: Arc<Shared>,
    readers: Option<[JoinHandle<()>; 2]>,
    /// Its standard output is read once this is gone.
    gate: Option<mpsc::SyncSender<()>>,
    input: Option<mpsc::SyncSender<Vec<u8>>>,
    started: Instant,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All that it said.
    pub log: Log,
}

impl Ended {
    /// Standard error as one text.
    #[must_use]
    pub fn complaint(&self) -> String {
        self.log.complaints.join("\n")
    }
}

/// How often a condition is looked at, at most.
const LOOK: Duration = Duration::from_millis(10);

#[expect(clippy::must_use_candidate, reason = "most are called to wait for something")]
impl Process {
    /// What the test calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Since it was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What it has said so far.
    pub fn log(&self) -> impl std::ops::Deref<Target = Log> + '_ {
        self.shared.lock()
    }

    /// Waits until what it said satisfies `look`, for [`DEADLINE`] at most.
    pub fn wait<T>(&self, what: &str, look: impl FnMut(&Log) -> Option<T>) -> T {
        self.wait_for(DEADLINE, what, look)
    }

    /// The same with a deadline of its own.
    pub fn wait_for<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut look: impl FnMut(&Log) -> Option<T>,
    ) -> T {
        let end = now() + deadline;
        let mut log = self.shared.lock();
        loop {
            if let Some(found) = look(&log) {
                return found;
            }
            let seen = log.lines;
            let left = end.saturating_duration_since(now());
            assert!(!left.is_zero(), "{}: {what} did not come in {deadline:?}", self.name);
            // Woken by the next line, but not by each: there may be very many.
            drop(log);
            std::thread::sleep(LOOK.min(left));
            log = self.shared.lock();
            if log.lines == seen {
                let changed = self.shared.changed.wait_timeout(log, left);
                log = changed.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// The event of this name, the first one.
    pub fn event(&self, name: &str) -> Value {
        self.wait(name, |log| log.of(name).next().cloned())
    }

    /// A field of the `ready` event.
    pub fn ready(&self, field: &str) -> String {
        let ready = self.wait("ready", |log| log.of("ready").next().cloned());
        ready[field].as_str().unwrap_or_else(|| panic!("no {field} in {ready}")).to_owned()
    }

    /// The peer id that it has as member.
    pub fn peer_id(&self) -> String {
        self.ready("peer_id")
    }

    /// Writes a line to its standard input.
    pub fn line(&self, line: impl AsRef<[u8]>) {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        self.raw(bytes);
    }

    /// Writes bytes to its standard input.
    pub fn raw(&self, bytes: Vec<u8>) {
        let input = self.input.as_ref().expect("its input is open");
        // Fails if the process has ended, which whoever waits for it finds out.
        let _ = input.send(bytes);
    }

    /// Has it send a text.
    pub fn send(&self, text: &str) {
        self.line(serde_json::json!({ "send": text }).to_string());
    }

    /// Ends its standard input.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Reads its standard output from now on.
    pub fn read(&mut self) {
        self.gate = None;
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "{}: cannot be signalled", self.name);
    }

    /// Interrupts it as Ctrl-C does, once it listens for that (proc(5)).
    ///
    /// # Panics
    /// If it never does.
    pub fn interrupt(&self) {
        let status = format!("/proc/{}/status", self.id());
        let began = now();
        loop {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            // INT is signal 2.
            if mask.is_some_and(|mask| mask & 2 != 0) {
                return self.signal("INT");
            }
            assert!(began.elapsed() < DEADLINE, "{}: does not listen for signals", self.name);
            std::thread::sleep(LOOK);
        }
    }

    /// Ends it without a word.
    pub fn kill(mut self) -> Log {
        self.child.kill().expect("is our own");
        let _ = self.child.wait();
        self.finish()
    }

    /// The most memory it has had, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// A figure of the kernel's about it, in bytes.
    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    /// Waits until it has ended by itself.
    pub fn ended(self) -> Ended {
        self.ended_in(DEADLINE)
    }

    /// The same with a deadline of its own.
    pub fn ended_in(mut self, deadline: Duration) -> Ended {
        let end = now() + deadline;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("is our own") {
                break status;
            }
            assert!(now() < end, "{}: did not end in {deadline:?}", self.name);
            std::thread::sleep(LOOK);
        };
        Ended { code: status.code(), log: self.finish() }
    }

    /// Ends its input, and asserts that it leaves as it should.
    pub fn leave(mut self) -> Log {
        self.close();
        let name = self.name.clone();
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "{name} at end of input: {}", ended.complaint());
        ended.log
    }

    /// After it has ended: reads the rest.
    fn finish(&mut self) -> Log {
        (self.input, self.gate) = (None, None);
        for reader in self.readers.take().into_iter().flatten() {
            let _ = reader.join();
        }
        std::mem::take(&mut self.shared.lock())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.shared.lock();
            let mut text = format!("\n== {} (process {})\n", self.name, self.child.id());
            for (source, runs) in log.runs() {
                let _ = writeln!(text, "from {source}: {runs:?}");
            }
            for line in &log.transcript {
                text.push_str(line);
                text.push('\n');
            }
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}
