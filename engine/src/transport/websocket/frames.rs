//! Frames of a client (RFC 6455, 5): unmasked and taken off in place, however the network has cut them.

use super::{close_code, opcode};

/// Payload of a control frame at most (5.5).
pub const CONTROL_MAX: usize = 125;
/// Two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

/// Why a connection must be closed, and with which status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FrameError {
    /// Status code of the close frame.
    pub code: u16,
    /// What the client did.
    pub detail: &'static str,
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// To be answered with a pong of the same payload.
    Ping(Vec<u8>),
    /// The answer to a ping.
    Pong,
    /// Nothing more comes; the status code, if it has one.
    Close(Option<u16>),
}

/// Where the decoder is in the stream.
#[derive(Debug)]
enum Place {
    /// In the head of a frame.
    Head,
    /// In the payload of a data frame; bytes left.
    Data(u64),
    /// In the payload of a control frame; bytes left.
    Control(usize),
    /// Behind a close frame, or behind an error.
    End,
}

/// Decodes the stream of one client.
#[derive(Debug)]
pub struct Decoder {
    frame_size_max: u64,
    place: Place,
    head: [u8; HEAD_MAX],
    head_len: usize,
    /// Rotated so that its first byte is for the next byte of payload.
    mask: [u8; 4],
    /// A message has begun and its last frame has not come.
    is_fragmented: bool,
    control: Vec<u8>,
}

fn broken(detail: &'static str) -> FrameError {
    FrameError { code: close_code::PROTOCOL_ERROR, detail }
}

impl Decoder {
    /// A decoder that takes frames of at most `frame_size_max` bytes; 0: of any size.
    pub fn new(frame_size_max: u64) -> Self {
        Self {
            frame_size_max: if frame_size_max == 0 { u64::MAX } else { frame_size_max },
            place: Place::Head,
            head: [0; HEAD_MAX],
            head_len: 0,
            mask: [0; 4],
            is_fragmented: false,
            control: Vec::new(),
        }
    }

    /// Moves the payload of data frames to the front of `bytes`, unmasked; how many bytes that is. Control frames go to
    /// `on_control`. An error counts from behind that payload; nothing is decoded after it, or after a close frame.
    pub fn decode(&mut self, bytes: &mut [u8], mut on_control: impl FnMut(Control)) -> (usize, Option<FrameError>) {
        let mut kept = 0;
        let mut position = 0;
        loop {
            match self.place {
                Place::Head => {
                    let Some(byte) = bytes.get(position) else { break };
                    position += 1;
                    self.head[self.head_len] = *byte;
                    self.head_len += 1;
                    if let Err(error) = self.on_head() {
                        self.place = Place::End;
                        return (kept, Some(error));
                    }
                }
                Place::Data(left) => {
                    if left > 0 && position == bytes.len() {
                        break;
                    }
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - position);
                    bytes.copy_within(position..position + count, kept);
                    self.unmask(&mut bytes[kept..kept + count]);
                    kept += count;
                    position += count;
                    let left = left - count as u64;
                    self.place = if left == 0 { self.next_frame() } else { Place::Data(left) };
                }
                Place::Control(left) => {
                    if left > 0 && position == bytes.len() {
                        break;
                    }
                    let count = left.min(bytes.len() - position);
                    let start = self.control.len();
                    self.control.extend_from_slice(&bytes[position..position + count]);
                    let mut payload = std::mem::take(&mut self.control);
                    self.unmask(&mut payload[start..]);
                    self.control = payload;
                    position += count;
                    if left > count {
                        self.place = Place::Control(left - count);
                    } else if let Err(error) = self.on_control_end(&mut on_control) {
                        self.place = Place::End;
                        return (kept, Some(error));
                    }
                }
                Place::End => break,
            }
        }
        (kept, None)
    }

    fn next_frame(&mut self) -> Place {
        self.head_len = 0;
        Place::Head
    }

    /// Looks at the head as far as it has come: what is wrong is refused at the first byte that shows it.
    fn on_head(&mut self) -> Result<(), FrameError> {
        let first = self.head[0];
        let code = first & 0x0F;
        let is_control = code & 0x08 != 0;
        if self.head_len == 1 {
            return self.check_first(first, code, is_control);
        }
        let announced = self.head[1] & 0x7F;
        if self.head_len == 2 {
            if self.head[1] & 0x80 == 0 {
                return Err(broken("a WebSocket frame without a mask"));
            }
            if is_control && usize::from(announced) > CONTROL_MAX {
                return Err(broken("a WebSocket control frame of more than 125 bytes"));
            }
        }
        let size_bytes = match announced {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        if self.head_len < 2 + size_bytes {
            return Ok(());
        }
        let size = if size_bytes == 0 {
            u64::from(announced)
        } else {
            self.head[2..2 + size_bytes].iter().fold(0, |size, byte| size << 8 | u64::from(*byte))
        };
        if self.head_len == 2 + size_bytes {
            self.check_size(size, size_bytes)?;
        }
        if self.head_len < 2 + size_bytes + 4 {
            return Ok(());
        }
        self.mask.copy_from_slice(&self.head[2 + size_bytes..2 + size_bytes + 4]);
        if is_control {
            self.control.clear();
            self.place = Place::Control(size as usize);
        } else {
            self.is_fragmented = first & 0x80 == 0;
            self.place = Place::Data(size);
        }
        Ok(())
    }

    fn check_first(&self, first: u8, code: u8, is_control: bool) -> Result<(), FrameError> {
        if first & 0x70 != 0 {
            return Err(broken("a WebSocket frame with a reserved bit set"));
        }
        match code {
            opcode::TEXT => {
                let detail = "a WebSocket text frame; MQTT needs binary ones";
                Err(FrameError { code: close_code::UNSUPPORTED_DATA, detail })
            }
            opcode::BINARY if self.is_fragmented => Err(broken("a new WebSocket message within an unfinished one")),
            opcode::CONTINUATION if !self.is_fragmented => {
                Err(broken("a WebSocket continuation frame without a begin"))
            }
            opcode::CLOSE | opcode::PING | opcode::PONG if first & 0x80 == 0 => {
                Err(broken("a WebSocket control frame in pieces"))
            }
            opcode::BINARY | opcode::CONTINUATION | opcode::CLOSE | opcode::PING | opcode::PONG => Ok(()),
            _ if is_control => Err(broken("a WebSocket control frame of an unknown kind")),
            _ => Err(broken("a WebSocket data frame of an unknown kind")),
        }
    }

    fn check_size(&self, size: u64, size_bytes: usize) -> Result<(), FrameError> {
        let is_minimal = match size_bytes {
            8 => size > 0xFFFF,
            2 => size > 125,
            _ => true,
        };
        if !is_minimal || size > i64::MAX as u64 {
            return Err(broken("a WebSocket frame whose length is not written as it must be"));
        }
        if size > self.frame_size_max {
            let detail = "a WebSocket frame larger than max_ws_frame_size";
            return Err(FrameError { code: close_code::TOO_BIG, detail });
        }
        Ok(())
    }

    fn on_control_end(&mut self, on_control: &mut impl FnMut(Control)) -> Result<(), FrameError> {
        let payload = std::mem::take(&mut self.control);
        self.place = self.next_frame();
        match self.head[0] & 0x0F {
            opcode::PING => on_control(Control::Ping(payload)),
            opcode::PONG => on_control(Control::Pong),
            _ => {
                let code = match payload[..] {
                    [] => None,
                    [_] => return Err(broken("a WebSocket close frame with half a status code")),
                    [high, low, ref reason @ ..] => {
                        if std::str::from_utf8(reason).is_err() {
                            return Err(broken("a WebSocket close frame whose reason is not UTF-8"));
                        }
                        Some(u16::from_be_bytes([high, low]))
                    }
                };
                if code.is_some_and(|code| !may_be_sent(code)) {
                    return Err(broken("a WebSocket close frame with a status code that may not be sent"));
                }
                self.place = Place::End;
                on_control(Control::Close(code));
            }
        }
        Ok(())
    }

    /// Takes the mask off and turns it so that it fits what follows.
    fn unmask(&mut self, payload: &mut [u8]) {
        let [a, b, c, d] = self.mask;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let mut chunks = payload.chunks_exact_mut(8);
        for chunk in &mut chunks {
            if let Some(eight) = chunk.first_chunk_mut::<8>() {
                *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
            }
        }
        for (byte, mask) in chunks.into_remainder().iter_mut().zip(self.mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.mask.rotate_left(payload.len() % 4);
    }
}

/// Status codes that an endpoint may put into a close frame (7.4).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends the head of a server's frame, which has no mask.
pub fn write_head(kind: u8, size: usize, out: &mut Vec<u8>) {
    out.push(0x80 | kind);
    if size <= 125 {
        out.push(size as u8);
    } else if let Ok(size) = u16::try_from(size) {
        out.push(126);
        out.extend_from_slice(&size.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(size as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client's frame, written plainly from the specification.
    fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_head(0, payload.len(), &mut bytes);
        bytes[0] = first;
        bytes[1] |= 0x80;
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        bytes
    }

    /// Decodes in pieces of the given sizes.
    fn decode(bytes: &[u8], steps: &[usize]) -> (Vec<u8>, Vec<Control>, Option<FrameError>) {
        let mut decoder = Decoder::new(1_000);
        let (mut data, mut controls) = (Vec::new(), Vec::new());
        let mut steps = steps.iter().cycle();
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = (*steps.next().unwrap_or(&1)).clamp(1, rest.len());
            let mut piece = rest[..count].to_vec();
            rest = &rest[count..];
            let (kept, error) = decoder.decode(&mut piece, |control| controls.push(control));
            data.extend_from_slice(&piece[..kept]);
            if error.is_some() {
                return (data, controls, error);
            }
        }
        (data, controls, None)
    }

    #[test]
    fn control_frames_may_come_between_the_pieces_of_a_message() {
        let bytes = [
            frame(0x02, [1, 2, 3, 4], b"one"),
            frame(0x89, [5, 6, 7, 8], b"ping"),
            frame(0x00, [9, 9, 9, 9], b""),
            frame(0x8A, [0, 0, 0, 0], b""),
            frame(0x80, [1, 1, 1, 1], b"two"),
            frame(0x88, [7, 7, 7, 7], &[3, 0xE8, b'x']),
            frame(0x82, [1, 1, 1, 1], b"too late"),
        ]
        .concat();
        let (data, controls, error) = decode(&bytes, &[4_096]);
        assert_eq!(data, b"onetwo");
        assert_eq!(controls, [Control::Ping(b"ping".to_vec()), Control::Pong, Control::Close(Some(1_000))]);
        assert_eq!(error, None);
    }

    #[test]
    fn what_a_client_may_not_send_is_refused_with_the_code_for_it() {
        let mask = [0; 4];
        let long =
            |first, size: &[u8]| [&[first, 0x80 | if size.len() == 2 { 126 } else { 127 }][..], size, &mask].concat();
        for (bytes, code) in [
            (frame(0x81, mask, b"text"), 1003),
            (frame(0xC2, mask, b""), 1002),
            (frame(0x83, mask, b""), 1002),
            (frame(0x8B, mask, b""), 1002),
            (frame(0x80, mask, b"no begin"), 1002),
            (frame(0x09, mask, b""), 1002),
            (frame(0x89, mask, &[0; 126]), 1002),
            (vec![0x82, 0x00], 1002),
            (long(0x82, &[0, 125]), 1002),
            (long(0x82, &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), 1002),
            (long(0x82, &[0xFF; 8]), 1002),
            (long(0x82, &[0, 0, 0, 0, 0, 1, 0, 0]), 1009),
            (frame(0x82, mask, &[0; 1_001]), 1009),
            (frame(0x88, mask, &[3]), 1002),
            (frame(0x88, mask, &[3, 0xED]), 1002),
            (frame(0x88, mask, &[3, 0xE8, 0xFF]), 1002),
            ([frame(0x02, mask, b"a"), frame(0x82, mask, b"b")].concat(), 1002),
        ] {
            let (_, _, error) = decode(&bytes, &[4_096]);
            assert_eq!(error.map(|error| error.code), Some(code), "{bytes:?}");
        }
    }

    #[test]
    fn what_came_before_an_error_is_delivered() {
        let bytes = [frame(0x82, [1, 2, 3, 4], b"good"), frame(0x81, [0; 4], b"bad")].concat();
        let (data, _, error) = decode(&bytes, &[4_096]);
        assert_eq!((&data[..], error.is_some()), (&b"good"[..], true));
    }

    proptest! {
        #[test]
        fn the_network_may_cut_the_stream_anywhere(
            frames in prop::collection::vec((0..4_u8, any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            steps in prop::collection::vec(1_usize..97, 1..8),
        ) {
            let (mut bytes, mut expected, mut pings) = (Vec::new(), Vec::new(), 0);
            let mut is_open = false;
            for (kind, mask, payload) in &frames {
                if *kind == 3 {
                    bytes.extend(frame(0x89, *mask, &payload[..payload.len().min(125)]));
                    pings += 1;
                } else {
                    let is_last = *kind != 0;
                    let code = if is_open { opcode::CONTINUATION } else { opcode::BINARY };
                    bytes.extend(frame(u8::from(is_last) << 7 | code, *mask, payload));
                    expected.extend_from_slice(payload);
                    is_open = !is_last;
                }
            }
            let (data, controls, error) = decode(&bytes, &steps);
            prop_assert_eq!(error, None);
            prop_assert_eq!(data, expected);
            prop_assert_eq!(controls.len(), pings);
        }

        #[test]
        fn no_bytes_make_it_panic_and_no_cut_changes_what_it_says(
            bytes in prop::collection::vec(any::<u8>(), 0..400), steps in prop::collection::vec(1_usize..50, 1..5),
        ) {
            prop_assert_eq!(decode(&bytes, &steps), decode(&bytes, &[4_096]));
        }
    }
}
