//! A network of namespaces for real processes: hosts on one switch, with pairs that cannot reach each
//! other, lossy or narrow ones, and counters of what crosses. Needs root, `ip`, `nft` and `tc`; where
//! one is missing, [`Lab::new`] says which, and the test says `skipped: why`.
//!
//! Everything is made of kernel parts and independent of what Arborcast itself says: rules drop
//! packets on arrival, and named counters count the bytes that came through.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::process::{Place, Prepared};

/// A host's position, as given to [`Lab::new`].
pub type Host = usize;

/// A switch and hosts, gone when dropped.
#[derive(Debug)]
pub struct Lab {
    /// Begins the names of all its namespaces.
    prefix: String,
    names: Vec<String>,
    /// What is wrong between two hosts, the lower position first.
    rules: BTreeMap<(Host, Host), Rule>,
}

/// What is wrong between two hosts, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Blocked,
    /// Packets in a hundred that are lost, each way.
    Lossy(u8),
}

/// Why there can be no lab here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing(pub String);

/// Begins the names of the namespaces of all labs; the process id of the test follows.
const PREFIX: &str = "arborcast-";

impl Lab {
    /// A switch with these hosts on it, all of which reach each other.
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// If the machine has all that is needed, and it fails nevertheless.
    pub fn new(names: &[&str]) -> Result<Self, Missing> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for tool in ["ip", "nft", "tc"] {
            let mut version = Command::new(tool);
            version.arg("-V").stdout(Stdio::null()).stderr(Stdio::null());
            if version.status().is_err() {
                return Err(Missing(format!("{tool} is not installed")));
            }
        }
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let lab = Self {
            prefix,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            rules: BTreeMap::new(),
        };
        let switch = lab.switch();
        if let Err(why) = run("ip", &["netns", "add", &switch], None) {
            return Err(Missing(format!("no network namespaces can be made: {why}")));
        }
        let ip = |args: &[&str]| {
            run("ip", args, None).unwrap_or_else(|why| panic!("ip {args:?}: {why}"));
        };
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for host in 0..lab.names.len() {
            let (space, port) = (lab.space(host), format!("h{host}"));
            ip(&["netns", "add", &space]);
            ip(&[
                "link", "add", "e0", "netns", &space, "type", "veth", "peer", "name", &port,
                "netns", &switch,
            ]);
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", &space, "addr", "add", &format!("{}/24", lab.address(host)), "dev", "e0"]);
            ip(&["-n", &space, "link", "set", "e0", "up"]);
            ip(&["-n", &space, "link", "set", "lo", "up"]);
            lab.set_counters(host);
            lab.set_rules(host);
        }
        Ok(lab)
    }

    fn switch(&self) -> String {
        format!("{}switch", self.prefix)
    }

    fn space(&self, host: Host) -> String {
        format!("{}{}", self.prefix, self.names[host])
    }

    /// Bytes and packets that have crossed a host's interface either way, as its kernel counts them.
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn counters(&self, host: Host) -> (u64, u64) {
        let args = ["-n", &self.space(host), "-s", "-j", "link", "show", "e0"];
        let shown = run("ip", &args, None).unwrap_or_else(|why| panic!("ip {args:?}: {why}"));
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("ip speaks JSON");
        let sum = |what: &str| {
            ["rx", "tx"].iter().filter_map(|way| shown[0]["stats64"][way][what].as_u64()).sum()
        };
        (sum("bytes"), sum("packets"))
    }

    /// The IPv4 address of a host.
    #[must_use]
    pub fn address(&self, host: Host) -> String {
        format!("10.91.0.{}", host + 1)
    }

    /// A process to be started at a host.
    #[must_use]
    pub fn process(
        &self,
        place: &Place,
        host: Host,
        binary: &str,
        name: &str,
        args: &[&str],
    ) -> Prepared {
        place.process(binary, name, args).in_namespace(&self.space(host))
    }

    /// Puts a NAT before a host: a router of its own, with the host's address on the switch, that lets
    /// nothing in but what answers the host. The counters of the host do not work any more.
    ///
    /// # Panics
    /// If the kernel cannot do that.
    pub fn put_behind_nat(&mut self, host: Host) {
        let (switch, space, router) = (self.switch(), self.space(host), self.router(host));
        let (port, subnet) = (format!("h{host}"), format!("192.168.{}", host + 1));
        let ip = |args: &[&str]| {
            run("ip", args, None).unwrap_or_else(|why| panic!("ip {args:?}: {why}"));
        };
        ip(&["netns", "add", &router]);
        ip(&["-n", &space, "link", "del", "e0"]);
        for (own, at, peer, theirs) in
            [("wan", &router, port.as_str(), &switch), ("e0", &space, "lan", &router)]
        {
            ip(&[
                "link", "add", own, "netns", at, "type", "veth", "peer", "name", peer, "netns",
                theirs,
            ]);
            ip(&["-n", at, "link", "set", own, "up"]);
            ip(&["-n", theirs, "link", "set", peer, "up"]);
        }
        ip(&["-n", &switch, "link", "set", &port, "master", "br0"]);
        let (outside, inside) = (format!("{}/24", self.address(host)), format!("{subnet}.1"));
        ip(&["-n", &router, "addr", "add", &outside, "dev", "wan"]);
        ip(&["-n", &router, "addr", "add", &format!("{inside}/24"), "dev", "lan"]);
        ip(&["-n", &space, "addr", "add", &format!("{subnet}.2/24"), "dev", "e0"]);
        ip(&["-n", &space, "route", "add", "default", "via", &inside]);
        let forward = ["netns", "exec", &router, "sysctl", "-qw", "net.ipv4.ip_forward=1"];
        ip(&forward);
        let rules = "table ip nat {
  chain post { type nat hook postrouting priority srcnat
    oifname \"wan\" masquerade
  }
}
table ip filt {
  chain input { type filter hook input priority 0; policy accept
    iifname \"wan\" ct state established,related accept
    iifname \"wan\" drop
  }
  chain forward { type filter hook forward priority 0; policy accept
    iifname \"wan\" ct state established,related accept
    iifname \"wan\" drop
  }
}
";
        let args = ["netns", "exec", &router, "nft", "-f", "-"];
        run("ip", &args, Some(rules)).unwrap_or_else(|why| panic!("nft: {why}"));
    }

    /// The router of a host that is behind one.
    fn router(&self, host: Host) -> String {
        format!("{}-nat", self.space(host))
    }

    /// No packet passes between two hosts from now on.
    pub fn block(&mut self, a: Host, b: Host) {
        self.set(a, b, Rule::Blocked);
    }

    /// So many of a hundred packets between two hosts are lost from now on, each way.
    pub fn lose(&mut self, a: Host, b: Host, percent: u8) {
        self.set(a, b, Rule::Lossy(percent));
    }

    /// All packets between two hosts pass again.
    pub fn mend(&mut self, a: Host, b: Host) {
        self.rules.remove(&(a.min(b), a.max(b)));
        self.set_rules(a);
        self.set_rules(b);
    }

    fn set(&mut self, a: Host, b: Host, rule: Rule) {
        self.rules.insert((a.min(b), a.max(b)), rule);
        self.set_rules(a);
        self.set_rules(b);
    }

    /// Gives what goes between two hosts a rate from now on, each way.
    ///
    /// # Panics
    /// If the kernel cannot do that.
    pub fn narrow(&self, a: Host, b: Host, kbit: u32) {
        for (from, to) in [(a, b), (b, a)] {
            let (space, rate) = (self.space(from), format!("{kbit}kbit"));
            let (class, order) = (format!("1:{}", to + 10), (to + 1).to_string());
            let to = format!("{}/32", self.address(to));
            let tc = |args: &[&str]| {
                let args = [&["-n", space.as_str()], args].concat();
                run("tc", &args, None).unwrap_or_else(|why| panic!("tc {args:?}: {why}"));
            };
            // What has no class goes as fast as it can.
            if !run("tc", &["-n", &space, "qdisc", "show", "dev", "e0"], None)
                .is_ok_and(|shown| shown.contains("htb"))
            {
                tc(&["qdisc", "add", "dev", "e0", "root", "handle", "1:", "htb"]);
            }
            tc(&[
                "class", "replace", "dev", "e0", "parent", "1:", "classid", &class, "htb", "rate",
                &rate, "ceil", &rate,
            ]);
            tc(&[
                "filter", "replace", "dev", "e0", "parent", "1:", "protocol", "ip", "prio", &order,
                "u32", "match", "ip", "dst", &to, "flowid", &class,
            ]);
        }
    }

    /// Bytes of packets that have come through between two hosts, both ways together.
    ///
    /// # Panics
    /// If the counters cannot be read.
    #[must_use]
    pub fn bytes(&self, a: Host, b: Host) -> u64 {
        self.came(a, b) + self.came(b, a)
    }

    /// Datagrams that a host's kernel has dropped, because the process they were for was too busy to read
    /// them: QUIC sends those again.
    ///
    /// # Panics
    /// If the counter cannot be read.
    #[must_use]
    pub fn overruns(&self, host: Host) -> u64 {
        let args = ["netns", "exec", &self.space(host), "cat", "/proc/net/snmp"];
        let text = run("ip", &args, None).unwrap_or_else(|why| panic!("{args:?}: {why}"));
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, figures) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let mut both = names.split(' ').zip(figures.split(' '));
        let figure = both.find_map(|(name, figure)| (name == "RcvbufErrors").then_some(figure));
        figure.and_then(|figure| figure.parse().ok()).unwrap_or_else(|| panic!("none in {text}"))
    }

    /// Bytes that have come to `at` from `from`.
    fn came(&self, at: Host, from: Host) -> u64 {
        let (space, name) = (self.space(at), format!("from{from}"));
        let args = ["netns", "exec", &space, "nft", "-j", "list", "counter", "inet", "lab", &name];
        let text = run("ip", &args, None).unwrap_or_else(|why| panic!("{args:?}: {why}"));
        let value: serde_json::Value = serde_json::from_str(&text).expect("nft prints JSON");
        let counters = value["nftables"].as_array().into_iter().flatten();
        let bytes = counters.into_iter().find_map(|entry| entry["counter"]["bytes"].as_u64());
        bytes.unwrap_or_else(|| panic!("no counter {name}: {text}"))
    }

    fn others(&self, host: Host) -> impl Iterator<Item = Host> + '_ {
        (0..self.names.len()).filter(move |other| *other != host)
    }

    fn set_counters(&self, host: Host) {
        let mut text = String::from("table inet lab {\n");
        for other in self.others(host) {
            let _ = writeln!(text, "  counter from{other} {{ }}");
        }
        text.push_str(
            "  chain input { type filter hook input priority 0; policy accept;\n  }\n}\n",
        );
        self.nft(host, &text);
    }

    fn set_rules(&self, host: Host) {
        let mut text = String::from("flush chain inet lab input\n");
        for other in self.others(host) {
            let from = format!("add rule inet lab input ip saddr {}", self.address(other));
            match self.rules.get(&(host.min(other), host.max(other))) {
                Some(Rule::Blocked) => {
                    let _ = writeln!(text, "{from} drop");
                }
                Some(Rule::Lossy(percent)) => {
                    let _ = writeln!(text, "{from} numgen random mod 100 < {percent} drop");
                }
                None => {}
            }
            let _ = writeln!(text, "{from} counter name \"from{other}\"");
        }
        self.nft(host, &text);
    }

    fn nft(&self, host: Host, text: &str) {
        let args = ["netns", "exec", &self.space(host), "nft", "-f", "-"];
        run("ip", &args, Some(text)).unwrap_or_else(|why| panic!("nft: {why}\n{text}"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in (0..self.names.len()).map(|host| self.space(host)).chain([self.switch()]) {
            let _ = run("ip", &["netns", "del", &space], None);
        }
        for host in 0..self.names.len() {
            let _ = run("ip", &["netns", "del", &self.router(host)], None);
        }
    }
}

/// Removes what tests that crashed have left: namespaces of labs whose process is gone.
fn sweep() {
    let Ok(list) = run("ip", &["netns", "list"], None) else { return };
    let names: BTreeSet<&str> =
        list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for name in names {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let owner = rest.split('-').next().and_then(|id| id.parse::<u32>().ok());
        if owner.is_some_and(|id| !std::path::Path::new(&format!("/proc/{id}")).exists()) {
            let _ = run("ip", &["netns", "del", name], None);
        }
    }
}

/// Runs a command to its end: what it printed, or what it complained of.
fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
