//! The client side of the protocol as a pure state machine: bytes in, events out, bytes to send out.
//!
//! The load generator is made of it, and a bridge's connection to another broker is. It knows no sockets and no clock but the
//! milliseconds passed in. A [`Client`] is one *session*: it outlives its network connections.
//!
//! How to drive it:
//!
//! 1. [`Client::new`] with [`ClientSettings`].
//! 2. When a network connection stands, [`Client::connect`] writes the CONNECT.
//! 3. Whatever arrives goes to [`Client::receive`], packet by packet:
//!
//!    ```ignore
//!    loop {
//!        match client.receive(&input[start..], &mut output)? {
//!            Received::Packet { size, event } => {
//!                start += size;
//!                handle(event);
//!            }
//!            Received::Incomplete { .. } => break, // read more
//!        }
//!    }
//!    ```
//!
//!    It answers by itself what needs no decision: the steps of `QoS` 2, repeats, and with [`Acknowledge::Automatically`] every
//!    message. What it answers is appended to `output`, at most a few bytes for a packet; a driver whose peer does not take
//!    them stops reading.
//! 4. After [`Event::Connected`]: [`Client::publish`], [`Client::subscribe`], [`Client::unsubscribe`], and
//!    [`Client::keep_alive`] when the time it names has come. [`Client::room`] says how many messages of `QoS` 1 or 2 the server
//!    takes now; every [`Event::Acknowledged`] makes room for one.
//! 5. [`Client::disconnect`] ends it in good order. After an error, an [`Event::Disconnected`] or the end of the network
//!    connection comes [`Client::detach`], then perhaps 2 again.
//!
//! What was not acknowledged when a connection ended is sent again, in order, with DUP and the same packet identifiers, if the
//! server still has the session. If not, the messages come back from [`Client::take_abandoned`] and whoever published them
//! decides. For that the client keeps of each message what the caller gives it, a [`Kept`]: a bridge a shared message, the load
//! generator a time stamp.
//!
//! A server is not trusted either. What it sends out of place is an error that closes the connection, and nothing it sends
//! makes the client hold more than the 65,535 packet identifiers of each direction.
//!
//! * `state.rs`: the states and which packet may come in which of them
//! * `settings.rs`: what the client asks for and what the server grants
//! * `window.rs`: packet identifiers and what they stand for
//! * `incoming.rs`: deliveries from the server that are not over
//! * `receive.rs`: what packets from the server do
//! * `connection.rs`: the rest

mod connection;
mod error;
mod incoming;
mod receive;
mod settings;
mod state;
mod window;

#[cfg(test)]
mod tests;

pub use connection::Client;
pub use error::{ClientError, Refusal};
pub use receive::{Event, Received};
pub use settings::{Acknowledge, ClientSettings, ServerLimits, WillSettings};
pub use state::State;
pub use window::Kept;
