//! The system calls that the server makes once it serves; the kernel refuses all others (seccomp).

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Duration;

use libc::c_long;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter, apply_filter_all_threads,
};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Allowed whatever the arguments are. Shards: sockets, epoll, clocks, memory. Control: files to read, HTTP,
/// signals, the control socket. All: threads, allocation, random bytes, the end.
const ALLOWED: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // Answered with ENOSYS, so that the C library takes clone.
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_ioctl,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_socketpair,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Older forms of calls, which newer machines do without.
#[cfg(target_arch = "x86_64")]
const OF_THE_MACHINE: &[c_long] = &[
    libc::SYS_arch_prctl,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THE_MACHINE: &[c_long] = &[];

/// The families of sockets that the server opens: clients and peers, the service manager, the list of
/// the host's addresses.
const FAMILIES: [i32; 4] = [
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_UNIX,
    libc::AF_NETLINK,
];

/// How often all threads are restricted when one of them is in the way. A thread with filters of its own
/// is until the kernel has taken it out of the process, which may be after it was joined.
const TRIES: u32 = 100;
/// How long to wait before the next time.
const REST: Duration = Duration::from_millis(10);

/// From here on no thread of the process, present or future, can do anything else: no program is run, no
/// process made, no memory made executable. What is not allowed fails with EPERM.
///
/// # Errors
/// The kernel has no seccomp, or the machine is of a kind that the filter does not know.
pub fn restrict_system_calls() -> io::Result<()> {
    let apply = |filter: &BpfProgram| patiently(|| apply_filter_all_threads(filter));
    filters()?
        .iter()
        .try_for_each(apply)
        .map_err(io::Error::other)
}

/// Whether [`restrict_system_calls`] would succeed: does the same to a thread that ends with it.
///
/// # Errors
/// Those of [`restrict_system_calls`].
pub fn try_to_restrict_system_calls() -> io::Result<()> {
    let filters = filters()?;
    let trial = move || filters.iter().try_for_each(|filter| apply_filter(filter));
    match thread::spawn(trial).join() {
        Ok(tried) => tried.map_err(io::Error::other),
        Err(_) => Err(io::Error::other("the thread that tried has died")),
    }
}

/// Does `apply` until no other thread is in the way.
fn patiently(mut apply: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    for _ in 1..TRIES {
        match apply() {
            Err(Error::ThreadSync(_)) => thread::sleep(REST),
            applied => return applied,
        }
    }
    apply()
}

fn filters() -> io::Result<[BpfProgram; 2]> {
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let without_clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let first = filter(without_clone3, SeccompAction::Allow, enosys);
    let second = allowed().and_then(|rules| filter(rules, eperm, SeccompAction::Allow));
    Ok([
        first.map_err(io::Error::other)?,
        second.map_err(io::Error::other)?,
    ])
}

fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let machine = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, otherwise, matched, machine)?.try_into()
}

fn allowed() -> Result<Rules, BackendError> {
    let calls = ALLOWED.iter().chain(OF_THE_MACHINE);
    let mut rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
    let families = FAMILIES.iter().map(|family| {
        let family = u64::from(family.unsigned_abs());
        SeccompRule::new(vec![SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            Eq,
            family,
        )?])
    });
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![masked(2, executable, 0)?]);
    }
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    Ok(rules)
}

/// The bits `mask` of an argument are `value`.
fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, BackendError> {
    let condition =
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, MaskedEq(mask), value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_processes_and_other_processes_memory_are_out_of_reach() -> io::Result<()> {
        let rules = allowed().map_err(io::Error::other)?;
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_setuid,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        let duplicates = ALLOWED.len() + OF_THE_MACHINE.len() + 4 - rules.len();
        assert_eq!(duplicates, 0);
        Ok(())
    }

    #[test]
    fn a_thread_that_is_about_to_end_is_waited_for_and_nothing_else() {
        let tries = |succeeds_after: u32, error: fn() -> Error| {
            let mut tries = 0;
            let applied = patiently(|| {
                tries += 1;
                (tries > succeeds_after).then_some(()).ok_or_else(error)
            });
            (applied.is_ok(), tries)
        };
        let in_the_way = || Error::ThreadSync(7);
        assert_eq!(tries(0, in_the_way), (true, 1));
        assert_eq!(tries(3, in_the_way), (true, 4));
        assert_eq!(tries(TRIES, in_the_way), (false, TRIES));
        assert_eq!(tries(1, || Error::EmptyFilter), (false, 1));
    }
}
