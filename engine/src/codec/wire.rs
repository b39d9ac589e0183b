//! The data types that packets are made of, read and written (MQTT 5 §1.5): integers, variable byte integers,
//! strings, binary data.

use super::DecodeError;
use super::text;

/// The largest value of a variable byte integer (§1.5.5).
pub const VARIABLE_BYTE_INTEGER_MAX: usize = 268_435_455;

/// Bytes that a variable byte integer takes, 1 to 4.
#[inline]
pub(super) const fn varint_size(value: usize) -> usize {
    1 + (value > 0x7f) as usize + (value > 0x3fff) as usize + (value > 0x001f_ffff) as usize
}

/// The outcome of reading a variable byte integer from the start of some bytes.
pub(super) enum Varint {
    /// The value and the bytes it took.
    Value(usize, usize),
    /// The bytes end inside the integer.
    Incomplete,
    /// A fifth byte would follow.
    TooLong,
}

/// Reads a variable byte integer. Longer forms than needed are accepted here: only version 5 forbids them.
#[inline]
pub(super) fn read_varint(input: &[u8]) -> Varint {
    // Most packets and property lists are shorter than 128 bytes.
    match input.first() {
        Some(&byte) if byte & 0x80 == 0 => Varint::Value(usize::from(byte), 1),
        _ => read_long_varint(input),
    }
}

fn read_long_varint(input: &[u8]) -> Varint {
    let mut value = 0;
    for (index, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Varint::Value(value, index + 1);
        }
    }
    if input.len() < 4 { Varint::Incomplete } else { Varint::TooLong }
}

/// Takes fields off the front of a packet's body. `field` names what is read, for the error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

const CUT_SHORT: &str = "is cut short by the end of the packet";

impl<'a> Reader<'a> {
    #[inline]
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::malformed(field, CUT_SHORT));
        };
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    #[inline]
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form ([MQTT-1.5.5-1]).
    #[inline]
    pub fn varint(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        match read_varint(self.rest) {
            Varint::Value(value, size) if size == varint_size(value) => {
                self.take(size, field)?;
                Ok(value)
            }
            Varint::Value(..) => Err(DecodeError::malformed(field, "is not encoded in the fewest bytes possible")),
            Varint::Incomplete => Err(DecodeError::malformed(field, CUT_SHORT)),
            Varint::TooLong => Err(DecodeError::malformed(field, "is longer than four bytes")),
        }
    }

    /// `size` raw bytes.
    #[inline]
    pub fn take(&mut self, size: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(size) else {
            return Err(DecodeError::malformed(field, CUT_SHORT));
        };
        self.rest = rest;
        Ok(head)
    }

    /// Binary data: a two-byte length and that many bytes (§1.5.6).
    #[inline]
    pub fn binary(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let size = self.u16(field)?;
        self.take(usize::from(size), field)
    }

    /// Bytes with a two-byte length that are UTF-8; U+0000 is still to be looked for.
    #[inline]
    pub fn utf8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        // `from_utf8` refuses surrogates and over-long forms, keeps a byte order mark
        // ([MQTT-1.5.4-1], [MQTT-1.5.4-3]; 3.1.1: [MQTT-1.5.3-1], [MQTT-1.5.3-3]).
        match std::str::from_utf8(self.binary(field)?) {
            Ok(text) => Ok(text),
            Err(_) => Err(DecodeError::malformed(field, "is not valid UTF-8")),
        }
    }

    /// An MQTT string: UTF-8 without U+0000 ([MQTT-1.5.4-2]; 3.1.1: [MQTT-1.5.3-2]).
    #[inline]
    pub fn string(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let text = self.utf8(field)?;
        if text::has_null(text) {
            return Err(DecodeError::malformed(field, "contains the null character U+0000"));
        }
        Ok(text)
    }

    /// A packet identifier, which is never 0 ([MQTT-2.2.1-3]; 3.1.1: [MQTT-2.3.1-1]).
    #[inline]
    pub fn packet_id(&mut self) -> Result<u16, DecodeError> {
        let packet_id = self.u16("packet identifier")?;
        if packet_id == 0 {
            return Err(DecodeError::protocol("packet identifier", "is 0"));
        }
        Ok(packet_id)
    }

    /// The encoded properties of version 5 without their length (§2.2.2.1).
    #[inline]
    pub fn property_list(&mut self) -> Result<&'a [u8], DecodeError> {
        let size = self.varint("property length")?;
        self.take(size, "property list")
    }

    /// Nothing may follow the last field.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::malformed("the packet", "has bytes after its last field"))
    }
}

/// Where fields are written: to bytes, or to a count of them, so that a length can precede what it measures.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// `value` must not exceed [`VARIABLE_BYTE_INTEGER_MAX`].
    #[inline]
    fn varint(&mut self, value: usize) {
        debug_assert!(value <= VARIABLE_BYTE_INTEGER_MAX, "the caller checks the packet's size first");
        let mut value = value.min(VARIABLE_BYTE_INTEGER_MAX);
        while value > 0x7f {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// Binary data. More than 65,535 bytes cannot be said and are cut off, so that the packet stays well-formed.
    #[inline]
    fn binary(&mut self, data: &[u8]) {
        let size = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.u16(size);
        self.put(data.get(..usize::from(size)).unwrap_or(data));
    }

    /// A string. What exceeds 65,535 bytes is cut off at a character, so that the packet stays well-formed.
    #[inline]
    fn string(&mut self, text: &str) {
        self.binary(text::clip(text).as_bytes());
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts the bytes that would be written.
#[derive(Debug, Default)]
pub(super) struct Count(pub usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // MQTT 5 §1.5.5, table 1-1.
    const VARINT_EDGES: [(usize, &[u8]); 8] = [
        (0, &[0x00]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
    ];

    // [MQTT-1.5.5-1]
    #[test]
    fn variable_byte_integers_take_the_fewest_bytes() {
        for (value, bytes) in VARINT_EDGES {
            let mut out = Vec::new();
            out.varint(value);
            assert_eq!(out, bytes);
            assert_eq!(varint_size(value), bytes.len());
            assert_eq!(Reader::new(bytes).varint("length"), Ok(value));
        }
    }

    // [MQTT-1.5.5-1]
    #[test]
    fn a_longer_form_of_a_variable_byte_integer_is_malformed() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0x81, 0x80, 0x80, 0x00]] {
            let error = Reader::new(bytes).varint("length").unwrap_err();
            assert_eq!(error.to_string(), "length is not encoded in the fewest bytes possible");
        }
        let error = Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x01]).varint("length").unwrap_err();
        assert_eq!(error.detail, "is longer than four bytes");
        assert_eq!(Reader::new(&[0x80]).varint("length").unwrap_err().detail, CUT_SHORT);
    }

    // [MQTT-1.5.4-1], [MQTT-1.5.4-2], 3.1.1: [MQTT-1.5.3-1], [MQTT-1.5.3-2]
    #[test]
    fn strings_with_bad_utf8_surrogates_or_null_are_malformed() {
        let cases: [(&[u8], &str); 5] = [
            (&[0, 2, 0xc3, 0x28], "is not valid UTF-8"),
            (&[0, 3, 0xed, 0xa0, 0x80], "is not valid UTF-8"),
            (&[0, 2, 0xc0, 0x80], "is not valid UTF-8"),
            (&[0, 3, b'a', 0, b'b'], "contains the null character U+0000"),
            (&[0, 3, b'a', b'b'], CUT_SHORT),
        ];
        for (bytes, detail) in cases {
            let error = Reader::new(bytes).string("client identifier").unwrap_err();
            assert_eq!((error.reason.0, error.detail), (0x81, detail));
        }
    }

    // [MQTT-1.5.4-3], 3.1.1: [MQTT-1.5.3-3]
    #[test]
    fn a_byte_order_mark_is_kept_as_data() {
        let text = Reader::new(&[0, 4, 0xef, 0xbb, 0xbf, b'x']).string("text").unwrap();
        assert_eq!(text, "\u{feff}x");
        let mut out = Vec::new();
        out.string(text);
        assert_eq!(out, [0, 4, 0xef, 0xbb, 0xbf, b'x']);
    }

    // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
    #[test]
    fn packet_identifier_zero_is_refused() {
        assert_eq!(Reader::new(&[0, 0]).packet_id().unwrap_err().reason.0, 0x82);
        assert_eq!(Reader::new(&[1, 2]).packet_id(), Ok(0x0102));
    }

    #[test]
    fn what_is_too_long_for_its_length_field_is_cut_and_stays_well_formed() {
        let long = "é".repeat(40_000);
        let mut out = Vec::new();
        out.string(&long);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.string("text").unwrap().len(), 65_534);
        assert!(reader.is_empty());
        let mut count = Count::default();
        count.binary(&vec![7; 70_000]);
        assert_eq!(count.0, 2 + 65_535);
    }
}
