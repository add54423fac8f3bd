//! The folder of one process where uploads are spooled, and the claim to a data directory.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// A spool folder; what it holds ends with the process, whoever cleans up.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    _lock: File,
}

impl Spool {
    /// Makes a folder of this process below `data_dir`, and removes those of processes that have ended.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let spools = data_dir.join("spool");
        fs::create_dir_all(&spools)?;
        for entry in fs::read_dir(&spools)? {
            remove_if_ended(&entry?.path());
        }
        let folder = spools.join(uuid::Uuid::now_v7().simple().to_string());
        fs::create_dir(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Claims a directory for this process alone, until the returned file is dropped or the process ends.
pub fn claim(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let file = File::create(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it"))
        }
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn remove_if_ended(folder: &Path) {
    // A folder without a lock is of a process that is just starting, or no folder of ours.
    let Ok(lock) = File::open(folder.join("lock")) else { return };
    if lock.try_lock().is_ok() {
        let _ = fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_goes_with_its_process_and_spares_those_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let first = Spool::open(directory.path()).unwrap();
        fs::write(first.folder().join("upload"), b"x").unwrap();
        let second = Spool::open(directory.path()).unwrap();
        assert!(first.folder().join("upload").exists());
        // As a killed process leaves it: the folder stays, the lock does not.
        let killed = first.folder().to_owned();
        drop(first._lock.try_clone());
        first._lock.unlock().unwrap();
        std::mem::forget(first);
        let third = Spool::open(directory.path()).unwrap();
        assert!(!killed.exists());
        assert!(second.folder().exists() && third.folder().exists());
    }

    #[test]
    fn a_claimed_directory_is_not_claimed_twice() {
        let directory = tempfile::tempdir().unwrap();
        let claimed = claim(directory.path()).unwrap();
        assert_eq!(claim(directory.path()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(claimed);
        claim(directory.path()).unwrap();
    }
}
