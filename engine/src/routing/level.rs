//! Topic levels: splitting a name into them, and storing one in 16 bytes where it is short.

use memchr::memchr;

/// The level that matches any one level.
pub(super) const PLUS: &str = "+";
/// The last level that matches its parent and everything below it.
pub(super) const HASH: &str = "#";

/// Longest level kept inside its node.
const INLINE_MAX: usize = 14;
/// Longest level kept in a single block beside its node: one cache line with its length. A UUID fits.
const BLOCK_MAX: usize = 63;

/// The levels of a topic or filter, first to last; `""` has one empty level, `"a/"` has two.
#[derive(Clone)]
pub(super) struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    pub(super) const fn of(name: &'a str) -> Self {
        Self { rest: Some(name) }
    }

    /// Whether the level handed out last was the last one.
    pub(super) const fn is_done(&self) -> bool {
        self.rest.is_none()
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let split = memchr(b'/', rest.as_bytes()).and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)));
        let (level, rest) = split.map_or((rest, None), |(level, rest)| (level, Some(rest)));
        self.rest = rest;
        Some(level)
    }
}

/// Whether a filter has a wildcard: a level that is `+`, or a last level that is `#`.
pub(super) fn has_wildcard(filter: &str) -> bool {
    let mut levels = Levels::of(filter);
    while let Some(level) = levels.next() {
        if level == PLUS || (level == HASH && levels.is_done()) {
            return true;
        }
    }
    false
}

/// Whether a topic belongs to the server, so that no filter with a leading wildcard matches it ([MQTT-4.7.2-1]).
pub(super) fn is_reserved(topic: &str) -> bool {
    topic.as_bytes().first() == Some(&b'$')
}

/// The text of one level, in 16 bytes plus whatever does not fit.
pub(super) enum LevelText {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Block(Box<Block>),
    // Boxed twice because a fat pointer would make every level 24 bytes for the sake of the rare long ones.
    Long(Box<Box<[u8]>>),
}

/// A level of middle length together with its length, so that comparing it touches one cache line.
pub(super) struct Block {
    len: u8,
    bytes: [u8; BLOCK_MAX],
}

impl LevelText {
    pub(super) fn new(level: &str) -> Self {
        let source = level.as_bytes();
        if let Some((len, bytes)) = padded(source) {
            return Self::Inline { len, bytes };
        }
        match padded(source) {
            Some((len, bytes)) => Self::Block(Box::new(Block { len, bytes })),
            None => Self::Long(Box::new(source.into())),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Block(block) => block.bytes.get(..usize::from(block.len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    /// The level as text; what went in was text, so nothing is lost.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Block(_) => size_of::<Block>(),
            Self::Long(bytes) => size_of::<Box<[u8]>>() + bytes.len(),
        }
    }
}

impl Default for LevelText {
    fn default() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE_MAX] }
    }
}

/// The text at the front of an array of `N` bytes, `None` when it does not fit.
fn padded<const N: usize>(source: &[u8]) -> Option<(u8, [u8; N])> {
    let mut bytes = [0; N];
    bytes.get_mut(..source.len())?.copy_from_slice(source);
    Some((u8::try_from(source.len()).ok()?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_levels_are_levels() {
        let split = |name| Levels::of(name).collect::<Vec<_>>();
        assert_eq!(split(""), [""]);
        assert_eq!(split("/"), ["", ""]);
        assert_eq!(split("a//b/"), ["a", "", "b", ""]);
    }

    #[test]
    fn a_wildcard_is_a_whole_level_and_the_hash_only_the_last() {
        for filter in ["+", "#", "a/+", "+/a", "a/#", "/#"] {
            assert!(has_wildcard(filter), "{filter}");
        }
        for filter in ["", "a+", "a/b#", "#/a", "a/#/b"] {
            assert!(!has_wildcard(filter), "{filter}");
        }
    }

    #[test]
    fn a_level_comes_back_as_it_went_in_whatever_its_length() {
        for len in [0, 1, 14, 15, 36, 63, 64, 255, 256, 65_535] {
            let level = "x".repeat(len);
            assert_eq!(LevelText::new(&level).as_str(), level);
        }
    }

    #[test]
    fn a_level_takes_sixteen_bytes() {
        assert_eq!(size_of::<LevelText>(), 16);
        assert_eq!(size_of::<Block>(), 64);
    }
}
