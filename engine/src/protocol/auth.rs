//! AUTH from a connected client: re-authentication.

use crate::codec::{Auth, Properties, ProtocolVersion, ReasonCode};
use crate::hooks::Hooks;
use crate::metrics::Reasoned;

use super::context::{Decision, Host, Question, Verdict};
use super::ending::broken;
use super::{Connection, Context, Ending, Session, Step, Waiting};

impl Session {
    pub(super) fn on_auth<H: Host>(&mut self, cx: &mut Context, host: &mut H, auth: &Auth<'_>) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_reasoned(Reasoned::AuthReceived, true, auth.reason);
        let method = auth.properties.authentication_method;
        if connection.authentication_method.is_none() || method != connection.authentication_method.as_deref() {
            return broken(ReasonCode::PROTOCOL_ERROR, "AUTH with another method than CONNECT");
        }
        let expected =
            if connection.is_authenticating { ReasonCode::CONTINUE_AUTHENTICATION } else { ReasonCode::REAUTHENTICATE };
        if auth.reason != expected {
            return broken(
                ReasonCode::PROTOCOL_ERROR,
                "an AUTH that answers nothing, or one that begins anew too early",
            );
        }
        if !cx.hooks.contains(Hooks::ON_AUTH) {
            return broken(ReasonCode::BAD_AUTHENTICATION_METHOD, "nobody handles this authentication method any more");
        }
        let question = Question::Auth {
            method: method.unwrap_or_default(),
            data: auth.properties.authentication_data,
            reason_code: auth.reason.0,
            properties: auth.properties.encoded(),
        };
        if !host.ask(cx, &self.identity, question) {
            return broken(ReasonCode::SERVER_BUSY, "too many authentications wait");
        }
        connection.waiting = Some(Waiting::Auth);
        Step::Pause
    }
}

/// Goes on with a re-authentication as Python decided.
pub(super) fn answer_auth(cx: &mut Context, connection: &mut Connection, verdict: &Verdict) -> Step {
    let reason = match verdict.decision {
        Decision::Allow => ReasonCode::SUCCESS,
        Decision::Continue => ReasonCode::CONTINUE_AUTHENTICATION,
        Decision::Deny(reason) => return broken(reason, "re-authentication failed"),
    };
    connection.is_authenticating = reason == ReasonCode::CONTINUE_AUTHENTICATION;
    let mut properties = Properties::default();
    properties.authentication_method = connection.authentication_method.as_deref();
    properties.authentication_data = verdict.data.as_deref();
    let auth = Auth { reason, properties };
    auth.encode_within(ProtocolVersion::V5, connection.packet_size_max, connection.output.buffer());
    cx.tally.add_reasoned(Reasoned::AuthSent, true, reason);
    Step::Continue
}
