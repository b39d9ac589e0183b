//! From an accepted socket to MQTT: PROXY header, TLS handshake, request for WebSocket, in this order.
//!
//! Each step has a deadline of its own ([`Opening::time_limit`]) and ends the connection when it goes wrong, with a line in
//! the log that says what to do about it.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use crate::broker::Peer;
use crate::broker::events::Level;
use crate::metrics::Counter;
use crate::protocol::Ending;
use crate::transport::proxy::{self, HEADER_MAX, Source};
use crate::transport::websocket::upgrade::{self, Refusal, Upgrade};
use crate::transport::{Fault, peek};

use super::slot::{Introduction, Opening, Slot, Stage};
use super::worker::{READ_BYTES, Worker};

/// What came of a step.
enum Outcome {
    /// The next one may begin.
    Done,
    /// More has to come.
    Waiting,
    /// The client has closed the connection.
    Left,
    /// It went wrong.
    Failed(String),
}

impl Outcome {
    fn failed(detail: &dyn ToString) -> Self {
        Self::Failed(detail.to_string())
    }
}

impl Worker {
    /// Goes on with what has to happen before MQTT.
    pub(super) fn open_up(&mut self, key: usize) {
        loop {
            let Some(slot) = self.slots.get(key) else { return };
            let outcome = match slot.opening {
                Opening::ProxyHeader => self.read_proxy_header(key),
                Opening::Tls => self.shake_hands(key),
                Opening::Upgrade => self.read_upgrade(key),
                Opening::Done => {
                    // The socket may be empty while a layer has the first packet already.
                    return self.read_again(key);
                }
            };
            match outcome {
                Outcome::Done => self.next_step(key),
                Outcome::Waiting => {
                    self.watch_if_needed(key);
                    return self.read_again(key);
                }
                Outcome::Left => return self.left(key),
                Outcome::Failed(detail) => return self.fail_opening(key, &detail),
            }
        }
    }

    fn next_step(&mut self, key: usize) {
        let now = self.cx.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        let awaited_tls = slot.awaits_tls();
        slot.opening = slot.opening.next(&slot.listener.options);
        if awaited_tls && !slot.awaits_tls() {
            self.mailbox.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
        slot.step_since = now;
        slot.is_readable = true;
        let limit = slot.opening.time_limit(&slot.listener.options, &self.cx.settings);
        self.watch_if_needed(key);
        self.arm(key, now.saturating_add(limit));
    }

    /// A client that goes without a word was probably a health check.
    fn left(&mut self, key: usize) {
        let Some(slot) = self.slots.get(key) else { return };
        if slot.has_begun {
            return self.fail_opening(key, "the client closed the connection");
        }
        self.close(key, Ending::Lost);
    }

    /// Ends a connection whose step has taken too long.
    pub(super) fn give_up_opening(&mut self, key: usize) {
        let Some(slot) = self.slots.get(key) else { return };
        let limit = slot.opening.time_limit(&slot.listener.options, &self.cx.settings);
        let setting = match slot.opening {
            Opening::ProxyHeader => "",
            Opening::Tls => " (tls_handshake_timeout)",
            Opening::Upgrade | Opening::Done => " (mqtt_connect_timeout)",
        };
        self.fail_opening(key, &format!("it was not over within {limit} ms{setting}"));
    }

    fn fail_opening(&mut self, key: usize, detail: &str) {
        let Some(slot) = self.slots.get(key) else { return };
        let (counter, what) = match slot.opening {
            Opening::ProxyHeader => (Counter::ProxyProtocolError, "PROXY header"),
            Opening::Tls => (Counter::TlsHandshakeError, "TLS handshake"),
            Opening::Upgrade | Opening::Done => (Counter::WebSocketError, "WebSocket upgrade"),
        };
        self.cx.tally.add(counter, 1);
        slot.listener.failed.fetch_add(1, Ordering::Relaxed);
        let fields = vec![("peer", slot.peer.to_string()), ("listener", slot.listener.options.name.to_string())];
        self.node.log(&mut self.cx, Level::Warning, format!("{what} failed: {detail}"), fields);
        if let Some(slot) = self.slots.get_mut(key) {
            slot.stage = Stage::Draining;
        }
        // The client may read what it was told: an alert, or the answer to its request.
        self.drain(key);
    }

    // -- PROXY header --------------------------------------------------------------------------------------------------

    fn read_proxy_header(&mut self, key: usize) -> Outcome {
        let Some(slot) = self.slots.get_mut(key) else { return Outcome::Left };
        // It is looked at where it is and taken off exactly, so that no layer has to be given what was read too much.
        let socket = slot.transport.socket();
        let seen = match peek(socket, &mut self.scratch[..HEADER_MAX]) {
            Ok(Some(0)) | Err(_) => return Outcome::Left,
            Ok(Some(count)) => count,
            Ok(None) => {
                slot.is_readable = false;
                return Outcome::Waiting;
            }
        };
        slot.has_begun = true;
        let header = match proxy::parse(&self.scratch[..seen]) {
            Ok(Some(header)) => header,
            Ok(None) if slot.is_read_closed => return Outcome::Left,
            Ok(None) => {
                slot.is_readable = false;
                return Outcome::Waiting;
            }
            Err(error) => return Outcome::failed(&error),
        };
        if !take_off(slot, &mut self.scratch[..header.size]) {
            return Outcome::failed(&"the header could not be read");
        }
        match header.source {
            Source::Socket => {}
            Source::Inet(address) => slot.peer = Peer::Inet(address),
            Source::Unix => slot.peer = Peer::Local,
        }
        if slot.listener.options.proxy_name_is_username && header.common_name.is_some() {
            introduce(slot).username = header.common_name;
        }
        Outcome::Done
    }

    // -- TLS -----------------------------------------------------------------------------------------------------------

    fn shake_hands(&mut self, key: usize) -> Outcome {
        let Some(slot) = self.slots.get_mut(key) else { return Outcome::Left };
        let (client, received) = match slot.transport.shake_hands(&mut self.scratch) {
            Ok(progress) => progress,
            Err(Fault::Socket(_)) => return Outcome::Left,
            Err(fault) => return Outcome::failed(&fault),
        };
        slot.has_begun |= received.count > 0;
        slot.is_readable = received.has_more;
        slot.wants_write = received.wants_write;
        let Some(client) = client else {
            return if received.is_over { Outcome::Left } else { Outcome::Waiting };
        };
        if client.certificate.is_some() {
            if slot.listener.options.identity_is_username {
                if client.common_name.is_none() {
                    let detail = "the client's certificate has no common name (CN), which the listener takes for the user \
                                  name (use_identity_as_username)";
                    return Outcome::failed(&detail);
                }
                introduce(slot).username = client.common_name;
            }
            introduce(slot).certificate = client.certificate;
        }
        Outcome::Done
    }

    // -- WebSocket -----------------------------------------------------------------------------------------------------

    fn read_upgrade(&mut self, key: usize) -> Outcome {
        let Some(slot) = self.slots.get_mut(key) else { return Outcome::Left };
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let kept = slot.unread.len().min(READ_BYTES);
        buffer[..kept].copy_from_slice(&slot.unread[..kept]);
        let outcome = match super::reading::read_some(slot, &mut buffer[kept..], &mut self.scratch) {
            Ok(Some(0)) | Err(Fault::Socket(_)) => Outcome::Left,
            Ok(None) => Outcome::Waiting,
            Ok(Some(count)) => {
                slot.has_begun = true;
                upgrade(slot, &buffer[..kept + count], kept)
            }
            Err(fault) => Outcome::failed(&fault),
        };
        self.read_buffer = buffer;
        outcome
    }

    // -- what the layers have to write ---------------------------------------------------------------------------------

    /// Has the kernel tell when the socket takes more, if a layer waits for that.
    pub(super) fn watch_if_needed(&mut self, key: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.wants_write || slot.is_watched {
            return;
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        let descriptor = slot.transport.socket().as_raw_fd();
        let watched = self.poll.registry().reregister(&mut mio::unix::SourceFd(&descriptor), Token(key), interest);
        slot.is_watched = watched.is_ok();
        if watched.is_err() {
            self.close(key, Ending::Lost);
        }
    }

    /// Writes what the layers hold, now that the socket takes more.
    pub(super) fn flush_layers(&mut self, key: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.transport.is_layered() {
            return;
        }
        match slot.stage {
            Stage::Draining => self.finish(key),
            // The read that follows goes on with it.
            _ if slot.opening != Opening::Done => slot.is_readable = true,
            _ => {
                // Errors are met again, and dealt with, by whoever reads or writes next.
                slot.wants_write = !slot.transport.flush().unwrap_or(true);
            }
        }
    }
}

fn introduce(slot: &mut Slot) -> &mut Introduction {
    slot.introduction.get_or_insert_default()
}

/// Reads exactly what was looked at before.
fn take_off(slot: &Slot, mut header: &mut [u8]) -> bool {
    use std::io::Read;
    while !header.is_empty() {
        match slot.transport.socket().read(header) {
            Ok(count) if count > 0 => header = &mut header[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
    true
}

/// Answers a request for WebSocket once it is whole.
fn upgrade(slot: &mut Slot, request: &[u8], seen: usize) -> Outcome {
    let options = &slot.listener.options;
    let name_header = options.forwarded.as_ref().and_then(|forwarded| forwarded.common_name_header.as_deref());
    let parsed = upgrade::parse(request, seen, &options.upgrade, name_header).and_then(|parsed| {
        parsed.map(|upgrade| forwarded_peer(slot, &upgrade).map(|peer| (upgrade, peer))).transpose()
    });
    match parsed {
        Ok(None) => {
            slot.unread = request.to_vec();
            Outcome::Waiting
        }
        Ok(Some((upgrade, peer))) => {
            let is_answered = matches!(answer(slot, &upgrade.answer), Ok(count) if count == upgrade.answer.len());
            if !is_answered {
                return Outcome::Left;
            }
            slot.transport.start_websocket(slot.listener.options.frame_size_max, &request[upgrade.size..]);
            slot.unread = Vec::new();
            slot.peer = peer;
            if name_header_of(slot).is_some() && upgrade.common_name.is_some() {
                introduce(slot).username = upgrade.common_name;
            }
            Outcome::Done
        }
        Err(refusal) => {
            // Whether it arrives or not, the connection is over.
            let _ = answer(slot, &refusal.answer());
            Outcome::failed(&refusal.detail)
        }
    }
}

fn name_header_of(slot: &Slot) -> Option<&str> {
    slot.listener.options.forwarded.as_ref()?.common_name_header.as_deref()
}

/// A fresh socket takes a small answer whole; if not, it is not worth waiting for.
fn answer(slot: &Slot, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() { Ok(0) } else { slot.transport.write(&[IoSlice::new(bytes)]) }
}

/// Where the client of a trusted proxy is: the first entry of `X-Forwarded-For`, with the port of the proxy's connection.
fn forwarded_peer(slot: &Slot, upgrade: &Upgrade) -> Result<Peer, Refusal> {
    let Some(forwarded) = &slot.listener.options.forwarded else { return Ok(slot.peer) };
    let (address, port) = match slot.peer {
        Peer::Inet(peer) => (Some(peer.ip().to_canonical()), peer.port()),
        Peer::Local => (None, 0),
    };
    if address.is_none_or(|address| !forwarded.trusted.contains(&address)) {
        let detail = "the peer is not among the trusted proxies (proxy_xff_trusted_intermediate)";
        return Err(Refusal { status: 403, detail });
    }
    let first: Option<IpAddr> = upgrade.forwarded_for.as_deref().and_then(|first| first.parse().ok());
    let detail = "the proxy has sent no X-Forwarded-For that begins with an address (proxy_xff_support)";
    let first = first.ok_or(Refusal { status: 400, detail })?;
    if forwarded.common_name_header.is_some() && upgrade.common_name.as_deref().is_none_or(str::is_empty) {
        let detail = "the proxy has sent no common name of the client's certificate (proxy_xff_cn_header)";
        return Err(Refusal { status: 400, detail });
    }
    Ok(Peer::Inet(SocketAddr::new(first, port)))
}
