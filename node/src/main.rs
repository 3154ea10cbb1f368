//! `arborcast`: host, join, send to and receive from a session, from a shell.

fn main() -> std::process::ExitCode {
    arborcast::command()
}
