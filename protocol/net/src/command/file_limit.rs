//! Each connection over TCP takes a file handle, and systems give a process few of them unless it asks.

/// Raises the process's limit of file handles as far as it may, and gives it; `None` where there is none, or
/// it is not known.
#[must_use]
pub fn raise() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        let most = before.maximum;
        let raised = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
        if raised.is_ok() { most } else { before.current }
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        use rustix::process::{Resource, getrlimit};
        let raised = super::raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, raised), (now.maximum, now.maximum));
    }
}
