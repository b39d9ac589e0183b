//! WebSocket on one connection: what the broker writes goes into frames where it lies, what the client sends comes out of them.
//!
//! A frame holds what waits to be written at that moment. Its head is small and ours; the payload is never copied: the layer
//! only knows how much of it the frame has promised. Control frames go out between frames.

use std::io::{self, IoSlice};

use smallvec::SmallVec;

use super::frames::{Control, Decoder, write_head};
use super::{close_code, opcode};
use crate::transport::{Fault, Received};

/// One end of a WebSocket connection.
#[derive(Debug)]
pub struct WebSocketLayer {
    decoder: Decoder,
    /// What came behind the upgrade request and is not decoded yet.
    pending: Vec<u8>,
    /// Heads and control frames that go out next.
    prefix: Vec<u8>,
    /// Bytes of `prefix` that are written.
    prefix_written: usize,
    /// Payload that the frame under way still lacks.
    frame_left: usize,
    /// The newest ping that is not answered; older ones need no answer (RFC 6455, 5.5.3).
    ping: Option<Vec<u8>>,
    /// Status code for our close frame.
    code: u16,
    /// The client has broken the protocol.
    fault: Option<&'static str>,
    /// The client has said that nothing more comes.
    is_over: bool,
    /// Our close frame is written, or there was no place for it.
    has_said_goodbye: bool,
}

impl WebSocketLayer {
    /// A connection whose upgrade is answered; `rest` came behind the request.
    pub fn new(frame_size_max: u64, rest: &[u8]) -> Self {
        Self {
            decoder: Decoder::new(frame_size_max),
            pending: rest.to_vec(),
            prefix: Vec::new(),
            prefix_written: 0,
            frame_left: 0,
            ping: None,
            code: close_code::NORMAL,
            fault: None,
            is_over: false,
            has_said_goodbye: false,
        }
    }

    /// Reads once through `below` and takes the payload out of its frames.
    pub fn read(
        &mut self,
        into: &mut [u8],
        below: impl FnOnce(&mut [u8]) -> Result<Received, Fault>,
    ) -> Result<Received, Fault> {
        if let Some(detail) = self.fault {
            return Err(Fault::WebSocket(detail));
        }
        if self.is_over {
            return Ok(Received { is_over: true, ..Received::default() });
        }
        let mut received = if self.pending.is_empty() { below(into)? } else { self.take_pending(into) };
        let Self { decoder, ping, code, is_over, .. } = self;
        let (count, error) = decoder.decode(&mut into[..received.count], |control| match control {
            Control::Ping(payload) => *ping = Some(payload),
            Control::Pong => {}
            Control::Close(given) => {
                *code = given.unwrap_or(close_code::NORMAL);
                *is_over = true;
            }
        });
        received.count = count;
        if let Some(error) = error {
            self.code = error.code;
            self.fault = Some(error.detail);
            if count == 0 {
                return Err(Fault::WebSocket(error.detail));
            }
        }
        let is_at_end = self.is_over || self.fault.is_some();
        received.is_over |= self.is_over && count == 0;
        received.has_more |= is_at_end && count > 0;
        Ok(received)
    }

    fn take_pending(&mut self, into: &mut [u8]) -> Received {
        let count = self.pending.len().min(into.len());
        into[..count].copy_from_slice(&self.pending[..count]);
        self.pending.drain(..count);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Received { count, has_more: true, ..Received::default() }
    }

    /// Whether [`Self::flush`] would write something.
    pub fn has_something_to_say(&self) -> bool {
        self.has_prefix() || (self.frame_left == 0 && self.ping.is_some() && !self.has_said_goodbye)
    }

    fn has_prefix(&self) -> bool {
        self.prefix_written < self.prefix.len()
    }

    /// Writes payload in frames through `below`; how many bytes of it are taken.
    pub fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        mut below: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let waiting: usize = slices.iter().map(|slice| slice.len()).sum();
        if waiting == 0 {
            return Ok(0);
        }
        if self.frame_left == 0 {
            if self.has_said_goodbye {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.queue_pong();
            write_head(opcode::BINARY, waiting, &mut self.prefix);
            self.frame_left = waiting;
        }
        loop {
            let mut pieces: SmallVec<[IoSlice<'_>; 16]> = SmallVec::new();
            if self.has_prefix() {
                pieces.push(IoSlice::new(&self.prefix[self.prefix_written..]));
            }
            let mut room = self.frame_left;
            for slice in slices {
                let count = slice.len().min(room);
                if count > 0 {
                    pieces.push(IoSlice::new(&slice[..count]));
                    room -= count;
                }
            }
            let written = below(&pieces)?;
            drop(pieces);
            let taken = self.count_written(written);
            if taken > 0 {
                return Ok(taken);
            }
        }
    }

    /// Notes how far the prefix and the frame have come; how much of `written` was payload.
    fn count_written(&mut self, written: usize) -> usize {
        let of_prefix = written.min(self.prefix.len() - self.prefix_written);
        self.prefix_written += of_prefix;
        if !self.has_prefix() {
            self.prefix.clear();
            self.prefix_written = 0;
        }
        let of_payload = written - of_prefix;
        self.frame_left -= of_payload;
        of_payload
    }

    fn queue_pong(&mut self) {
        if let Some(payload) = self.ping.take() {
            write_head(opcode::PONG, payload.len(), &mut self.prefix);
            self.prefix.extend_from_slice(&payload);
        }
    }

    /// Writes what is ours: heads and control frames. False: `below` did not take all of it.
    pub fn flush(&mut self, mut below: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<bool> {
        if self.frame_left == 0 && !self.has_said_goodbye {
            self.queue_pong();
        }
        while self.has_prefix() {
            match below(&[IoSlice::new(&self.prefix[self.prefix_written..])]) {
                Ok(written) => {
                    self.count_written(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Has the close frame go out with the next flush. Within a frame that will never be whole there is no place for it.
    pub fn say_goodbye(&mut self) {
        if !self.has_said_goodbye {
            self.has_said_goodbye = true;
            if self.frame_left == 0 {
                write_head(opcode::CLOSE, 2, &mut self.prefix);
                self.prefix.extend_from_slice(&self.code.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes apart what a server has sent, plainly from the specification: payload of data frames, control frames.
    fn take_apart(mut bytes: &[u8]) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
        let (mut data, mut controls) = (Vec::new(), Vec::new());
        while let [first, size, rest @ ..] = bytes {
            let (size, rest) = match size {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
                size => (usize::from(*size), rest),
            };
            assert_eq!(first & 0xF0, 0x80, "whole frames only");
            let (payload, after) = rest.split_at(size);
            if first & 0x08 == 0 {
                data.extend_from_slice(payload);
            } else {
                controls.push((first & 0x0F, payload.to_vec()));
            }
            bytes = after;
        }
        assert!(bytes.is_empty());
        (data, controls)
    }

    fn ping(layer: &mut WebSocketLayer, payload: &[u8]) {
        let mut frame = vec![0x89, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        let count = frame.len();
        let received = layer.read(&mut frame, |_| Ok(Received { count, ..Received::default() })).unwrap();
        assert_eq!(received, Received::default());
    }

    proptest! {
        #[test]
        fn frames_stay_whole_however_little_the_socket_takes(
            steps in prop::collection::vec((0..3_u8, 1_usize..400), 1..60),
            takes in prop::collection::vec(0_usize..90, 1..12),
        ) {
            let mut layer = WebSocketLayer::new(0, &[]);
            let (mut wire, mut waiting, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            let mut takes = takes.into_iter().chain([1_000]).collect::<Vec<_>>().into_iter().cycle();
            let mut below = |slices: &[IoSlice<'_>]| {
                let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                let count = takes.next().unwrap().min(all.len());
                wire.extend_from_slice(&all[..count]);
                if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
            };
            for (index, (kind, size)) in steps.iter().enumerate() {
                if *kind == 0 {
                    ping(&mut layer, &[index as u8; 3]);
                    let _ = layer.flush(&mut below).unwrap();
                } else {
                    let fresh = vec![index as u8; *size];
                    expected.extend_from_slice(&fresh);
                    waiting.extend_from_slice(&fresh);
                }
                let (front, back) = waiting.split_at(waiting.len() / 2);
                match layer.write(&[IoSlice::new(front), IoSlice::new(back)], &mut below) {
                    Ok(taken) => drop(waiting.drain(..taken)),
                    Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            while !waiting.is_empty() {
                if let Ok(taken) = layer.write(&[IoSlice::new(&waiting)], &mut below) {
                    waiting.drain(..taken);
                }
            }
            layer.say_goodbye();
            while !layer.flush(&mut below).unwrap() {}
            let (data, controls) = take_apart(&wire);
            prop_assert_eq!(data, expected);
            prop_assert_eq!(controls.last(), Some(&(opcode::CLOSE, vec![3, 0xE8])));
        }
    }

    #[test]
    fn what_came_with_the_upgrade_is_read_first() {
        let frames = [0x82, 0x82, 0, 0, 0, 0, b'h', b'i'];
        let mut layer = WebSocketLayer::new(0, &frames);
        let mut into = [0; 5];
        let mut read = |into: &mut [u8]| layer.read(into, |_| panic!("the socket is not asked yet")).unwrap();
        assert_eq!(read(&mut into).count, 0);
        assert_eq!((read(&mut into).count, &into[..2]), (2, &b"hi"[..]));
    }

    #[test]
    fn a_text_frame_is_answered_with_1003_behind_what_was_good() {
        let mut bytes = vec![0x82, 0x81, 0, 0, 0, 0, b'x', 0x81, 0x80];
        let count = bytes.len();
        let mut layer = WebSocketLayer::new(0, &[]);
        let received = layer.read(&mut bytes, |_| Ok(Received { count, ..Received::default() })).unwrap();
        assert_eq!((received.count, received.has_more), (1, true));
        assert!(matches!(layer.read(&mut bytes, |_| Ok(Received::default())), Err(Fault::WebSocket(_))));
        layer.say_goodbye();
        let mut wire = Vec::new();
        let all_of_it = |slices: &[IoSlice<'_>]| {
            wire.extend_from_slice(&slices[0]);
            Ok(slices[0].len())
        };
        assert!(layer.flush(all_of_it).unwrap());
        assert_eq!(wire, [0x88, 2, 0x03, 0xEB]);
    }
}
