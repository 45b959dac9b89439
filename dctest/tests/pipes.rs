//! Verbs whose reader has gone, as in `cargo xtask dctest --list | head -1`.

use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_is_no_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    for (words, code) in [(&["stories", "--list"][..], 0), (&["stories", "no-such-story"], 64)] {
        let closed = || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            Stdio::from(writer)
        };
        let program = || {
            let mut program = Command::new(env!("CARGO_BIN_EXE_neco-dctest"));
            program.args(words).env("NECO_DCTEST_DIR", dir.path());
            program.stdin(Stdio::null()).stdout(closed());
            program
        };
        let output = program().stderr(Stdio::piped()).output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        let ended = program().stderr(closed()).status().expect("started");
        assert_eq!(ended.code(), Some(code), "{words:?}");
    }
}
