//! The grammar of `vmq.acl`.
//!
//! One rule a line: `topic [read|write|readwrite] FILTER` for the user of the last `user NAME` line (everybody before the
//! first one), `pattern [read|write|readwrite] FILTER` for everybody with `%m`, `%c` and `%u` as whole levels. `#` at the
//! begin of a line makes it a comment. There is nothing but permission; what is not understood allows nothing.

use crate::codec::text::{topic_levels, validate_topic_filter};

use super::Remarks;
use super::access_list::{Allows, Compiled};

/// A rule is compiled to a path that is walked by recursion, whose depth must not depend on a file and a client alone.
const RULE_LEVELS_MAX: usize = 256;

/// Reads a file. Never fails: lines that cannot be used are skipped and told.
pub(super) fn compile(text: &[u8], topic_max_depth: usize, remarks: &mut Remarks) -> Compiled {
    let mut compiled = Compiled::default();
    let mut user: Option<Box<str>> = None;
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let Ok(line) = std::str::from_utf8(line) else {
            remarks.add(number, "not UTF-8, skipped");
            // The lines below would count for the user before, who may be somebody else.
            if line.trim_ascii_start().starts_with(b"user") {
                user = Some("\0".into());
            }
            continue;
        };
        let line = line.trim_matches(BLANKS);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = first_word(line);
        match word {
            "user" if !rest.is_empty() => user = Some(rest.into()),
            "user" => {
                remarks.add(number, "user without a name; the rules below it are skipped until the next user");
                // Nobody has this name: no packet can carry it.
                user = Some("\0".into());
            }
            "topic" | "pattern" => match rule(rest, topic_max_depth) {
                Ok((allows, filter)) => {
                    let is_pattern = word == "pattern";
                    let rules = match &user {
                        Some(name) if !is_pattern => compiled.users.entry(name.clone()).or_default(),
                        _ => &mut compiled.everybody,
                    };
                    rules.add(allows, filter, is_pattern);
                    compiled.count += 1;
                }
                Err(reason) => remarks.add(number, &reason),
            },
            _ => {
                remarks.add(number, "expected topic, pattern, user or a comment with # in front, skipped");
            }
        }
    }
    compiled
}

const BLANKS: [char; 3] = [' ', '\t', '\r'];

fn first_word(line: &str) -> (&str, &str) {
    match line.find([' ', '\t']) {
        Some(end) => (&line[..end], line[end..].trim_start_matches(BLANKS)),
        None => (line, ""),
    }
}

fn rule(text: &str, topic_max_depth: usize) -> Result<(Allows, &str), String> {
    let (word, rest) = first_word(text);
    let (allows, filter) = match word {
        // A lone word is a filter, whatever it says.
        _ if rest.is_empty() => (Allows::Both, text),
        "read" => (Allows::Subscribe, rest),
        "write" => (Allows::Publish, rest),
        "readwrite" => (Allows::Both, rest),
        "deny" => return Err("deny is not part of this grammar: what no rule allows is denied, skipped".to_owned()),
        _ => (Allows::Both, text),
    };
    if filter.is_empty() {
        return Err("a rule without a filter, skipped".to_owned());
    }
    validate_topic_filter(filter).map_err(|error| format!("{:?}: {error}, skipped", shown(filter)))?;
    if topic_max_depth > 0 && topic_levels(filter) > topic_max_depth {
        return Err(format!("{:?} has more than {topic_max_depth} levels (topic_max_depth), skipped", shown(filter)));
    }
    if topic_levels(filter) > RULE_LEVELS_MAX {
        return Err(format!("{:?} has more than {RULE_LEVELS_MAX} levels, skipped", shown(filter)));
    }
    Ok((allows, filter))
}

/// So much of a filter as a sentence can take.
fn shown(filter: &str) -> &str {
    let end = filter.char_indices().nth(80).map_or(filter.len(), |(index, _)| index);
    &filter[..end]
}
