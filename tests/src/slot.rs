//! Slots for tests that start processes or a swarm: so many of them run side by side on this
//! checkout, whichever runner starts them, in one process or in many. Each slot is a file that its
//! holder has locked, so a slot is free again however its holder ends.
//!
//! `ARBORCAST_SLOTS` sets how many there are. `ARBORCAST_SLOTS_HELD` names a file that gets a line for
//! each slot that was given back: seconds and the name of the test.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::process::now;

/// How many there are: on two processors, groups of processes that mostly wait.
const SLOTS: usize = 6;

/// Ports of a slot, the first one of the first, and how many slots have their own. They lie below those that
/// systems hand out by themselves (from 32768 on Linux, from 49152 elsewhere).
const PORTS: u16 = 200;
const FIRST_PORT: u16 = 20_000;
const RANGES: u16 = 60;

/// How often somebody who waits looks for a free one. Those who get one hold it for seconds.
const LOOK: Duration = Duration::from_millis(20);

/// A slot, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    /// Its lock goes with it.
    _file: File,
    /// The next of its ports to be handed out.
    next_port: AtomicU16,
    test: String,
    since: Instant,
}

thread_local! {
    /// What the test of this thread holds: a test has one slot, however many groups it starts.
    static HELD: RefCell<Weak<Slot>> = const { RefCell::new(Weak::new()) };
}

impl Slot {
    /// Waits for a slot, unless the test of this thread has one already.
    ///
    /// # Panics
    /// If the slots' folder, which lies beside the test binary, cannot be written.
    #[must_use]
    pub fn take() -> Arc<Self> {
        HELD.with_borrow_mut(|held| {
            held.upgrade().unwrap_or_else(|| {
                let slot = Arc::new(Self::wait());
                *held = Arc::downgrade(&slot);
                slot
            })
        })
    }

    /// A port that nobody has, for TCP and UDP: for a process that is to come back there. The system gives
    /// none of these to whoever asks for any free one, nor does another slot.
    ///
    /// # Panics
    /// If none is left.
    #[must_use]
    pub fn port(&self) -> u16 {
        let is_free = |port: &u16| {
            let at = (Ipv4Addr::LOCALHOST, *port);
            TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
        };
        let mut ports = (0..PORTS).map(|_| self.next_port.fetch_add(1, Ordering::Relaxed));
        ports.find(is_free).expect("a slot has more ports than a test needs")
    }

    fn wait() -> Self {
        let folder = folder();
        let count = std::env::var("ARBORCAST_SLOTS").ok().and_then(|text| text.parse().ok());
        let count: usize = count.filter(|count| *count > 0).unwrap_or(SLOTS);
        loop {
            for number in 0..count {
                if let Some(file) = lock(&folder, number) {
                    let first = u16::try_from(number).map_or(0, |number| number % RANGES) * PORTS;
                    let next_port = AtomicU16::new(FIRST_PORT + first);
                    return Self { _file: file, next_port, test: test_name(), since: now() };
                }
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("ARBORCAST_SLOTS_HELD") else { return };
        let line = format!("{:.1} {}\n", self.since.elapsed().as_secs_f64(), self.test);
        let file = OpenOptions::new().create(true).append(true).open(path);
        // Whoever wants the list sees that lines are missing.
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Lets everything else on this machine go first from now on, as far as this thread computes: processes of
/// other tests are measured by real clocks, worlds are not.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    // There the priority of the calling process is that of its calling thread alone. Where it cannot be
    // set, the tests take turns as they come.
    let _ = rustix::process::setpriority_process(None, 19);
}

/// The folder of the slots' files: one for each folder of test binaries.
fn folder() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    let folder = own.parent().unwrap_or(Path::new(".")).join("arborcast-slots");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// A slot's file, if nobody else has locked it.
fn lock(folder: &Path, number: usize) -> Option<File> {
    let path = folder.join(number.to_string());
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => panic!("{}: {error}", path.display()),
    }
}

/// The name of the test of this thread.
fn test_name() -> String {
    // A runner that gives each test a process of its own names the test there.
    let own = thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    own.or_else(|| std::env::var("NEXTEST_TEST_NAME").ok()).unwrap_or_else(|| "?".to_owned())
}
