//! The control file: a template with three blanks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::version::Version;
use crate::exit::{Doing, Done, Failure};
use crate::run;

/// Fills the blanks of `control.in`.
pub(super) fn fill(template: &Path, version: &Version, kibibytes: u64, libc: &str) -> Done<String> {
    let text =
        fs::read_to_string(template).doing(|| format!("cannot read {}", template.display()))?;
    let filled = text
        .replace("@VERSION@", &version.to_string())
        .replace("@INSTALLED_SIZE@", &kibibytes.to_string())
        .replace("@LIBC@", libc);
    match filled.split('@').nth(1).filter(|blank| blank.bytes().all(|b| b.is_ascii_uppercase())) {
        Some(blank) => {
            Err(Failure::failed(format!("{}: nothing fills @{blank}@", template.display())))
        }
        None => Ok(filled),
    }
}

/// The oldest libc that has every symbol the programs want, as a dependency.
pub(super) fn needed_libc(programs: &[PathBuf]) -> Done<String> {
    let symbols = run::capture(Command::new("objdump").arg("-T").args(programs))?;
    Ok(match newest_glibc(&symbols) {
        Some((major, minor)) => format!("libc6 (>= {major}.{minor})"),
        None => "libc6".to_owned(),
    })
}

fn newest_glibc(symbols: &str) -> Option<(u32, u32)> {
    symbols
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
            let mut parts = rest[..end.unwrap_or(rest.len())].split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_version_decides() {
        let symbols = "\
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.2.5) write
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34) __libc_start_main
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.9)  pipe2
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_PRIVATE) inner
";
        assert_eq!(newest_glibc(symbols), Some((2, 34)));
        assert_eq!(newest_glibc("static"), None);
    }

    #[test]
    fn a_blank_that_nothing_fills_is_named() {
        let file = std::env::temp_dir().join(format!("xtask-control-{}", std::process::id()));
        let version = Version::parse("2026.11.21-1").unwrap();
        fs::write(
            &file,
            "Version: @VERSION@\nMaintainer: A <a@b.example>\nSize: @INSTALLED_SIZE@ @LIBC@\n",
        )
        .unwrap();
        let filled = fill(&file, &version, 12, "libc6");
        fs::write(&file, "Version: @VERSOIN@\n").unwrap();
        let unfilled = fill(&file, &version, 12, "libc6");
        fs::remove_file(&file).unwrap();
        assert_eq!(
            filled.unwrap(),
            "Version: 2026.11.21-1\nMaintainer: A <a@b.example>\nSize: 12 libc6\n"
        );
        assert!(unfilled.unwrap_err().message.ends_with("nothing fills @VERSOIN@"));
    }
}
