//! Room for many file descriptors before there are many.
//!
//! Linux doubles a process's table of descriptors when it is full, and where threads share the table it then waits until no
//! processor can still be looking at the old one: several milliseconds in which nobody is accepted, some six times on the
//! way to 10,000 clients. Asking once for a high descriptor makes the table large at the start, for 8 bytes a place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Places that are made at most; more grow as they are needed.
const PLACES_MAX: libc::rlim_t = 65_536;

/// Makes the table large enough for as many descriptors as the process may have, within reason. `any`: an open descriptor.
pub fn make_room(any: impl AsFd) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let highest = limit.rlim_cur.min(PLACES_MAX).saturating_sub(1) as libc::c_int;
    // SAFETY: the descriptor is open since it is borrowed; the call touches no memory of ours.
    let duplicate = unsafe { libc::fcntl(any.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just opened this descriptor and nobody else knows it. It is closed at once; the table stays.
    drop(unsafe { OwnedFd::from_raw_fd(duplicate) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_without_keeping_a_descriptor() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let lowest_free = || one.try_clone().unwrap().as_raw_fd();
        let before = lowest_free();
        make_room(&one).unwrap();
        assert_eq!(lowest_free(), before);
    }
}
