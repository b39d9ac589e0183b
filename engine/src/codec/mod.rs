//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0. No I/O, no clock, no state.
//!
//! Reading a connection's input:
//!
//! ```ignore
//! loop {
//!     match next_frame(&input[start..], max_packet_size)? {
//!         FrameStep::Frame(frame) => {
//!             start += frame.size;
//!             session.handle(decode(version, frame)?);
//!         }
//!         FrameStep::Incomplete { needed } => break, // read more, at least up to `needed` bytes of this packet
//!     }
//! }
//! ```
//!
//! Whatever [`decode`] returns borrows from `input`. An error ends the connection: [`DecodeError::reason`] is what
//! version 5 tells the peer, and the error displays as a sentence for the log. Before the CONNECT any version may be
//! given to [`decode`]; afterwards it is that of the CONNECT.
//!
//! A packet that decodes is whole and well-formed, and what the specification says about it alone holds: reserved
//! bits, packet identifiers, strings, topic names and filters, properties and their ranges. What depends on earlier
//! packets (aliases, limits that were agreed on, who may send what) is for the session to check.
//!
//! Writing: every packet has `encode`, which appends to a `Vec<u8>`; those that may carry a reason string or user
//! properties have `encode_within` as well, which drops these when the peer's maximum packet size requires it.
//! [`PublishHead`] writes a PUBLISH up to its payload, so that one payload serves many receivers. Successful
//! acknowledgements have functions of their own, such as [`encode_puback`].
//!
//! A new packet or property begins in the file that has its name; the table of properties is in `property.rs`.

mod acknowledgement;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod ping;
mod properties;
mod property;
mod publish;
mod publish_head;
mod publish_properties;
mod reason;
mod suback;
mod subscribe;
pub mod text;
mod unsuback;
mod unsubscribe;
mod wire;

#[cfg(test)]
mod round_trip;

pub use acknowledgement::{
    Acknowledgement, AcknowledgementKind, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel,
};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, ProtocolVersion, Will};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use frame::{Frame, FrameStep, PACKET_SIZE_MAX, PacketType, next_frame};
pub use packet::{Packet, decode};
pub use ping::{PINGREQ, PINGRESP, encode_pingreq, encode_pingresp};
pub use properties::{Properties, PropertySet, UserProperties, UserPropertyIter};
pub use property::Property;
pub use publish::{Publish, QoS};
pub use publish_head::PublishHead;
pub use publish_properties::PublishProperties;
pub use reason::ReasonCode;
pub use suback::SubAck;
pub use subscribe::{FilterIter, RetainHandling, Subscribe, SubscribeOptions};
pub use unsuback::UnsubAck;
pub use unsubscribe::{Unsubscribe, UnsubscribeFilterIter};
pub use wire::VARIABLE_BYTE_INTEGER_MAX;
