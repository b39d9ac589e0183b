//! Random histories of clients, and the committed ones that the fuzzer starts from, keep every promise of `script.rs`.

use proptest::prelude::*;

use super::script::run;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_history_without_a_broken_promise(script in prop::collection::vec(any::<u8>(), 0..600)) {
        run(&script);
    }

    // Few clients, small numbers: steps that belong together meet more often.
    #[test]
    fn small_numbers_are_a_history_without_a_broken_promise(script in prop::collection::vec(0_u8..16, 0..600)) {
        run(&script);
    }
}

#[test]
fn the_corpus_of_the_fuzzer_is_a_set_of_histories_without_a_broken_promise() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/session");
    let mut played = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is part of the repository") {
        run(&std::fs::read(entry.expect("the corpus can be listed").path()).expect("the corpus can be read"));
        played += 1;
    }
    assert!(played >= 10, "{played} histories are too few to start from");
}
