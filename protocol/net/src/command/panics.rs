//! A panic in a command is a bug, wherever it comes up. Nothing goes on half done: the process says what it was
//! and ends.

/// From now on a panic in any thread or task ends the process with exit code 1, after its message.
pub fn end_the_process() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(1);
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Set for the process that is to fail.
    const FAIL: &str = "ARBORCAST_TEST_FAIL";

    #[test]
    fn a_panic_in_a_task_that_nobody_waits_for_ends_the_process() {
        if std::env::var_os(FAIL).is_some() {
            super::end_the_process();
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                tokio::spawn(async { panic!("lost in a task") });
                std::future::pending::<()>().await;
            });
        }
        let me = std::env::current_exe().expect("this test");
        let name =
            "command::panics::tests::a_panic_in_a_task_that_nobody_waits_for_ends_the_process";
        let failed = Command::new(me)
            .args(["--exact", name, "--nocapture"])
            .env(FAIL, "1")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(said.contains("lost in a task"), "{said}");
    }
}
