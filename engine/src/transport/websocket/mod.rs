//! WebSocket (RFC 6455) as MQTT uses it: binary messages whose borders mean nothing (MQTT 5, 6.0).
//!
//! `upgrade` reads the client's HTTP request, `frames` what follows it, `layer` is one connection. All of it is pure but
//! for the calls that `layer` is given to reach what lies below it.

pub mod frames;
pub mod layer;
pub mod upgrade;

/// Opcodes (RFC 6455, 5.2).
mod opcode {
    pub const CONTINUATION: u8 = 0x0;
    pub const TEXT: u8 = 0x1;
    pub const BINARY: u8 = 0x2;
    pub const CLOSE: u8 = 0x8;
    pub const PING: u8 = 0x9;
    pub const PONG: u8 = 0xA;
}

/// Status codes of a close frame (RFC 6455, 7.4.1).
pub mod close_code {
    /// All is said.
    pub const NORMAL: u16 = 1000;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// The peer sent what is not taken here: text.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// A frame that is too large.
    pub const TOO_BIG: u16 = 1009;
}
