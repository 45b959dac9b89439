//! `cargo xtask bench` as a whole, up to where it would build.

use std::process::Command;

#[test]
fn a_machine_that_lacks_something_is_told_before_anything_is_built() {
    let nowhere = std::env::temp_dir().join(format!("xtask-nowhere-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["bench", "--output", "json", "barrier"]).env("PATH", nowhere);
    let output = command.output().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(77), "{complained}");
    let reason =
        "there is no dpkg-deb on this machine; install it, on Debian by: apt-get install dpkg";
    assert_eq!(complained, format!("bench: {reason}\n"));
    let object: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let expected = serde_json::json!({ "format": 1, "outcome": "failed", "reason": reason });
    assert_eq!(object, expected);
}
