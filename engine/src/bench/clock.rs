//! Time as the generator needs it: two clocks in nanoseconds, and waits that are finer than a millisecond.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Nanoseconds of a clock.
pub type Nanos = u64;

/// Nanoseconds of a second.
pub const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub const MILLISECOND: Nanos = 1_000_000;

fn read(clock: libc::clockid_t) -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusively borrowed timespec for the length of the call, which writes nothing else.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(result, 0, "both clocks exist on every Linux");
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The monotonic clock of the machine: the same in all processes, so a message may be received by another one.
#[inline]
pub fn now() -> Nanos {
    read(libc::CLOCK_MONOTONIC)
}

/// CPU time that the calling thread has used, in user space and in the kernel.
pub fn thread_cpu() -> Nanos {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Seconds as nanoseconds. Negative ones are none.
#[allow(clippy::cast_sign_loss)] // a float that does not fit is clamped by the cast
pub fn from_seconds(seconds: f64) -> Nanos {
    (seconds * 1e9) as Nanos
}

/// Nanoseconds as seconds.
#[allow(clippy::cast_precision_loss)] // 2^53 ns are 104 days
pub fn to_seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// Waits until `poll` is readable or `timeout` has passed, whichever is first; a signal ends it too.
///
/// An event loop's own timeout counts in whole milliseconds, which would be the latency that a run at a fixed rate measures.
pub fn wait_readable(poll: BorrowedFd<'_>, timeout: Nanos) {
    let mut watched = libc::pollfd { fd: poll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout / SECOND).unwrap_or(libc::time_t::MAX),
        // Below 10^9, which every C long holds.
        tv_nsec: (timeout % SECOND).cast_signed(),
    };
    // SAFETY: one valid pollfd and its count, a valid timespec, and no signal mask (null is allowed for it); all of them
    // outlive the call, and the descriptor is open as long as it is borrowed.
    unsafe { libc::ppoll(&raw mut watched, 1, &raw const timeout, std::ptr::null()) };
}

/// Asks the kernel to wake this thread when its timers are due rather than up to 50 microseconds later.
pub fn wake_on_time() {
    let slack: libc::c_ulong = 1;
    // SAFETY: PR_SET_TIMERSLACK takes one number, touches no memory of ours and concerns the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn both_clocks_run() {
        let (time, cpu) = (now(), thread_cpu());
        let mut sum = 0_u64;
        while now() < time + MILLISECOND {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(thread_cpu() > cpu);
    }

    #[test]
    fn a_wait_ends_at_its_timeout_or_with_input() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let start = now();
        wait_readable(reader.as_fd(), MILLISECOND);
        assert!(now() >= start + MILLISECOND);
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        let start = now();
        wait_readable(reader.as_fd(), 60 * SECOND);
        assert!(now() < start + 30 * SECOND);
    }

    #[test]
    fn seconds_that_make_no_sense_are_clamped() {
        assert_eq!(from_seconds(-1.0), 0);
        assert_eq!(from_seconds(f64::NAN), 0);
        assert_eq!(from_seconds(1.5), 1_500_000_000);
    }
}
