//! A line between two nodes that can be cut, or go silent in one direction or both.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Forwards connections to an address.
pub struct Line {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_there_silent: AtomicBool,
    is_back_silent: AtomicBool,
    is_refusing: AtomicBool,
    is_over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Line {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if accepting.is_over.load(Ordering::Acquire) {
                    return;
                }
                if accepting.is_refusing.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(target) else { continue };
                accepting.open.lock().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (from, to, is_there) in
                    [(near.try_clone().unwrap(), far.try_clone().unwrap(), true), (far, near, false)]
                {
                    let state = Arc::clone(&accepting);
                    std::thread::spawn(move || forward(from, to, &state, is_there));
                }
            }
        });
        Self { address, state }
    }

    /// Whether what goes to the target, and what comes back, is swallowed up.
    pub fn silence(&self, there: bool, back: bool) {
        self.state.is_there_silent.store(there, Ordering::Release);
        self.state.is_back_silent.store(back, Ordering::Release);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        for socket in self.state.open.lock().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Lets no further connection through.
    pub fn refuse(&self, is_refusing: bool) {
        self.state.is_refusing.store(is_refusing, Ordering::Release);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        self.cut();
        // The thread that accepts looks up once more.
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &State, is_there: bool) {
    let mut buffer = vec![0; 64 * 1_024];
    let flag = if is_there { &state.is_there_silent } else { &state.is_back_silent };
    loop {
        // As with a frozen peer: what waits fills the buffers, nothing is closed.
        while flag.load(Ordering::Acquire) && !state.is_over.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        match from.read(&mut buffer) {
            Ok(count) if count > 0 && !flag.load(Ordering::Acquire) => {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            // What came while the line went silent is lost, and with it the connection when it speaks again.
            Ok(count) if count > 0 => {}
            _ => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
