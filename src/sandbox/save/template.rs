//! Templates: images by name, of which new sandboxes are made.

use super::read::Image;
use crate::sandbox::error::{Error, Result};
use crate::sandbox::outside::registry::is_name;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The directory of a user's templates.
#[derive(Clone, Debug)]
pub struct Templates {
    dir: PathBuf,
}

/// A template.
#[derive(Debug)]
#[non_exhaustive]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Length of the image, bytes.
    pub bytes: u64,
    /// When it was made.
    pub made: SystemTime,
    /// What the first program was started with; why the image cannot be used.
    pub command: std::result::Result<Vec<String>, String>,
}

impl Templates {
    /// Those of the user: `$XDG_DATA_HOME/drupe/templates`, or that below `~/.local/share`. The directory is made if it is
    /// not there.
    ///
    /// # Errors
    /// [`Error::Setting`] if neither variable is set to an absolute path; [`Error::Path`].
    pub fn own() -> Result<Templates> {
        let set = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|p| p.is_absolute());
        let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        let data = data.ok_or_else(|| Error::Setting("templates lie below $XDG_DATA_HOME or $HOME: set one".into()))?;
        Templates::below(data.join("drupe/templates"))
    }

    /// Those of a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn below(dir: impl Into<PathBuf>) -> Result<Templates> {
        let dir = dir.into();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map(|()| Templates { dir: dir.clone() }).map_err(|source| Error::Path { path: dir, source })
    }

    /// Where the template of this name lies or may be put ([`crate::Sandbox::save_to_file`]).
    ///
    /// # Errors
    /// [`Error::Setting`] for what can be no name: the rules are those for sandboxes.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        if is_name(name) {
            return Ok(self.dir.join(name));
        }
        Err(Error::Setting(format!("not a name for a template: {name:?}")))
    }

    /// Opens one.
    ///
    /// # Errors
    /// As [`Templates::path`] and [`Image::open`].
    pub fn open(&self, name: &str) -> Result<Image> {
        Image::open(self.path(name)?)
    }

    /// All, by name.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn list(&self) -> Result<Vec<Template>> {
        let failed = |source| Error::Path { path: self.dir.clone(), source };
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = entry.file_name().into_string().ok().filter(|n| is_name(n)) else { continue };
            // Removed meanwhile.
            let Ok(meta) = entry.metadata() else { continue };
            let command = match Image::command_of(&entry.path()) {
                Ok(command) => Ok(command),
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => Err(e.to_string()),
            };
            let made = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            all.push(Template { name, bytes: meta.len(), made, command });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Removes one. Sandboxes that were made of it go on.
    ///
    /// # Errors
    /// As [`Templates::path`]; [`Error::Path`].
    pub fn remove(&self, name: &str) -> Result {
        let path = self.path(name)?;
        fs::remove_file(&path).map_err(|source| Error::Path { path, source })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
