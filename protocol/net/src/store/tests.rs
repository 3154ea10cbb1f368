use super::*;

/// A folder of its own for each test, removed when done.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("arborcast-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Result<Identity, IdentityError> {
    Identity::open(path, Path::new(""))
}

#[test]
fn a_key_is_made_once_and_used_by_one_at_a_time() {
    let folder = Folder::new("once");
    let path = folder.file("deep/down/node.key");
    let first = open(&path).expect("made");
    assert!(matches!(open(&path), Err(IdentityError::InUse(_))));
    let public = first.keypair().public();
    drop(first);
    assert_eq!(open(&path).expect("there").keypair().public(), public);
    let left: Vec<_> = fs::read_dir(folder.file("deep/down")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "nothing else lies about: {left:?}");
}

#[test]
fn many_that_make_the_same_key_at_once_get_one() {
    let folder = Folder::new("race");
    let path = folder.file("node.key");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let tries = (0..8).map(|_| {
            scope.spawn(|| {
                loop {
                    match open(&path) {
                        Ok(identity) => return identity.keypair().public(),
                        Err(IdentityError::InUse(_)) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|tried| tried.join().expect("no panic")).collect()
    });
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_damaged_key_is_refused_and_left_alone() {
    let folder = Folder::new("torn");
    let path = folder.file("c.key");
    let whole = {
        let identity = open(&path).expect("made");
        identity.next_term().expect("a term");
        fs::read(&path).expect("a key")
    };
    for torn in [&b""[..], &whole[..20], &[0; 68]] {
        fs::write(&path, torn).expect("written");
        let error = open(&path).expect_err("refused");
        assert!(matches!(error, IdentityError::Torn { .. }), "{error}");
        assert!(error.to_string().contains("put a copy"), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), torn);
    }
    fs::write(&path, &whole).expect("put back");
    assert_eq!(open(&path).expect("as before").next_term().expect("a term"), Term(2));
}

#[cfg(unix)]
#[test]
fn a_key_that_may_only_be_read_will_do_and_the_term_may_lie_elsewhere() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("read-only");
    let path = folder.file("keys/c.key");
    drop(open(&path).expect("made"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("read-only");
    let state = folder.file("state");
    for term in 2..5 {
        let identity = Identity::open(&path, &state).expect("opened");
        assert_eq!(identity.next_term().expect("a term"), Term(term));
    }
    assert!(state.join("c.key.term").exists());
    assert_eq!(fs::read_dir(folder.file("keys")).expect("a folder").count(), 1);
}

#[test]
fn what_is_written_whole_replaces_what_was_there() {
    let folder = Folder::new("whole");
    let path = folder.file("file");
    for text in ["first", "", "second and longer"] {
        write_whole(&path, text.as_bytes()).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), text);
    }
    assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 1);
}
