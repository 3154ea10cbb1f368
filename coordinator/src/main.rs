//! `arborcast-coordinator`: a coordinator by itself.

fn main() -> std::process::ExitCode {
    arborcast_coordinator::command()
}
