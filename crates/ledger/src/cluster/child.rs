//! The child process: started so that it cannot outlive us, stopped the way Postgres likes.
//!
//! Its unsafe code is the only one of the workspace besides the map of `crate::recorder`.

use std::{
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use crate::LedgerError;

/// A running server.
#[derive(Debug)]
pub(super) struct Child {
    pid: i32,
    /// Says one word, or hangs up, when the process has ended. The mutex is there to make it `Sync`.
    ended: Mutex<Receiver<()>>,
    exited: bool,
}

impl Child {
    /// Starts the server in a process group of its own, so that Ctrl-C in a terminal reaches us and not it.
    pub(super) fn spawn(mut command: Command, detached: bool) -> io::Result<Self> {
        command.process_group(0);
        if !detached {
            die_with_us(&mut command);
        }
        let (say_pid, pid) = mpsc::channel();
        let (say_ended, ended) = mpsc::channel();
        // The kernel's "parent death" is the death of the *thread* that spawned: this one lives as long as the child.
        thread::Builder::new()
            .name("postgres".into())
            .spawn(move || match command.spawn() {
                Ok(mut child) => {
                    let _ = say_pid.send(Ok(child.id()));
                    let _ = child.wait();
                    let _ = say_ended.send(());
                }
                Err(error) => {
                    let _ = say_pid.send(Err(error));
                }
            })?;
        let pid = pid.recv().map_err(io::Error::other)??;
        Ok(Self {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            ended: Mutex::new(ended),
            exited: false,
        })
    }

    /// Waits a moment for its end.
    pub(super) fn has_exited_within(&mut self, wait: Duration) -> bool {
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.exited = self.exited
            || !matches!(
                ended.recv_timeout(wait),
                Err(mpsc::RecvTimeoutError::Timeout)
            );
        self.exited
    }

    /// Fast shutdown: open transactions are rolled back, everything is written out.
    pub(super) fn stop(mut self, patience: Duration) -> Result<(), LedgerError> {
        if self.has_exited_within(Duration::ZERO) {
            return Ok(());
        }
        interrupt(self.pid);
        if self.has_exited_within(patience) {
            return Ok(());
        }
        Err(LedgerError::cluster(format!(
            "Postgres (process {}) did not stop in {} s",
            self.pid,
            patience.as_secs()
        )))
    }

    /// Leaves it running.
    pub(super) fn let_go(self) {}
}

/// Asks a server for a fast shutdown.
#[expect(unsafe_code, reason = "kill(2) has no safe wrapper in std")]
pub(super) fn interrupt(pid: i32) {
    // SAFETY: kill(2) takes two integers and touches no memory. The pid is a child not yet waited for, or that of a
    // server that answers on our own socket.
    unsafe {
        libc::kill(pid, libc::SIGINT);
    }
}

/// Our effective user id.
#[expect(unsafe_code, reason = "geteuid(2) has no safe wrapper in std")]
pub(super) fn uid() -> u32 {
    // SAFETY: geteuid(2) takes nothing, touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether we are root.
pub(super) fn is_root() -> bool {
    uid() == 0
}

/// Has the kernel send the child SIGINT, Postgres' fast shutdown, when we die, however we die.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "pre_exec, prctl(2) and getppid(2) have no safe wrapper in std"
)]
fn die_with_us(command: &mut Command) {
    let parent = i32::try_from(std::process::id()).unwrap_or_default();
    // SAFETY: between fork and exec only async-signal-safe calls are made (prctl, getppid), and nothing is allocated: the
    // closure captures an integer, and an error from a raw number is a plain value. std has changed the user by then,
    // which would have cleared the setting.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT) != 0 {
                return Err(io::Error::last_os_error());
            }
            // We may have died before the setting stood.
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}
