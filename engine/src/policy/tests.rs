//! The access list against a naive reading of its grammar, and password files against known hashes.

use proptest::prelude::*;

use super::rules::Asker;
use super::{AccessList, Credential, HashParameters, PasswordTable, hash_password};

const ANN: Asker<'static> = Asker { mountpoint: "", client_id: "c1", username: Some("ann") };
const STRANGER: Asker<'static> = Asker { mountpoint: "m", client_id: "c2", username: None };

fn list(text: &str) -> AccessList {
    let (list, remarks) = AccessList::parse(text.as_bytes(), 0);
    assert_eq!(remarks, Vec::<String>::new());
    list
}

#[test]
fn the_scope_of_a_topic_line_is_the_user_above_it() {
    let list = list("topic read news/#\nuser ann\ntopic write ann/in\nuser bob\ntopic bob/+\n");
    assert!(list.may_subscribe(STRANGER, "news/today") && list.may_subscribe(ANN, "news"));
    assert!(!list.may_publish(ANN, "news/today"));
    assert!(list.may_publish(ANN, "ann/in") && !list.may_subscribe(ANN, "ann/in"));
    assert!(!list.may_publish(STRANGER, "ann/in") && !list.may_publish(ANN, "bob/x"));
}

#[test]
fn patterns_stand_for_who_asks_and_are_for_everybody() {
    let list = list("user bob\npattern write d/%c/up\npattern read u/%u\npattern %m/x\n");
    assert!(list.may_publish(ANN, "d/c1/up") && !list.may_publish(ANN, "d/c2/up"));
    assert!(list.may_subscribe(ANN, "u/ann") && !list.may_subscribe(STRANGER, "u/"));
    assert!(list.may_publish(ANN, "/x") && list.may_publish(STRANGER, "m/x") && !list.may_publish(ANN, "m/x"));
}

#[test]
fn names_of_clients_are_never_wildcards() {
    let list = list("pattern d/%c\npattern u/%u/#\n");
    let hostile = Asker { mountpoint: "", client_id: "#", username: Some("+") };
    assert!(!list.may_publish(hostile, "d/other") && !list.may_subscribe(hostile, "d/#"));
    assert!(!list.may_subscribe(hostile, "u/+/x") && !list.may_subscribe(hostile, "d/+"));
    let with_levels = Asker { client_id: "a/b", ..hostile };
    assert!(!list.may_publish(with_levels, "d/a/b"));
}

#[test]
fn a_rule_covers_only_what_it_matches() {
    let list = list("topic a/+\ntopic b/#\ntopic c/+/d\n");
    for (filter, is_allowed) in [
        ("a/x", true),
        ("a/+", true),
        ("a/#", false),
        ("+/x", false),
        ("#", false),
        ("b", true),
        ("b/+/c/#", true),
        ("c/+/d", true),
        ("c/x/+", false),
        ("$share/g/a/+", true),
        ("$share/g/a/#", false),
    ] {
        assert_eq!(list.may_subscribe(ANN, filter), is_allowed, "{filter}");
    }
}

#[test]
fn a_rule_may_name_a_shared_group() {
    let list = list("topic read $share/g/a\n");
    assert!(list.may_subscribe(ANN, "$share/g/a"));
    assert!(!list.may_subscribe(ANN, "$share/h/a") && !list.may_subscribe(ANN, "a"));
}

#[test]
fn the_shipped_file_allows_everything() {
    let list = list("topic #\n");
    assert!(list.may_publish(STRANGER, "a/b") && list.may_subscribe(ANN, "#") && list.may_subscribe(ANN, "$SYS/#"));
}

#[test]
fn odd_lines_are_told_and_allow_nothing() {
    let text = b"\xEF\xBB\xBF# comment\r\n\r\n  topic  read   a/b \r\nallow x\ntopic deny y\ntopic a/#/b\nuser\ntopic z\n\xFF\n";
    let (list, remarks) = AccessList::parse(text, 2);
    assert_eq!(list.rules(), 2);
    assert!(list.may_subscribe(ANN, "a/b") && !list.may_publish(ANN, "z") && !list.may_publish(ANN, "y"));
    let begins: Vec<&str> = remarks.iter().map(|remark| &remark[..7]).collect();
    assert_eq!(begins, ["line 4:", "line 5:", "line 6:", "line 7:", "line 9:"]);
    let (_, remarks) = AccessList::parse(b"topic a/b/c\n", 2);
    assert!(remarks[0].contains("topic_max_depth"), "{remarks:?}");
    let (_, remarks) = AccessList::parse("nonsense\n".repeat(1_000).as_bytes(), 0);
    assert_eq!((remarks.len(), remarks[20].as_str()), (21, "and 980 more"));
}

#[test]
fn a_deep_rule_and_a_deep_topic_need_little_stack() {
    let deep = |levels: usize| vec!["+"; levels].join("/");
    let (list, remarks) = AccessList::parse(format!("topic {}\ntopic {}/#\n", deep(30_000), deep(256)).as_bytes(), 0);
    assert_eq!((list.rules(), remarks.len()), (0, 2), "{remarks:?}");
    let (list, remarks) = AccessList::parse(format!("topic {}/#\n", deep(255)).as_bytes(), 0);
    assert_eq!((list.rules(), remarks.len()), (1, 0));
    let topic = vec!["a"; 30_000].join("/");
    assert!(list.may_publish(ANN, &topic) && list.may_subscribe(ANN, &topic));
}

/// A rule as the reference describes it, read word by word.
fn naive_match(rule: &[String], topic: &[&str]) -> bool {
    match (rule.first().map(String::as_str), topic.first()) {
        (Some("#"), _) | (None, None) => true,
        (Some("+"), Some(_)) => naive_match(&rule[1..], &topic[1..]),
        (Some(level), Some(found)) => level == *found && naive_match(&rule[1..], &topic[1..]),
        _ => false,
    }
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("c1"), Just("ann"), Just("$x")].prop_map(str::to_owned)
}

fn filter() -> impl Strategy<Value = String> {
    let part =
        prop_oneof![4 => level(), 1 => Just("+".to_owned()), 1 => Just("%c".to_owned()), 1 => Just("%u".to_owned())];
    (prop::collection::vec(part, 1..5), any::<bool>())
        .prop_map(|(mut levels, is_open)| {
            if is_open {
                levels.push("#".into());
            }
            levels.join("/")
        })
        .prop_filter("an empty filter is none", |filter| !filter.is_empty())
}

proptest! {
    #[test]
    fn publishing_is_decided_as_the_grammar_says(
        rules in prop::collection::vec((any::<bool>(), filter()), 0..12),
        topic in prop::collection::vec(level(), 1..6),
    ) {
        let topic = topic.join("/");
        prop_assume!(!topic.is_empty());
        let word = |is_pattern| if is_pattern { "pattern" } else { "topic" };
        let lines: Vec<String> =
            rules.iter().map(|(is_pattern, filter)| format!("{} write {filter}", word(*is_pattern))).collect();
        let text = lines.join("\n");
        let (list, _) = AccessList::parse(text.as_bytes(), 0);
        let levels: Vec<&str> = topic.split('/').collect();
        let expected = rules.iter().any(|(is_pattern, filter)| {
            let rule: Vec<String> = filter
                .split('/')
                .map(|level| match level {
                    "%c" if *is_pattern => "c1".to_owned(),
                    "%u" if *is_pattern => "ann".to_owned(),
                    level => level.to_owned(),
                })
                .collect();
            naive_match(&rule, &levels)
        });
        prop_assert_eq!(list.may_publish(ANN, &topic), expected, "{} {}", text, topic);
    }

    #[test]
    fn an_allowed_filter_matches_no_topic_that_is_not_allowed(
        rules in prop::collection::vec(filter(), 0..8),
        asked in filter(),
        topic in prop::collection::vec(level(), 1..6),
    ) {
        let topic = topic.join("/");
        prop_assume!(!topic.is_empty());
        let lines: Vec<String> = rules.iter().map(|filter| format!("topic {filter}")).collect();
        let text = lines.join("\n");
        let (list, _) = AccessList::parse(text.as_bytes(), 0);
        let asked_levels: Vec<String> = asked.split('/').map(str::to_owned).collect();
        if list.may_subscribe(ANN, &asked) && naive_match(&asked_levels, &topic.split('/').collect::<Vec<_>>()) {
            prop_assert!(list.may_publish(ANN, &topic), "{} lets in {} and so {}", text, asked, topic);
        }
    }

    #[test]
    fn no_file_makes_the_readers_fail(text in prop::collection::vec(any::<u8>(), 0..400)) {
        let (list, _) = AccessList::parse(&text, 0);
        list.may_publish(ANN, "a/b");
        PasswordTable::parse(&text);
    }
}

#[test]
fn vernemqs_hash_is_sha512_of_password_and_salt() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let hash = sha2::Sha512::new().chain_update(b"test").chain_update(b"saltsaltsalt").finalize();
    let line = format!("ann:$6$c2FsdHNhbHRzYWx0${}\n", base64::engine::general_purpose::STANDARD.encode(hash));
    let (table, remarks) = PasswordTable::parse(line.as_bytes());
    assert!(remarks.is_empty());
    let credential = table.credential("ann").unwrap();
    assert!(credential.verify(b"test") && !credential.verify(b"Test") && !credential.is_slow());
    assert!(table.credential("bob").is_none());
}

#[test]
fn a_new_hash_is_argon2id_and_never_the_same() {
    let parameters = HashParameters { memory_kib: 64, passes: 1, lanes: 1 };
    let [one, other] = [(); 2].map(|()| hash_password(b"test", parameters).unwrap());
    assert_ne!(one, other);
    let (table, remarks) = PasswordTable::parse(format!("ann:{one}\n").as_bytes());
    assert!(remarks.is_empty());
    let credential = table.credential("ann").unwrap();
    assert!(credential.is_slow() && credential.verify(b"test") && !credential.verify(b"tesT"));
    assert!(hash_password(b"x", HashParameters { memory_kib: 0, ..parameters }).is_err());
}

#[test]
fn lines_that_cannot_be_used_are_told_without_their_secrets() {
    let text = "ann:secret\nbob\n:$6$a$b\ncarl:$6$!$x\ndora:$7$0$YQ==$YQ==\neve:$argon2id$v=19$m=99999999,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh\n";
    let (table, remarks) = PasswordTable::parse(text.as_bytes());
    assert_eq!((table.users(), remarks.len()), (0, 6), "{remarks:?}");
    assert!(remarks.iter().all(|remark| !remark.contains("secret")));
}

#[test]
fn credentials_differ_in_their_fingerprints() {
    let one = Credential::Pbkdf2 { rounds: 1, salt: vec![1], hash: vec![2] };
    let other = Credential::Pbkdf2 { rounds: 2, salt: vec![1], hash: vec![2] };
    assert_ne!(one.fingerprint(), other.fingerprint());
}
