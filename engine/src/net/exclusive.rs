//! Watching one listening socket from several event loops without waking all of them for each client.
//!
//! Linux wakes every epoll instance that watches a socket unless it was added with `EPOLLEXCLUSIVE`, which mio does not
//! offer. Elsewhere all workers wake, and those who come late find nothing: slower, not wrong.

use std::io;

use mio::net::TcpListener;
use mio::{Poll, Token};

/// Reports new connections on `listener` to this event loop under `token`, edge-triggered.
#[cfg(target_os = "linux")]
pub fn watch(poll: &Poll, listener: &mut TcpListener, token: Token) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let events = libc::EPOLLIN | libc::EPOLLET | libc::EPOLLEXCLUSIVE;
    let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token.0 as u64 };
    // SAFETY: both descriptors are open, since their owners are borrowed, and `event` lives until the call returns; the
    // kernel copies it. mio stores the token in `u64` as we do, so the event comes back as one of its own.
    let outcome =
        unsafe { libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, listener.as_raw_fd(), &raw mut event) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reports new connections on `listener` to this event loop under `token`.
#[cfg(not(target_os = "linux"))]
pub fn watch(poll: &Poll, listener: &mut TcpListener, token: Token) -> io::Result<()> {
    poll.registry().register(listener, token, mio::Interest::READABLE)
}

/// Ends it.
#[cfg(target_os = "linux")]
pub fn forget(poll: &Poll, listener: &mut TcpListener) {
    use std::os::fd::AsRawFd;
    // SAFETY: as above; Linux ignores the event of a deletion. It fails only when the socket was not watched, which is
    // what is wanted.
    unsafe { libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_DEL, listener.as_raw_fd(), std::ptr::null_mut()) };
}

/// Ends it.
#[cfg(not(target_os = "linux"))]
pub fn forget(poll: &Poll, listener: &mut TcpListener) {
    // It fails only when the socket was not watched, which is what is wanted.
    let _ = poll.registry().deregister(listener);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn loop_with(listener: &std::net::TcpListener) -> (Poll, TcpListener) {
        let poll = Poll::new().unwrap();
        let mut clone = TcpListener::from_std(listener.try_clone().unwrap());
        watch(&poll, &mut clone, Token(7)).unwrap();
        (poll, clone)
    }

    #[test]
    fn a_watched_listener_reports_under_its_token_until_it_is_forgotten() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (mut poll, mut listener) = loop_with(&socket);
        let mut events = mio::Events::with_capacity(4);
        let client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [Token(7)]);
        forget(&poll, &mut listener);
        drop(client);
        let second = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
        assert!(events.is_empty());
        drop(second);
    }
}
