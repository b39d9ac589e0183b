//! DISCONNECT, in both directions.

use crate::codec::{Disconnect, PacketType, Properties, ProtocolVersion, ReasonCode};
use crate::metrics::Reasoned;

use super::ending::broken;
use super::{Connection, Context, Ending, Expiry, Session, Step};

impl Session {
    pub(super) fn on_disconnect(&mut self, cx: &mut Context, disconnect: &Disconnect<'_>) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_reasoned(Reasoned::DisconnectReceived, connection.is_v5(), disconnect.reason);
        if let Some(interval) = disconnect.properties.session_expiry {
            if connection.has_zero_expiry && interval != 0 {
                return broken(
                    ReasonCode::PROTOCOL_ERROR,
                    "DISCONNECT with a session expiry interval although CONNECT had none",
                );
            }
            self.expiry = Expiry::from_interval(interval);
        }
        Step::Close(Ending::Client { reason: disconnect.reason })
    }
}

/// Writes DISCONNECT to an MQTT 5 client, without what does not fit its Maximum Packet Size [MQTT-3.14.2-3].
pub(super) fn write_disconnect(
    cx: &mut Context,
    connection: &mut Connection,
    reason: ReasonCode,
    detail: Option<&str>,
) {
    if !connection.is_v5() {
        return;
    }
    let reason = reason.fit_for(PacketType::Disconnect);
    let mut properties = Properties::default();
    if connection.wants_problem_information && detail.is_some() {
        properties.reason_string = detail;
    }
    let disconnect = Disconnect { reason, properties };
    disconnect.encode_within(ProtocolVersion::V5, connection.packet_size_max, connection.output.buffer());
    cx.tally.add_reasoned(Reasoned::DisconnectSent, true, reason);
}
