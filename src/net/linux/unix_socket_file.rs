//! The file of a Unix socket, which stays the same whatever its name comes to mean.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::account::Account;
use super::check;

/// The file of a Unix socket.
#[derive(Debug)]
pub struct UnixSocketFile {
    file: File,
    owner: u32,
}

impl UnixSocketFile {
    /// That at `path`, no symbolic link.
    ///
    /// # Errors
    /// There is none, or it has other names and may be another program's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = options.read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.file_type().is_socket() || found.nlink() != 1 {
            let why = "it is not a socket with one name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self {
            owner: found.uid(),
            file,
        })
    }

    /// Whether it was the user's of `account` when it was opened.
    pub const fn is_of(&self, account: &Account) -> bool {
        self.owner == account.uid
    }

    /// Makes it the user's of `account`.
    ///
    /// # Errors
    /// The process is not root's.
    pub fn give(&self, account: &Account) -> io::Result<()> {
        // SAFETY: the descriptor is open, and the name is a string that ends.
        check(unsafe {
            libc::fchownat(
                self.file.as_raw_fd(),
                c"".as_ptr(),
                account.uid,
                account.gid,
                libc::AT_EMPTY_PATH,
            )
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_link_and_what_has_two_names_are_refused() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let _listener = UnixListener::bind(at("socket"))?;
        symlink(at("socket"), at("link"))?;
        fs::write(at("file"), "")?;
        UnixSocketFile::open(&at("socket"))?;
        for other in ["link", "file", "nothing"] {
            assert!(UnixSocketFile::open(&at(other)).is_err(), "{other}");
        }
        fs::hard_link(at("socket"), at("name"))?;
        assert!(UnixSocketFile::open(&at("socket")).is_err());
        Ok(())
    }
}
