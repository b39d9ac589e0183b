//! PINGREQ and PINGRESP: two bytes each, the same in all versions (MQTT 5 §3.12, §3.13).

use super::PacketType;

/// A whole PINGREQ.
pub const PINGREQ: [u8; 2] = [PacketType::PingReq.first_byte(), 0];
/// A whole PINGRESP.
pub const PINGRESP: [u8; 2] = [PacketType::PingResp.first_byte(), 0];

/// Appends a PINGREQ.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&PINGREQ);
}

/// Appends a PINGRESP ([MQTT-3.12.4-1]).
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&PINGRESP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_two_bytes() {
        let mut out = Vec::new();
        encode_pingreq(&mut out);
        encode_pingresp(&mut out);
        assert_eq!(out, [0xc0, 0, 0xd0, 0]);
    }
}
