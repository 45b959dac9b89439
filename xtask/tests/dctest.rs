//! `cargo xtask dctest` as a whole, up to where it would build.

use std::process::{Command, Output};

use serde_json::{Value, json};

/// On a machine without any program.
fn dctest(words: &[&str]) -> Output {
    let nowhere = std::env::temp_dir().join(format!("xtask-nowhere-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("dctest").args(words).env("PATH", nowhere).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_prevents_it_is_told_before_anything_is_built_also_to_programs() {
    let lack =
        "there is no dpkg-deb on this machine; install it, on Debian by: apt-get install dpkg";
    let typo = "`--al` is not understood; see `cargo xtask dctest --help`";
    for (words, code, outcome, failed, reason) in
        [(&["core"][..], 77, "cannot-run", 0, lack), (&["--al"], 64, "usage", 1, typo)]
    {
        let output = dctest(&[words, &["--output", "json"]].concat());
        assert_eq!(text(&output.stderr), format!("dctest: {reason}\n"));
        assert_eq!(output.status.code(), Some(code));
        let said = text(&output.stdout);
        let object: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&object["passed"], &object["failed"]), (&json!(0), &json!(failed)));
        assert!(object["seconds"].is_number() && object["phases"].is_array(), "{object}");
        assert_eq!((&object["outcome"], &object["reason"]), (&json!(outcome), &json!(reason)));

        let output = dctest(words);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), String::new()));
    }
}

#[test]
fn help_needs_nothing() {
    let output = dctest(&["core", "--help"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("usage: cargo xtask dctest "));
}
