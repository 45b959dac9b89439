//! Verbs whose reader has gone, as in `cargo xtask help | head -1`.

use std::io::Read as _;
use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_is_no_panic() {
    for (words, code) in [(&["help"][..], 0), (&["no-such-verb"], 64), (&["dctest", "--al"], 64)] {
        let run = |out: Stdio, err: Stdio| {
            let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
            let child = xtask.args(words).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
            let mut child = child.expect("started");
            let mut said = String::new();
            if let Some(mut err) = child.stderr.take() {
                err.read_to_string(&mut said).expect("text");
            }
            (child.wait().expect("ended").code(), said)
        };
        let closed = || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            Stdio::from(writer)
        };
        let (ended, said) = run(closed(), Stdio::piped());
        assert_eq!(ended, Some(code), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        assert_eq!(run(closed(), closed()).0, Some(code), "{words:?}");
    }
}
