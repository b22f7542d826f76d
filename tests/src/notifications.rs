//! Commands that a director runs, and what they were told.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A script that notes its arguments and its environment each time it is run, and then does what it was given to do.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
    notes: PathBuf,
}

/// One run of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its arguments, with blanks between them.
    pub arguments: String,
    /// Its environment; values have one line each.
    pub environment: BTreeMap<String, String>,
}

impl Run {
    /// A variable; empty if it was not set.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }
}

impl Script {
    /// Writes it to a directory; `then` are further lines of shell.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(directory: &Path, name: &str, then: &str) -> Result<Self> {
        let (path, notes) = (directory.join(name), directory.join(format!("{name}.notes")));
        // One write per run, so that runs at the same time do not mix.
        let text = format!(
            "#!/bin/sh\nnote=$(env)\nprintf 'run %s\\n%s\\n' \"$*\" \"$note\" >>{}\n{then}\n",
            notes.display()
        );
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path, notes })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every run so far.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for line in fs::read_to_string(&self.notes).unwrap_or_default().lines() {
            if let Some(arguments) = line.strip_prefix("run ") {
                runs.push(Run {
                    arguments: arguments.to_owned(),
                    ..Run::default()
                });
            } else if let (Some(run), Some((name, value))) = (runs.last_mut(), line.split_once('=')) {
                run.environment.insert(name.to_owned(), value.to_owned());
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn notes_what_it_is_told() {
        let directory = std::env::temp_dir().join(format!("lbx-told-test-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let script = Script::create(&directory, "script", "exit 3").unwrap();
        assert!(script.runs().is_empty());
        for number in ["1", "2"] {
            let mut command = Command::new(script.path());
            let status = command.args(["a", "b"]).env("LBX_NUMBER", number).status().unwrap();
            assert_eq!(status.code(), Some(3));
        }
        let runs = script.runs();
        let told: Vec<_> = runs
            .iter()
            .map(|run| (run.arguments.as_str(), run.get("LBX_NUMBER")))
            .collect();
        assert_eq!(told, [("a b", "1"), ("a b", "2")]);
        assert_eq!(runs[0].get("LBX_NOTHING"), "");
        fs::remove_dir_all(directory).unwrap();
    }
}
