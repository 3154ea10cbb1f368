//! `arborcast`: host, join, send to and receive from a session, from a shell.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
