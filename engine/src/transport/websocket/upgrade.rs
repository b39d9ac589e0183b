//! The HTTP request that asks for WebSocket, and what it is answered (RFC 6455, 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Where MQTT is.
const PATH: &str = "/mqtt";
/// Subprotocols that are understood, of which a client must offer one [MQTT-6.0.0-3].
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Headers of a request at most.
const HEADERS_MAX: usize = 100;
/// Header lines of the greatest length that fit into a request.
const LONG_HEADERS: usize = 8;
/// A request is no larger than this, whatever the listener allows.
const REQUEST_MAX: usize = 60 * 1_024;
/// Appended to the client's key before it is hashed (1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a listener takes.
#[derive(Clone, Debug)]
pub struct UpgradeLimits {
    /// Bytes of the first line.
    pub request_line: usize,
    /// Bytes of the value of one header.
    pub header_value: usize,
}

impl Default for UpgradeLimits {
    fn default() -> Self {
        Self { request_line: 8_000, header_value: 4_096 }
    }
}

/// A request that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Bytes of the request; frames follow.
    pub size: usize,
    /// The answer to be sent.
    pub answer: Vec<u8>,
    /// First entry of `X-Forwarded-For`.
    pub forwarded_for: Option<String>,
    /// Value of the header that carries a common name.
    pub common_name: Option<String>,
}

/// A request that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer; 0: whoever it is does not speak HTTP and gets none.
    pub status: u16,
    /// Why.
    pub detail: &'static str,
}

impl Refusal {
    /// The answer to be sent.
    pub fn answer(&self) -> Vec<u8> {
        let (phrase, more) = match self.status {
            0 => return Vec::new(),
            403 => ("Forbidden", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET\r\n"),
            414 => ("URI Too Long", ""),
            426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            431 => ("Request Header Fields Too Large", ""),
            _ => ("Bad Request", ""),
        };
        let connection = if self.status == 426 { "Upgrade, close" } else { "close" };
        let Self { status, detail } = self;
        let length = detail.len() + 1;
        format!(
            "HTTP/1.1 {status} {phrase}\r\n{more}Content-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n{detail}\n"
        )
        .into_bytes()
    }
}

fn refuse<T>(status: u16, detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, detail })
}

/// Reads a request. `seen`: how much of it was looked at before. `None`: it goes on behind what has come.
///
/// `common_name_header`: name of the header in which a proxy says whose certificate the client has.
pub fn parse(
    bytes: &[u8],
    seen: usize,
    limits: &UpgradeLimits,
    common_name_header: Option<&str>,
) -> Result<Option<Upgrade>, Refusal> {
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return refuse(0, "the client does not speak HTTP");
    }
    let line_end = memchr::memchr(b'\n', &bytes[..bytes.len().min(limits.request_line + 2)]);
    if line_end.is_none() && bytes.len() > limits.request_line + 1 {
        return refuse(414, "the request line is longer than max_request_line_length");
    }
    // The end is looked for in what is new, so that a request in many small pieces is not read as often.
    let from = seen.saturating_sub(3).min(bytes.len());
    let Some(end) = memchr::memmem::find(&bytes[from..], b"\r\n\r\n") else {
        let most = limits.header_value.saturating_mul(LONG_HEADERS).saturating_add(limits.request_line);
        if bytes.len() >= most.min(REQUEST_MAX) {
            return refuse(431, "the request is too large");
        }
        return Ok(None);
    };
    let size = from + end + 4;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(&bytes[..size]) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "the request has too many headers"),
        Ok(httparse::Status::Partial) | Err(_) => return refuse(400, "the request is not well-formed HTTP"),
    }
    let fields = Fields { headers: request.headers };
    if fields.headers.iter().any(|header| header.value.len() > limits.header_value) {
        return refuse(431, "a header value is longer than max_header_value_length");
    }
    check_request_line(&request)?;
    let (key, subprotocol) = check_headers(&fields)?;
    let forwarded_for = fields.first("x-forwarded-for").map(|value| {
        let first = value.split(',').next().unwrap_or_default();
        first.trim().to_owned()
    });
    let common_name = common_name_header.and_then(|name| fields.first(name)).map(|value| value.trim().to_owned());
    Ok(Some(Upgrade { size, answer: accept(key, subprotocol), forwarded_for, common_name }))
}

fn check_request_line(request: &httparse::Request<'_, '_>) -> Result<(), Refusal> {
    if request.method != Some("GET") {
        return refuse(405, "WebSocket begins with GET");
    }
    if request.version != Some(1) {
        return refuse(400, "WebSocket needs HTTP/1.1");
    }
    let target = request.path.unwrap_or_default();
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if path.strip_suffix('/').unwrap_or(path) != PATH {
        return refuse(404, "MQTT over WebSocket is at /mqtt");
    }
    Ok(())
}

/// The key and the subprotocol of a good request.
fn check_headers<'a>(fields: &Fields<'a, '_>) -> Result<(&'a str, &'static str), Refusal> {
    if !fields.has_token("upgrade", "websocket") || !fields.has_token("connection", "upgrade") {
        return refuse(426, "a WebSocket client was expected: there is no \"Upgrade: websocket\"");
    }
    if fields.only("sec-websocket-version")? != Some("13") {
        return refuse(426, "only version 13 of WebSocket is understood");
    }
    if fields.first("content-length").is_some_and(|length| length.trim() != "0")
        || fields.first("transfer-encoding").is_some()
    {
        return refuse(400, "the request has a body");
    }
    let key = fields.only("sec-websocket-key")?.unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return refuse(400, "Sec-WebSocket-Key is missing or not 16 bytes in base64");
    }
    let offered = fields.tokens("sec-websocket-protocol");
    let found = offered.into_iter().find_map(|offered| SUBPROTOCOLS.into_iter().find(|known| *known == offered));
    let detail = "the client offers no subprotocol mqtt (Sec-WebSocket-Protocol)";
    Ok((key, found.ok_or(Refusal { status: 400, detail })?))
}

/// The answer to a good request. Extensions such as compression are never agreed to.
fn accept(key: &str, subprotocol: &str) -> Vec<u8> {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    let accept = STANDARD.encode(hash.finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    .into_bytes()
}

/// Headers by name.
struct Fields<'a, 'h> {
    headers: &'h [httparse::Header<'a>],
}

impl<'a> Fields<'a, '_> {
    fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
    }

    fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The value of a header that may come once.
    fn only(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let value = values.next().map(str::trim);
        if values.next().is_some() {
            return refuse(400, "a header that may come once has come twice");
        }
        Ok(value)
    }

    fn tokens(&self, name: &str) -> Vec<&'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim).collect()
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).iter().any(|found| found.eq_ignore_ascii_case(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

    fn read(text: &str) -> Result<Option<Upgrade>, Refusal> {
        parse(text.as_bytes(), 0, &UpgradeLimits::default(), Some("x-ssl-client-cn"))
    }

    #[test]
    fn a_good_request_is_answered_as_the_example_of_the_specification() {
        let upgrade = read(&format!("{GOOD}frames")).unwrap().unwrap();
        assert_eq!(upgrade.size, GOOD.len());
        let answer = String::from_utf8(upgrade.answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "));
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
        assert!(!answer.contains("Extensions"));
    }

    #[test]
    fn the_first_address_and_the_name_that_a_proxy_gives_are_told() {
        let more = "X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\nX-SSL-Client-CN: alice\r\n\r\n";
        let upgrade = read(&GOOD.replace("\r\n\r\n", &format!("\r\n{more}"))).unwrap().unwrap();
        assert_eq!(upgrade.forwarded_for.as_deref(), Some("192.0.2.7"));
        assert_eq!(upgrade.common_name.as_deref(), Some("alice"));
    }

    #[test]
    fn each_fault_has_its_status() {
        for (from, to, status) in [
            ("GET", "POST", 405),
            ("/mqtt", "/other", 404),
            ("/mqtt", "/mqttx", 404),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("Upgrade: websocket", "X: y", 426),
            ("keep-alive, Upgrade", "close", 426),
            ("Version: 13", "Version: 8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
            ("chat, mqtt", "chat, MQTT2", 400),
            ("Host: broker", "Content-Length: 5", 400),
            ("Host: broker", "Transfer-Encoding: chunked", 400),
            ("Host: broker", "Sec-WebSocket-Version: 13", 400),
            ("Host: broker", "no colon", 400),
            ("GET", "\u{10}\u{c}", 0),
        ] {
            let refusal = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(refusal.status, status, "{from} -> {to}: {refusal:?}");
            let answer = String::from_utf8(refusal.answer()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) || status == 0);
        }
        assert!(read(&GOOD.replace("/mqtt ", "/mqtt/?token=1 ")).is_ok());
    }

    #[test]
    fn nothing_grows_beyond_its_limit() {
        let long = "x".repeat(9_000);
        assert_eq!(read(&format!("GET /{long}")).unwrap_err().status, 414);
        assert_eq!(read(&GOOD.replace("broker", &long)).unwrap_err().status, 431);
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(read(&GOOD.replace("Host: broker\r\n", &many)).unwrap_err().status, 431);
        let endless = format!("GET /mqtt HTTP/1.1\r\n{}", "a: b\r\n".repeat(10_000));
        assert_eq!(read(&endless).unwrap_err().status, 431);
    }

    proptest! {
        #[test]
        fn a_request_may_come_in_any_pieces(cuts in prop::collection::vec(0..GOOD.len(), 0..10)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut seen = 0;
            for cut in cuts {
                prop_assert_eq!(parse(&GOOD.as_bytes()[..cut], seen, &UpgradeLimits::default(), None), Ok(None));
                seen = cut;
            }
            prop_assert!(parse(GOOD.as_bytes(), seen, &UpgradeLimits::default(), None).unwrap().is_some());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = [b"GET /mqtt HTTP/1.1\r\n".to_vec(), bytes.clone(), b"\r\n\r\n".to_vec()].concat();
            let _ = parse(&text, 0, &UpgradeLimits::default(), Some("a"));
            let _ = parse(&bytes, 0, &UpgradeLimits::default(), None);
        }
    }
}
