//! The user that a process of root becomes.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use libc::{c_char, c_int, gid_t, uid_t};

use super::check;

/// The most bytes that an entry of the user database may take.
const LONGEST_ENTRY: usize = 1 << 20;
/// The most groups that a user may be in (NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;

/// What is not to change.
const KEEP: uid_t = uid_t::MAX;

/// A user of the host, with the groups that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    groups: Vec<gid_t>,
}

impl Account {
    /// The user called `name`; none if there is no such user.
    ///
    /// # Errors
    /// The user database cannot be read.
    pub fn find(name: &str) -> io::Result<Option<Self>> {
        let Ok(name) = CString::new(name) else {
            return Ok(None);
        };
        let Some((uid, gid)) = ids(&name)? else {
            return Ok(None);
        };
        let groups = groups(&name, gid)?;
        Ok(Some(Self { uid, gid, groups }))
    }

    /// Whether the process is this user's already.
    pub fn is_current(&self) -> bool {
        // SAFETY: these calls touch no memory and cannot fail.
        let ids = unsafe { [libc::getuid(), libc::geteuid()] };
        ids == [self.uid; 2]
    }

    /// Makes every thread of the process this user's until it is the former one's again.
    ///
    /// # Errors
    /// As those of [`assume`](Self::assume).
    pub fn try_on(&self) -> io::Result<FormerUser> {
        // SAFETY: these calls touch no memory and cannot fail.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        self.take_groups()?;
        set_ids([self.gid, self.gid, gid], [self.uid, self.uid, uid])?;
        Ok(FormerUser(uid))
    }

    /// Makes every thread of the process this user's for good: user, group and supplementary groups.
    ///
    /// # Errors
    /// The process is not root's. A part may have been given up then: the process should end.
    pub fn assume(&self) -> io::Result<()> {
        self.take_groups()?;
        set_ids([self.gid; 3], [self.uid; 3])
    }

    fn take_groups(&self) -> io::Result<()> {
        // SAFETY: the kernel reads as many groups as it is told.
        check(unsafe { libc::setgroups(self.groups.len(), self.groups.as_ptr()) }).map(drop)
    }
}

/// Whose the process was before it [tried on](Account::try_on) another user.
#[derive(Debug)]
pub struct FormerUser(uid_t);

impl FormerUser {
    /// Makes every thread of the process this user's again, as far as it matters to what it may do.
    ///
    /// # Errors
    /// The process was made another user's meanwhile.
    pub fn resume(self) -> io::Result<()> {
        // SAFETY: the call touches no memory.
        check(unsafe { libc::setresuid(KEEP, self.0, KEEP) }).map(drop)
    }
}

/// Sets the real, the effective and the saved ones.
fn set_ids(groups: [gid_t; 3], users: [uid_t; 3]) -> io::Result<()> {
    let [real, effective, saved] = groups;
    // SAFETY: the call touches no memory.
    check(unsafe { libc::setresgid(real, effective, saved) })?;
    let [real, effective, saved] = users;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(real, effective, saved) }).map(drop)
}

/// Does `make` with only the user having any right to the files that it makes. Holds for the whole process
/// meanwhile: for its beginning, when nobody else makes files.
pub fn with_private_files<T>(make: impl FnOnce() -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the call touches no memory and cannot fail.
    let before = unsafe { libc::umask(0o077) };
    let made = make();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    made
}

fn ids(name: &CStr) -> io::Result<Option<(uid_t, gid_t)>> {
    let mut buffer: Vec<c_char> = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found: *mut libc::passwd = ptr::null_mut();
        // SAFETY: all pointers live through the call, and the buffer is as long as it says.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            libc::ERANGE if buffer.len() < LONGEST_ENTRY => buffer.resize(buffer.len() * 2, 0),
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: `found` is not null, so `entry` was written.
                let entry = unsafe { entry.assume_init() };
                return Ok(Some((entry.pw_uid, entry.pw_gid)));
            }
            // How some databases say that there is no such user.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// All groups of the user called `name`, `gid` among them.
fn groups(name: &CStr, gid: gid_t) -> io::Result<Vec<gid_t>> {
    let mut groups: Vec<gid_t> = vec![0; 64];
    loop {
        let mut count = c_int::try_from(groups.len()).unwrap_or(c_int::MAX);
        // SAFETY: the call writes at most `count` groups.
        let returned =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if returned >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        if groups.len() >= MOST_GROUPS {
            return Err(io::Error::other("the user is in too many groups"));
        }
        groups.resize(groups.len() * 2, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_are_nobody_elses() -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("socket");
        let bound = with_private_files(|| std::os::unix::net::UnixListener::bind(&path));
        let mode = path.metadata()?.permissions().mode();
        assert_eq!(mode & 0o077, 0);
        bound.map(drop)
    }

    #[test]
    fn root_is_a_user_and_nonsense_is_not() -> io::Result<()> {
        let root = Account::find("root")?;
        assert!(
            root.is_some_and(|root| (root.uid, root.gid) == (0, 0) && root.groups.contains(&0))
        );
        assert_eq!(Account::find("no such user")?, None);
        assert_eq!(Account::find("nul\0")?, None);
        Ok(())
    }
}
