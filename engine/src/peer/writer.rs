//! What waits to be written on a connection: frames in order, and urgent ones that go before the next. Pure.

use super::frame::own_frame;

/// Frames on their way out.
#[derive(Debug, Default)]
pub struct FrameWriter {
    frames: Vec<u8>,
    /// How much of them is written.
    offset: usize,
    /// Where the frame begins that is being written.
    frame: usize,
    urgent: Vec<u8>,
    urgent_written: usize,
    /// The bytes that were handed out last are urgent ones.
    is_urgent: bool,
}

impl FrameWriter {
    /// Appends frames.
    pub fn put(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.frames);
    }

    /// Appends frames that go before all others.
    pub fn put_urgent(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.urgent);
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.frames.len() - self.offset + self.urgent.len() - self.urgent_written
    }

    /// What is to be written next; empty: nothing. Then [`FrameWriter::wrote`].
    pub fn next(&mut self) -> &[u8] {
        let is_within = self.offset > self.frame;
        self.is_urgent = self.urgent_written > 0 || (!is_within && !self.urgent.is_empty());
        if self.is_urgent {
            return &self.urgent[self.urgent_written..];
        }
        let end = if is_within && !self.urgent.is_empty() {
            self.frame + own_frame(&self.frames[self.frame..]).0
        } else {
            self.frames.len()
        };
        &self.frames[self.offset..end]
    }

    /// So many of these bytes were written.
    pub fn wrote(&mut self, count: usize) {
        if self.is_urgent {
            self.urgent_written += count;
            if self.urgent_written >= self.urgent.len() {
                self.urgent.clear();
                self.urgent_written = 0;
            }
            return;
        }
        self.offset += count;
        while self.frame < self.offset {
            let end = self.frame + own_frame(&self.frames[self.frame..]).0;
            if end > self.offset {
                break;
            }
            self.frame = end;
        }
        if self.offset >= self.frames.len() {
            self.frames.clear();
            (self.offset, self.frame) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, FrameReader, put_message, put_ping};
    use super::*;

    #[test]
    fn a_heartbeat_overtakes_the_rest_of_a_long_message_but_cuts_no_frame() {
        let mut writer = FrameWriter::default();
        writer.put(|buffer| put_message(buffer, &vec![7; 300_000]));
        let mut reader = FrameReader::new(1 << 20);
        let mut seen = Vec::new();
        let mut written = 0;
        while writer.len() > 0 {
            if written == 100 {
                writer.put_urgent(|buffer| put_ping(buffer, 1));
            }
            let bytes = writer.next();
            let room = reader.room();
            let count = bytes.len().min(100).min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            reader.filled(count);
            writer.wrote(count);
            written += count;
            while let Some(frame) = reader.next().unwrap() {
                seen.push((matches!(frame, Frame::Ping(1)), written));
            }
        }
        assert_eq!(seen.len(), 2);
        assert!(seen[0].0 && seen[0].1 < 70_000, "{seen:?}");
        assert!(!seen[1].0);
    }
}
