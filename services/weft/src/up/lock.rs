//! One mesh at a time in a data directory.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    process,
};

use anyhow::{Context as _, bail};

/// The lock of a data directory. The system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// Names the directory, and the process that holds it.
    pub(super) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let shown = data_dir.display();
        fs::create_dir_all(data_dir).with_context(|| format!("cannot use the data directory {shown}"))?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data_dir.join("lock"))
            .with_context(|| format!("cannot write to the data directory {shown}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{}", held(&mut file, data_dir)),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the data directory {shown}"));
            }
        }
        let written =
            file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).and_then(|()| file.flush());
        written.with_context(|| format!("cannot write to the data directory {shown}"))?;
        Ok(Self { _file: file })
    }
}

fn held(file: &mut File, data_dir: &Path) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let by = match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!(" by process {pid}"),
        _ => String::new(),
    };
    let shown = data_dir.display();
    format!("the data directory {shown} is in use{by}; stop that mesh, or give another --data-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let first = Lock::take(&data_dir).unwrap();
        let refused = Lock::take(&data_dir).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("is in use by process {}; stop that mesh", process::id())),
            "{refused}"
        );
        drop(first);
        assert!(Lock::take(&data_dir).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Lock::take(&file.path().join("below-a-file")).unwrap_err().to_string();
        assert!(refused.starts_with("cannot use the data directory /"), "{refused}");
    }
}
