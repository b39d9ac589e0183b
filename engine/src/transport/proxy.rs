//! The PROXY protocol, versions 1 and 2: who the client of a proxy is (`proxy-protocol.txt` of `HAProxy`).
//!
//! Pure: give it what has come, again and again from the begin, until it says that the header is whole or can never be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A header of version 1 is one line of at most this many bytes (2.1).
const LINE_MAX: usize = 107;
/// Begin of a header of version 2 (2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// What may follow the fixed part: addresses and what the proxy knows of the client.
const REST_MAX: usize = 4_096;
/// A header is no larger than this, so nobody needs to look at more.
pub const HEADER_MAX: usize = FIXED + REST_MAX;

const PP2_TYPE_CRC32C: u8 = 0x03;
const PP2_TYPE_AUTHORITY: u8 = 0x02;
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_SUBTYPE_SSL_CN: u8 = 0x22;
/// A client certificate was presented, over this connection or in the TLS session that it resumed.
const PP2_CLIENT_CERT: u8 = 0x02 | 0x04;

/// Where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The header does not say (`LOCAL`, `UNKNOWN`): the socket's own peer.
    Socket,
    /// There.
    Inet(SocketAddr),
    /// On the proxy's machine, through a Unix socket.
    Unix,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the client is.
    pub source: Source,
    /// Common name of the certificate that the client has shown to the proxy, which found it good.
    pub common_name: Option<String>,
    /// Server name that the client asked the proxy for.
    pub authority: Option<String>,
    /// Bytes of the header.
    pub size: usize,
}

/// Why something is no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProxyError(pub &'static str);

/// Reads a header. `None`: it goes on behind what has come.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if begins_like(bytes, SIGNATURE) {
        parse_v2(bytes)
    } else if begins_like(bytes, b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(ProxyError("the connection does not begin with a PROXY header"))
    }
}

fn begins_like(bytes: &[u8], begin: &[u8]) -> bool {
    let common = bytes.len().min(begin.len());
    bytes[..common] == begin[..common]
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    const BAD: ProxyError = ProxyError("a PROXY header of version 1 that is not well-formed");
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_MAX)]) else {
        if bytes.len() >= LINE_MAX {
            return Err(ProxyError("a PROXY header of version 1 that is longer than 107 bytes"));
        }
        return Ok(None);
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(BAD)?;
    let text = std::str::from_utf8(line).map_err(|_| BAD)?;
    let header = |source| Ok(Some(Header { source, common_name: None, authority: None, size: end + 1 }));
    let mut words = text.split(' ').skip(1);
    let family = words.next().ok_or(BAD)?;
    if family == "UNKNOWN" {
        return header(Source::Socket);
    }
    let mut word = || words.next().ok_or(BAD);
    let (source, destination): (IpAddr, IpAddr) =
        (word()?.parse().map_err(|_| BAD)?, word()?.parse().map_err(|_| BAD)?);
    let (port, to_port) = (parse_port(word()?).ok_or(BAD)?, parse_port(word()?));
    let is_family = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !is_family || words.next().is_some() || to_port.is_none() {
        return Err(BAD);
    }
    header(Source::Inet(SocketAddr::new(source, port)))
}

/// A port without sign or leading zero.
fn parse_port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let is_local = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyError("a PROXY header with an unknown version or command")),
    };
    let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > REST_MAX {
        return Err(ProxyError("a PROXY header that is larger than 4 KiB"));
    }
    let size = FIXED + length;
    let Some(rest) = bytes.get(FIXED..size) else { return Ok(None) };
    let mut header = Header { source: Source::Socket, common_name: None, authority: None, size };
    if is_local {
        return Ok(Some(header));
    }
    let (source, addresses) = parse_addresses(fixed[13], rest)?;
    header.source = source;
    parse_tlvs(&bytes[..size], FIXED + addresses, &mut header)?;
    Ok(Some(header))
}

/// Source address and size of the address block.
fn parse_addresses(family: u8, rest: &[u8]) -> Result<(Source, usize), ProxyError> {
    const SHORT: ProxyError = ProxyError("a PROXY header that is too short for its addresses");
    match family {
        0x11 => {
            let block = rest.first_chunk::<12>().ok_or(SHORT)?;
            let address = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
            Ok((Source::Inet(SocketAddr::new(address.into(), u16::from_be_bytes([block[8], block[9]]))), 12))
        }
        0x21 => {
            let block = rest.first_chunk::<36>().ok_or(SHORT)?;
            let address = Ipv6Addr::from(*block.first_chunk::<16>().ok_or(SHORT)?);
            Ok((Source::Inet(SocketAddr::new(address.into(), u16::from_be_bytes([block[32], block[33]]))), 36))
        }
        0x31 if rest.len() >= 216 => Ok((Source::Unix, 216)),
        0x31 => Err(SHORT),
        // Unspecified, datagrams: nothing that a client of ours could be. What follows cannot be told from addresses.
        _ => Ok((Source::Socket, rest.len())),
    }
}

fn parse_tlvs(header_bytes: &[u8], start: usize, header: &mut Header) -> Result<(), ProxyError> {
    let mut position = start;
    while position < header_bytes.len() {
        let (kind, value, next) = tlv(header_bytes, position)?;
        match kind {
            PP2_TYPE_CRC32C => check_crc(header_bytes, position + 3, value)?,
            PP2_TYPE_AUTHORITY => header.authority = std::str::from_utf8(value).ok().map(str::to_owned),
            PP2_TYPE_SSL => header.common_name = parse_ssl(value)?,
            _ => {}
        }
        position = next;
    }
    Ok(())
}

/// Kind and value of the TLV at a position, and where the next one begins.
fn tlv(bytes: &[u8], position: usize) -> Result<(u8, &[u8], usize), ProxyError> {
    const BAD: ProxyError = ProxyError("a PROXY header with an incomplete TLV");
    let head = bytes.get(position..).and_then(|rest| rest.first_chunk::<3>()).ok_or(BAD)?;
    let start = position + 3;
    let end = start + usize::from(u16::from_be_bytes([head[1], head[2]]));
    Ok((head[0], bytes.get(start..end).ok_or(BAD)?, end))
}

/// The common name of a client certificate that was presented and verified.
fn parse_ssl(value: &[u8]) -> Result<Option<String>, ProxyError> {
    let head = value.first_chunk::<5>().ok_or(ProxyError("a PROXY header with an incomplete SSL TLV"))?;
    let is_verified = head[0] & PP2_CLIENT_CERT != 0 && head[1..] == [0; 4];
    let mut common_name = None;
    let mut position = 5;
    while position < value.len() {
        let (kind, text, next) = tlv(value, position)?;
        if kind == PP2_SUBTYPE_SSL_CN && is_verified {
            common_name = std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(str::to_owned);
        }
        position = next;
    }
    Ok(common_name)
}

fn check_crc(header: &[u8], position: usize, value: &[u8]) -> Result<(), ProxyError> {
    const BAD: ProxyError = ProxyError("a PROXY header with a wrong checksum");
    let expected = u32::from_be_bytes(value.try_into().map_err(|_| BAD)?);
    let own = position..position + 4;
    let bytes = header.iter().enumerate().map(|(index, byte)| if own.contains(&index) { 0 } else { *byte });
    if crc32c(bytes) == expected { Ok(()) } else { Err(BAD) }
}

/// CRC-32C (Castagnoli), bit by bit: a header is small and comes once.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn tcp4(tlvs: &[u8]) -> Vec<u8> {
        let mut rest = vec![10, 0, 0, 1, 10, 0, 0, 2, 0x1F, 0x90, 0x07, 0x5B];
        rest.extend(tlvs);
        v2(0x21, 0x11, &rest)
    }

    fn ssl(client: u8, verify: u32) -> Vec<u8> {
        let mut value = vec![client];
        value.extend(verify.to_be_bytes());
        value.extend([PP2_SUBTYPE_SSL_CN, 0, 5]);
        value.extend(b"alice");
        let mut tlv = vec![PP2_TYPE_SSL, 0, value.len() as u8];
        tlv.extend(value);
        tlv
    }

    fn inet(text: &str) -> Source {
        Source::Inet(text.parse().unwrap())
    }

    #[test]
    fn version_1_tells_the_client_and_leaves_what_follows() {
        let bytes = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n\x10rest";
        let header = parse(bytes).unwrap().unwrap();
        assert_eq!(header.source, inet("192.0.2.7:56324"));
        assert_eq!(&bytes[header.size..], b"\x10rest");
        let header = parse(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").unwrap().unwrap();
        assert_eq!(header.source, inet("[2001:db8::1]:1"));
    }

    #[test]
    fn unknown_and_local_keep_the_peer_of_the_socket() {
        assert_eq!(parse(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n").unwrap().unwrap().source, Source::Socket);
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap().unwrap().source, Source::Socket);
        assert_eq!(parse(&v2(0x20, 0x11, &[1; 12])).unwrap().unwrap().source, Source::Socket);
        assert_eq!(parse(&v2(0x21, 0, &[])).unwrap().unwrap().source, Source::Socket);
    }

    #[test]
    fn version_2_tells_the_client_of_each_family() {
        let header = parse(&tcp4(&[])).unwrap().unwrap();
        assert_eq!((header.source, header.size), (inet("10.0.0.1:8080"), 28));
        let mut six = vec![0; 36];
        six[15] = 1;
        six[33] = 9;
        assert_eq!(parse(&v2(0x21, 0x21, &six)).unwrap().unwrap().source, inet("[::1]:9"));
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])).unwrap().unwrap().source, Source::Unix);
    }

    #[test]
    fn a_common_name_counts_when_the_proxy_found_the_certificate_good() {
        let name = |client, verify| parse(&tcp4(&ssl(client, verify))).unwrap().unwrap().common_name;
        assert_eq!(name(0x03, 0).as_deref(), Some("alice"));
        assert_eq!(name(0x05, 0).as_deref(), Some("alice"));
        assert_eq!(name(0x03, 1), None);
        assert_eq!(name(0x01, 0), None);
    }

    #[test]
    fn a_checksum_is_checked_where_there_is_one() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
        let mut bytes = tcp4(&[PP2_TYPE_CRC32C, 0, 4, 0, 0, 0, 0]);
        let at = bytes.len() - 4;
        let crc = crc32c(bytes.iter().copied());
        bytes[at..].copy_from_slice(&crc.to_be_bytes());
        assert!(parse(&bytes).unwrap().is_some());
        bytes[16] ^= 1;
        assert!(parse(&bytes).is_err());
    }

    #[test]
    fn what_can_never_be_a_header_is_refused_at_once() {
        for bytes in [
            &b"\x10\x0c"[..],
            b"GET / HTTP/1.1",
            b"PROXX",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 ::1 ::1 1 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 70000 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF",
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(&[b"PROXY ".to_vec(), vec![b'x'; 101]].concat()).is_err());
        assert!(parse(&v2(0x21, 0x11, &[0; 4])).is_err());
        assert!(parse(&tcp4(&[PP2_TYPE_SSL, 0, 9, 1])).is_err());
    }

    #[test]
    fn a_header_is_not_read_before_it_is_whole() {
        for bytes in [b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n".to_vec(), tcp4(&ssl(3, 0))] {
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes[..length]), Ok(None), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_claim_more_than_there_is(
            is_v2 in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let begin: &[u8] = if is_v2 { b"\r\n\r\n\0\r\nQUIT\n\x21" } else { b"PROXY TCP4 " };
            let all = [begin, &bytes].concat();
            if let Ok(Some(header)) = parse(&all) {
                prop_assert!(header.size <= all.len() && header.size <= HEADER_MAX);
            }
            let _ = parse(&bytes);
        }
    }
}
