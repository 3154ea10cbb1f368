//! What lies in `deploy/` is looked at by those who will read it: the commands' own settings, and
//! systemd's and Docker's tools where this machine has them. What cannot be is told as `skipped`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use arborcast_net::settings::{Layers, Settings};

/// A file of `deploy/`.
fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The settings that a file and variables come to.
fn settings<T: Settings>(file: Option<&Path>, variables: &[(String, String)]) -> T {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), value.into()));
    let layers = Layers::<T>::load(file, variables).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(layers.ignored(), [""; 0], "variables that name no setting");
    layers.finish().unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a tool; `None`, and a word about it, where it is not there.
fn tool(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {}: {error}", command.get_program().to_string_lossy());
            None
        }
    }
}

/// Asserts that a tool was content.
fn content(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// `NAME=VALUE` of the service's `Environment=` lines.
fn variables_of_the_service() -> Vec<(String, String)> {
    let unit = fs::read_to_string(deploy("arborcast-coordinator.service")).expect("is there");
    unit.lines()
        .filter_map(|line| line.strip_prefix("Environment=")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_coordinators_example_is_what_it_reads() {
    let file = deploy("coordinator.toml");
    let config: arborcast_coordinator::Config = settings(Some(&file), &variables_of_the_service());
    assert!(!config.listen.is_empty() && !config.external.is_empty());
    assert!(!config.engine.open_sessions);
    assert!(config.identity.starts_with("/var/lib/arborcast"));
}

#[test]
fn r18_the_members_example_is_a_leaf_with_little_memory() {
    let config: arborcast::Config = settings(Some(&deploy("member.toml")), &[]);
    let usual = arborcast::Config::default();
    assert_eq!(config.session.fanout, 1);
    assert!(config.session.relay.store_bytes < usual.session.relay.store_bytes);
    assert!(config.session.relay.history_bytes < usual.session.relay.history_bytes);
    assert!(config.inbox_bytes < usual.inbox_bytes);
}

#[test]
fn the_service_is_what_systemd_reads_and_well_confined() {
    let unit = fs::read_to_string(deploy("arborcast-coordinator.service")).expect("is there");
    let folder = std::env::temp_dir().join(format!("arborcast-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the test can be made");
    let path = folder.join("arborcast-coordinator.service");
    // What it starts must be there to be found good.
    let there = unit.replace("=/usr/local/bin/arborcast-coordinator", "=/bin/true");
    assert_ne!(there, unit, "starts the installed command");
    fs::write(&path, there).expect("can be written");
    let verified = tool(Command::new("systemd-analyze").arg("verify").arg(&path));
    let rated = tool(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=20"])
            .arg(&path),
    );
    fs::remove_dir_all(&folder).expect("is there");
    for output in verified.iter().chain(&rated) {
        content(output);
    }
    if let Some(output) = verified {
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_compose_file_is_what_docker_reads() {
    let compose = |args: &[&str]| {
        let mut command = Command::new("docker");
        command.args(["compose", "-f"]).arg(deploy("compose.yaml")).args(args);
        tool(&mut command)
    };
    let Some(version) = compose(&["version"]) else { return };
    if !version.status.success() {
        println!("skipped: docker has no compose plugin here");
        return;
    }
    if let Some(output) = compose(&["config", "--quiet"]) {
        content(&output);
    }
}

#[test]
fn the_compose_files_variables_are_settings() {
    let compose = fs::read_to_string(deploy("compose.yaml")).expect("is there");
    let variables = compose.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let mut found = 0;
    let member = toml(&arborcast::Config::default());
    let coordinator = toml(&arborcast_coordinator::Config::default());
    for name in variables.filter(|name| name.starts_with("ARBORCAST_")) {
        let (all, rest) = match name.strip_prefix("ARBORCAST_COORDINATOR_") {
            Some(rest) => (&coordinator, rest),
            None => (&member, name.strip_prefix("ARBORCAST_").expect("begins so")),
        };
        let field = rest.rsplit("__").next().unwrap_or_default().to_ascii_lowercase();
        assert!(all.lines().any(|line| line.starts_with(&format!("{field} = "))), "{name}");
        found += 1;
    }
    assert!(found >= 6, "only {found}");
}

fn toml<T: Settings>(settings: &T) -> String {
    arborcast_net::settings::to_toml(settings).expect("can be written")
}
