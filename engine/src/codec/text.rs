//! Strings, topic names, topic filters and shared filters: what they may contain (MQTT 5 §1.5.4, §4.7, §4.8.2).

use memchr::{memchr_iter, memchr2, memchr3};

/// The most bytes that a string, topic name or topic filter may have ([MQTT-4.7.3-3]).
pub const STRING_SIZE_MAX: usize = 65_535;

/// How the filter of a shared subscription begins ([MQTT-4.8.2-1]).
pub const SHARE_PREFIX: &str = "$share/";

/// What is wrong with a string, topic name or topic filter. Displays as a clause to follow the word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.detail())]
pub enum TextError {
    /// A topic name or filter of no characters ([MQTT-4.7.3-1]).
    Empty,
    /// More than [`STRING_SIZE_MAX`] bytes ([MQTT-4.7.3-3]).
    TooLong,
    /// U+0000 ([MQTT-1.5.4-2], [MQTT-4.7.3-2]).
    Null,
    /// `+` or `#` in a topic name ([MQTT-4.7.0-1], 3.1.1: [MQTT-4.7.1-1]).
    Wildcard,
    /// `#` before the last level ([MQTT-4.7.1-1], 3.1.1: [MQTT-4.7.1-2]).
    MultiLevelNotLast,
    /// A wildcard that shares its level with other characters ([MQTT-4.7.1-1], [MQTT-4.7.1-2]).
    WildcardNotAlone,
    /// `$share//...` ([MQTT-4.8.2-1]).
    ShareNameEmpty,
    /// `+` or `#` in the name of a shared subscription ([MQTT-4.8.2-2]).
    ShareNameWildcard,
    /// No `/` and topic filter after the name of a shared subscription ([MQTT-4.8.2-2]).
    ShareFilterMissing,
}

impl TextError {
    /// The clause that [`std::fmt::Display`] prints.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::TooLong => "is longer than 65535 bytes",
            Self::Null => "contains the null character U+0000",
            Self::Wildcard => "contains a wildcard ('+' or '#')",
            Self::MultiLevelNotLast => "has '#' before its last level",
            Self::WildcardNotAlone => "has a wildcard ('+' or '#') that does not fill its level",
            Self::ShareNameEmpty => "has an empty share name after '$share/'",
            Self::ShareNameWildcard => "has a wildcard ('+' or '#') in its share name",
            Self::ShareFilterMissing => "has no topic filter after its share name",
        }
    }
}

/// Whether U+0000 occurs.
#[inline]
pub(super) fn has_null(text: &str) -> bool {
    // Without an early exit this compiles to a few vector instructions, which for the short strings of MQTT costs
    // less than the call into a search routine.
    text.bytes().fold(0, |found, byte| found | u8::from(byte == 0)) != 0
}

/// Whether U+0000, `+` or `#` occurs, which makes a topic name invalid.
#[inline]
pub(super) fn has_null_or_wildcard(text: &str) -> bool {
    let is_special = |byte| u8::from(byte == 0) | u8::from(byte == b'+') | u8::from(byte == b'#');
    text.bytes().fold(0, |found, byte| found | is_special(byte)) != 0
}

/// The longest start of `text` that fits a string field and ends with a whole character.
#[inline]
pub(super) fn clip(text: &str) -> &str {
    if text.len() <= STRING_SIZE_MAX {
        return text;
    }
    let end = (0..=STRING_SIZE_MAX).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}

/// Whether `text` may be sent as an MQTT string (§1.5.4). That it is UTF-8 its type says.
pub fn validate_string(text: &str) -> Result<(), TextError> {
    if text.len() > STRING_SIZE_MAX {
        return Err(TextError::TooLong);
    }
    if has_null(text) {
        return Err(TextError::Null);
    }
    Ok(())
}

/// Whether a message can be published to `topic` (§4.7).
#[inline]
pub fn validate_topic_name(topic: &str) -> Result<(), TextError> {
    if topic.is_empty() {
        return Err(TextError::Empty);
    }
    if topic.len() > STRING_SIZE_MAX {
        return Err(TextError::TooLong);
    }
    if has_null_or_wildcard(topic) {
        return Err(if has_null(topic) { TextError::Null } else { TextError::Wildcard });
    }
    Ok(())
}

/// Whether `filter` can be subscribed to (§4.7.1). It is taken as it stands: `$share/` means nothing here, see
/// [`parse_shared_filter`].
pub fn validate_topic_filter(filter: &str) -> Result<(), TextError> {
    let bytes = filter.as_bytes();
    if bytes.is_empty() {
        return Err(TextError::Empty);
    }
    if bytes.len() > STRING_SIZE_MAX {
        return Err(TextError::TooLong);
    }
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr3(b'#', b'+', 0, rest)) {
        let at = from + found;
        let byte = bytes.get(at).copied().unwrap_or(0);
        if byte == 0 {
            return Err(TextError::Null);
        }
        let starts_level = at == 0 || bytes.get(at - 1) == Some(&b'/');
        let next = bytes.get(at + 1).copied();
        if !starts_level || next.is_some_and(|next| next != b'/') {
            return Err(TextError::WildcardNotAlone);
        }
        if byte == b'#' && next.is_some() {
            return Err(TextError::MultiLevelNotLast);
        }
        from = at + 1;
    }
    Ok(())
}

/// Splits the filter of a shared subscription into its share name and its topic filter, both checked
/// ([MQTT-4.8.2-1], [MQTT-4.8.2-2]). `None` for a filter that is not shared, which is not checked.
pub fn parse_shared_filter(filter: &str) -> Result<Option<(&str, &str)>, TextError> {
    let Some(shared) = filter.strip_prefix(SHARE_PREFIX) else {
        return Ok(None);
    };
    if filter.len() > STRING_SIZE_MAX {
        return Err(TextError::TooLong);
    }
    let (name, topic_filter) = shared.split_once('/').unwrap_or((shared, ""));
    if name.is_empty() {
        return Err(TextError::ShareNameEmpty);
    }
    if name.contains(['+', '#']) {
        return Err(TextError::ShareNameWildcard);
    }
    if name.contains('\0') {
        return Err(TextError::Null);
    }
    if topic_filter.is_empty() {
        return Err(TextError::ShareFilterMissing);
    }
    validate_topic_filter(topic_filter)?;
    Ok(Some((name, topic_filter)))
}

/// Whether `filter` can stand in a SUBSCRIBE or UNSUBSCRIBE: an ordinary filter or a shared one.
pub fn validate_subscription_filter(filter: &str) -> Result<(), TextError> {
    match parse_shared_filter(filter)? {
        Some(_) => Ok(()),
        None => validate_topic_filter(filter),
    }
}

/// Whether `filter` contains a wildcard.
#[inline]
pub fn has_wildcard(filter: &str) -> bool {
    memchr2(b'+', b'#', filter.as_bytes()).is_some()
}

/// The number of levels of a topic name or filter: one more than its separators (§4.7.1.1).
#[inline]
pub fn topic_levels(topic: &str) -> usize {
    memchr_iter(b'/', topic.as_bytes()).count() + 1
}

/// Whether a topic name or filter begins with `$`, which keeps leading wildcards from matching it ([MQTT-4.7.2-1]).
#[inline]
pub fn is_dollar_topic(topic: &str) -> bool {
    topic.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    // [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3], [MQTT-3.3.2-2]; 3.1.1: [MQTT-4.7.1-1]
    #[test]
    fn topic_names_hold_no_wildcard_and_no_null_and_are_not_empty() {
        for good in ["a", "/", "a/b c/é", "$SYS/x", "\u{feff}"] {
            assert_eq!(validate_topic_name(good), Ok(()), "{good}");
        }
        assert_eq!(validate_topic_name(&"x".repeat(65_535)), Ok(()));
        let bad = [("", TextError::Empty), ("a/+", TextError::Wildcard), ("a#", TextError::Wildcard)];
        for (topic, error) in bad {
            assert_eq!(validate_topic_name(topic), Err(error), "{topic}");
        }
        assert_eq!(validate_topic_name("a\0#"), Err(TextError::Null));
        assert_eq!(validate_topic_name(&"x".repeat(65_536)), Err(TextError::TooLong));
    }

    // [MQTT-4.7.1-1], [MQTT-4.7.1-2]; 3.1.1: [MQTT-4.7.1-2], [MQTT-4.7.1-3]
    #[test]
    fn wildcards_of_a_filter_fill_their_level_and_hash_comes_last() {
        for good in ["#", "+", "+/+", "/+", "a/#", "+/a/#", "/", "a//b", "$SYS/#", "+/"] {
            assert_eq!(validate_topic_filter(good), Ok(()), "{good}");
        }
        let bad = [
            ("", TextError::Empty),
            ("#/", TextError::MultiLevelNotLast),
            ("a/#/b", TextError::MultiLevelNotLast),
            ("a#", TextError::WildcardNotAlone),
            ("#a", TextError::WildcardNotAlone),
            ("##", TextError::WildcardNotAlone),
            ("a+/b", TextError::WildcardNotAlone),
            ("+a", TextError::WildcardNotAlone),
            ("a/b+", TextError::WildcardNotAlone),
            ("+/a\0", TextError::Null),
        ];
        for (filter, error) in bad {
            assert_eq!(validate_topic_filter(filter), Err(error), "{filter}");
        }
        assert_eq!(validate_topic_filter(&"x".repeat(65_536)), Err(TextError::TooLong));
    }

    // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[test]
    fn a_shared_filter_has_a_plain_name_and_a_filter() {
        assert_eq!(parse_shared_filter("$share/g/a/+"), Ok(Some(("g", "a/+"))));
        assert_eq!(parse_shared_filter("$share/g//"), Ok(Some(("g", "/"))));
        assert_eq!(parse_shared_filter("a/b"), Ok(None));
        assert_eq!(parse_shared_filter("$share"), Ok(None));
        let bad = [
            ("$share/", TextError::ShareNameEmpty),
            ("$share//a", TextError::ShareNameEmpty),
            ("$share/g", TextError::ShareFilterMissing),
            ("$share/g/", TextError::ShareFilterMissing),
            ("$share/+/a", TextError::ShareNameWildcard),
            ("$share/g#/a", TextError::ShareNameWildcard),
            ("$share/#", TextError::ShareNameWildcard),
            ("$share/g/#/a", TextError::MultiLevelNotLast),
            ("$share/g\0/a", TextError::Null),
        ];
        for (filter, error) in bad {
            assert_eq!(parse_shared_filter(filter), Err(error), "{filter}");
            assert_eq!(validate_subscription_filter(filter), Err(error), "{filter}");
        }
        assert_eq!(validate_subscription_filter("$share/g/#"), Ok(()));
        assert_eq!(validate_subscription_filter("a/#"), Ok(()));
    }

    #[test]
    fn levels_are_counted_by_separators() {
        assert_eq!(["a", "/", "a/b", "//x/"].map(topic_levels), [1, 2, 2, 4]);
        assert!(has_wildcard("a/+") && has_wildcard("#") && !has_wildcard("a/b"));
        assert!(is_dollar_topic("$SYS") && !is_dollar_topic("a$") && !is_dollar_topic(""));
    }

    #[test]
    fn strings_are_checked_for_null_and_length() {
        assert_eq!(validate_string(""), Ok(()));
        assert_eq!(validate_string("a\0"), Err(TextError::Null));
        assert_eq!(validate_string(&"x".repeat(65_536)), Err(TextError::TooLong));
        assert_eq!(TextError::Null.to_string(), "contains the null character U+0000");
    }
}
