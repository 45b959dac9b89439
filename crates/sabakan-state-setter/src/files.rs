//! The files of the list: read when they change, and what is wrong with them told once.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;

use crate::list::{self, List};

/// A list is some hundred lines; a larger file is something else.
const LARGEST: u64 = 1 << 20;

/// Where the list is: the package's, and the site's, which need not be there.
#[derive(Debug)]
pub struct ListFiles {
    package: PathBuf,
    site: Option<PathBuf>,
    zone: TimeZone,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    texts: Option<[String; 2]>,
    list: Option<Arc<List>>,
    /// Why there is no list, or the one that is used is an older one.
    trouble: Option<String>,
    said: BTreeSet<String>,
}

impl ListFiles {
    /// The list in `package` with that in `site` laid over it; times of the day are those of `zone`.
    pub fn new(package: PathBuf, site: Option<PathBuf>, zone: TimeZone) -> Self {
        Self { package, site, zone, state: Mutex::default() }
    }

    /// The list as the files say, or as they said when they could be used last.
    ///
    /// # Errors
    /// They could never be used: what is wrong with them, in one line.
    pub fn current(&self) -> Result<Arc<List>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.look(self);
        match (&state.list, &state.trouble) {
            (Some(list), _) => Ok(Arc::clone(list)),
            (None, trouble) => Err(trouble.clone().unwrap_or_default()),
        }
    }

    /// Why the files, as they are now, cannot be used.
    pub fn trouble(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    fn texts(&self) -> Result<[String; 2], String> {
        let text = |path: &PathBuf, needed: bool| match read(path) {
            Ok(text) => Ok(text),
            Err(error) if !needed && error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => {
                Err(format!("reading the list of machine types {}: {error}", path.display()))
            }
        };
        let site = self.site.as_ref().map(|site| text(site, false));
        Ok([text(&self.package, true)?, site.transpose()?.unwrap_or_default()])
    }
}

impl State {
    fn look(&mut self, files: &ListFiles) {
        let texts = match files.texts() {
            Ok(texts) => texts,
            Err(why) => {
                self.texts = None;
                return self.troubled(vec![why]);
            }
        };
        if self.texts.as_ref() == Some(&texts) {
            return;
        }
        let mut layers = vec![(files.package.as_path(), texts[0].as_str())];
        if let Some(site) = files.site.as_deref().filter(|_| !texts[1].is_empty()) {
            layers.push((site, &texts[1]));
        }
        let read = list::read(&layers, &files.zone);
        self.texts = Some(texts);
        for warning in &read.warnings {
            if self.said.insert(warning.to_string()) {
                tracing::warn!("{warning}");
            }
        }
        match read.list {
            Some(list) => {
                let known = self.list.replace(Arc::new(list));
                if known.is_some() || self.trouble.is_some() {
                    tracing::info!("the list of machine types was read again");
                }
                self.trouble = None;
                self.said.clear();
            }
            None => self.troubled(read.problems.iter().map(ToString::to_string).collect()),
        }
    }

    fn troubled(&mut self, lines: Vec<String>) {
        let first = self.trouble.is_none();
        for line in &lines {
            if self.said.insert(line.clone()) {
                tracing::error!("{line}");
            }
        }
        if first {
            match self.list {
                Some(_) => {
                    tracing::info!("the list of machine types as it was before stays in force")
                }
                None => tracing::info!("waiting for a list of machine types that can be used"),
            }
        }
        self.trouble = Some(lines.join("; "));
    }
}

fn read(path: &PathBuf) -> io::Result<String> {
    let data = std::fs::metadata(path)?;
    // A pipe or a device would be read for ever.
    if !data.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    if data.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_when_they_change_and_a_broken_one_leaves_what_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let (package, site) = (dir.path().join("list.yml"), dir.path().join("site.yml"));
        let files = ListFiles::new(package.clone(), Some(site.clone()), TimeZone::UTC);
        let write = |path: &PathBuf, text: &str| std::fs::write(path, text).expect("written");
        let types =
            || -> Vec<String> { files.current().expect("a list").types.keys().cloned().collect() };

        let why = files.current().expect_err("no file");
        assert!(why.contains("list.yml") && !why.contains('\n'), "{why}");
        write(&package, "machine-types: 3\nshutdown-schedule: never\n");
        let why = files.current().expect_err("no list");
        assert!(why.contains("list.yml:1: ") && why.contains("list.yml:2: "), "{why}");
        assert!(!why.contains('\n'), "{why}");

        write(&package, "machine-types: [{name: a}]\n");
        assert_eq!((types(), files.trouble()), (vec!["a".to_owned()], None));
        let same = files.current().expect("a list");
        assert!(Arc::ptr_eq(&same, &files.current().expect("a list")), "nothing has changed");

        write(&site, "machine-types: [{name: b}]\n");
        assert_eq!(types(), ["b"]);
        write(&site, "machine-types: [{nam: c}]\n");
        assert_eq!(types(), ["b"], "what was stays in force");
        let trouble = files.trouble().expect("told");
        assert!(trouble.contains("site.yml:1: machine-types[0].name: is missing"), "{trouble}");
        std::fs::remove_file(&site).expect("removed");
        assert_eq!((types(), files.trouble()), (vec!["a".to_owned()], None));
        std::fs::remove_file(&package).expect("removed");
        assert_eq!(types(), ["a"]);
        assert!(files.trouble().is_some());
    }
}
