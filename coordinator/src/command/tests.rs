//! Settings in layers, as the coordinator has them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use arborcast_net::settings::*;

use crate::Config;

/// A file with a text in a folder of its own; gone with it.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("arborcast-settings-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test can be made");
        let path = folder.join("c.toml");
        std::fs::write(&path, text).expect("a file for the test can be written");
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// What a file comes to, or the error without the file's folder.
fn read(name: &str, text: &str) -> Result<Config, String> {
    let file = Written::new(name, text);
    Layers::<Config>::load(Some(&file.0), []).and_then(Layers::finish).map_err(|error| {
        let folder = file.0.parent().expect("is in one").to_string_lossy().into_owned();
        error.to_string().replace(&format!("{folder}/"), "")
    })
}

/// What variables come to.
fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
    Layers::<Config>::load(None, environment(variables))
        .and_then(Layers::finish)
        .map_err(|error| error.to_string())
}

#[test]
fn each_layer_goes_over_those_before_it() {
    let file = Written::new(
        "layers",
        "connections = 1\nlisten = [\"/ip4/192.0.2.1/tcp/1\"]\n\
         [engine]\nsessions = 11\nmembers = 12\nrenew_ms = 13\n",
    );
    let variables = environment(&[
        ("ARBORCAST_COORDINATOR_ENGINE__MEMBERS", "22"),
        ("ARBORCAST_COORDINATOR_ENGINE__RENEW_MS", " 23 "),
        ("ARBORCAST_COORDINATOR_ENGINE__OPEN_SESSIONS", "false"),
        ("ARBORCAST_COORDINATOR_EXTERNAL", "/ip4/192.0.2.7/tcp/1, /ip6/::1/tcp/2"),
        ("ARBORCAST_COORDINATOR_IDENTITY", "/k"),
    ]);
    let layers = Layers::<Config>::load(Some(&file.0), variables).expect("is good");
    let layers = layers.flags(|config| config.engine.renew_ms = 33).expect("can be written");
    let config = layers.finish().expect("is in range");
    assert_eq!(config.engine.lease_ms, 15_000, "built in");
    assert_eq!((config.connections, config.engine.sessions), (1, 11));
    assert_eq!((config.engine.members, config.engine.open_sessions), (22, false));
    assert_eq!(config.engine.renew_ms, 33);
    assert_eq!((config.listen.len(), config.external.len()), (1, 2));
    assert_eq!(config.identity, PathBuf::from("/k"));
}

#[test]
fn what_is_printed_reads_as_the_same_and_tells_about_every_field() {
    let mut config = Config { connections: 7, ..Config::default() };
    config.listen = vec!["/ip4/192.0.2.1/tcp/1".parse().expect("an address")];
    config.identity = "a \"b\"".into();
    config.engine.tree_steps = 5;
    let text = to_toml(&config).expect("can be written");
    let again = read("printed", &text).expect("reads");
    assert_eq!(to_toml(&again).expect("can be written"), text);
    let printed = text.lines().filter(|line| line.contains(" = ")).count();
    let tables = Config::docs();
    // A table is a field of the one above it, and two fields of the engine are no settings.
    let fields = tables.iter().map(|docs| docs.fields.len()).sum::<usize>() - tables.len() - 1;
    assert_eq!(printed, fields, "{text}");
    assert!(text.contains("# Most connections at once; default 0,"), "{text}");
}

#[test]
fn an_error_in_a_file_names_line_column_and_field() {
    let refused = |text| read("errors", text).expect_err("is wrong");
    let unknown = refused("[engine]\nmembers = 5\nlease = 1\n");
    assert!(unknown.starts_with("c.toml:3:1: "), "{unknown}");
    assert!(unknown.contains("unknown field `lease`"), "{unknown}");
    assert!(unknown.contains("`lease_ms`"), "the known ones are named: {unknown}");
    assert_eq!(
        refused("[engine]\nlease_ms = \"x\"\n"),
        "c.toml:2:12: engine.lease_ms: invalid type: string \"x\", expected u32"
    );
    let negative = refused("# ä\n[engine]\nlease_ms = -1\n");
    assert!(negative.starts_with("c.toml:3:12: engine.lease_ms: "), "{negative}");
    let address = refused("listen = [\"/ip4/192.0.2.1/tcp/1\",\n  \"here\"]\n");
    assert!(address.starts_with("c.toml:2:3: listen[1]: "), "{address}");
    let syntax = refused("connections = 5\nlisten = [\n");
    assert!(syntax.starts_with("c.toml:"), "{syntax}");
    let strategy = refused("[engine]\nstrategy = \"best\"\n");
    assert!(strategy.starts_with("c.toml:2:12: engine.strategy: "), "{strategy}");
    let twice = refused("connections = 5\nconnections = 6\n");
    assert!(twice.starts_with("c.toml:2:1: "), "{twice}");
    assert_eq!(
        refused("[engine]\nstore_bytes = 18446744073709551615\n"),
        "c.toml:2:15: engine.store_bytes: is no whole number of 64 bits"
    );
}

#[test]
fn a_figure_out_of_range_is_traced_to_where_it_was_set() {
    assert_eq!(
        read("range", "[engine]\n\nmembers = 0\n").expect_err("is wrong"),
        "c.toml:3:11: engine.members: must be from 1 to 10000, the most that fit into one answer"
    );
    // What is wrong with one field may have been set in another one.
    assert_eq!(
        read("other", "[engine]\nrenew_ms = 20000\n").expect_err("is wrong"),
        "c.toml:2:12: engine.lease_ms: must be more than renew_ms"
    );
    assert_eq!(
        with(&[("ARBORCAST_COORDINATOR_ENGINE__LEASE_MS", "5")]).expect_err("is wrong"),
        "ARBORCAST_COORDINATOR_ENGINE__LEASE_MS: engine.lease_ms: must be more than renew_ms"
    );
    let layers = Layers::<Config>::load(None, []).expect("is good");
    let layers = layers.flags(|config| config.engine.sessions = 0).expect("can be written");
    let error = layers.finish().expect_err("is wrong").to_string();
    assert_eq!(error, "the flags: engine.sessions: must be at least 1");
    for nowhere in ["/ip4/0.0.0.0/tcp/1", "/ip6/::/udp/1/quic-v1", "/ip4/192.0.2.7/tcp/0"] {
        let error = with(&[("ARBORCAST_COORDINATOR_EXTERNAL", nowhere)]).expect_err(nowhere);
        assert!(error.contains("external: must be addresses that others can dial"), "{error}");
    }
}

#[test]
fn only_the_sum_of_all_layers_must_be_in_range() {
    let file = Written::new("sum", "[engine]\nrenew_ms = 20000\n");
    let variables = environment(&[("ARBORCAST_COORDINATOR_ENGINE__LEASE_MS", "60000")]);
    let layers = Layers::<Config>::load(Some(&file.0), variables).expect("is good");
    assert_eq!(layers.finish().map(|config| config.engine.lease_ms).ok(), Some(60_000));
}

#[test]
fn a_wrong_variable_is_named() {
    let variable = "ARBORCAST_COORDINATOR_ENGINE__LEASE_MS";
    let refused = |name: &str, value| {
        let name = format!("ARBORCAST_COORDINATOR_{name}");
        let error = with(&[(&name, value)]).expect_err("is wrong");
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        error
    };
    assert_eq!(
        refused("ENGINE__LEASE_MS", "soon"),
        format!("{variable}: must be a whole number, not \"soon\"")
    );
    assert!(refused("ENGINE__LEASE_MS", "-1").contains("engine.lease_ms: "));
    assert!(refused("ENGINE__LEASE", "1").contains("lease_ms"), "the known ones are named");
    assert!(refused("ENGINE__OPEN_SESSIONS", "yes").contains("true or false"));
    assert!(refused("ENGINE", "1").contains("is a table"));
    assert!(refused("ENGINE__LEASE_MS__X", "1").contains("no table"));
    assert!(refused("LISTEN", "here").contains("listen[0]"));
}

#[test]
fn variables_of_others_are_left_alone() {
    let variables = environment(&[
        ("ARBORCAST_COORDINATOR_CONFIG", "x"),
        ("ARBORCAST_COORDINATOR_PORT_4001_TCP", "tcp://192.0.2.1:4001"),
        ("ARBORCAST_NICK", "x"),
        ("PATH", "x"),
    ]);
    let layers = Layers::<Config>::load(None, variables).expect("is good");
    assert_eq!(layers.ignored(), ["ARBORCAST_COORDINATOR_PORT_4001_TCP names no setting"]);
}

#[test]
fn a_variable_that_lacks_its_table_is_told_its_name() {
    for short in ["LEASE_MS", "ENGINE_LEASE_MS"] {
        let variables = environment(&[(&format!("ARBORCAST_COORDINATOR_{short}"), "1")]);
        let layers = Layers::<Config>::load(None, variables).expect("is good");
        assert_eq!(
            layers.ignored(),
            [format!(
                "ARBORCAST_COORDINATOR_{short} names no setting; did you mean \
                 ARBORCAST_COORDINATOR_ENGINE__LEASE_MS?"
            )]
        );
    }
}

#[test]
fn a_mistyped_variable_is_told_the_name_that_was_meant() {
    for (wrong, right) in [("LISTN", "LISTEN"), ("ENGIN__LEASE_MS", "ENGINE__LEASE_MS")] {
        let variables = environment(&[(&format!("ARBORCAST_COORDINATOR_{wrong}"), "1")]);
        let layers = Layers::<Config>::load(None, variables).expect("is good");
        assert_eq!(
            layers.ignored(),
            [format!(
                "ARBORCAST_COORDINATOR_{wrong} names no setting; did you mean \
                 ARBORCAST_COORDINATOR_{right}?"
            )]
        );
    }
}

#[test]
fn a_file_that_is_not_there_or_is_no_text_is_named() {
    let absent = Layers::<Config>::load(Some(Path::new("no-such.toml")), []);
    assert!(absent.is_err_and(|error| error.to_string().starts_with("no-such.toml: ")));
    let file = Written::new("binary", "");
    std::fs::write(&file.0, b"# \xc3\xa4\nab\xff = 1").expect("can be written");
    let error = Layers::<Config>::load(Some(&file.0), []).expect_err("is no text").to_string();
    assert!(error.ends_with("c.toml:2:3: is not UTF-8, which TOML is"), "{error}");
    std::fs::write(&file.0, vec![b'#'; (1 << 20) + 1]).expect("can be written");
    let error = Layers::<Config>::load(Some(&file.0), []).expect_err("is large").to_string();
    assert!(error.contains("1 MiB"), "{error}");
}
