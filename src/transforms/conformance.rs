//! The suite that every kind of transform passes: each word of [`KINDS`], with the input it is for.

use super::{
    exec::Programs,
    tests::{BOUNDS, run},
    *,
};
use crate::limits::CHUNK_BYTES;

thread_local! {
    static KEYS: Arc<AgeKeys> = age_keys();
}

#[cfg(not(feature = "age"))]
fn age_keys() -> Arc<AgeKeys> {
    Arc::default()
}

#[cfg(feature = "age")]
fn age_keys() -> Arc<AgeKeys> {
    age::tests::keys_in_memory()
}

fn transformer(notation: &str, threads: u32) -> Transformer {
    let chain: Chain = notation.parse().expect(notation);
    let chain = KEYS.with(|keys| chain.resolve(&Programs::new(), keys)).expect(notation);
    Transformer::new(&chain, BOUNDS, threads).expect(notation)
}

/// Returns what must be the same for the same input: of an encryption, which differs each time, its content.
fn comparable(notation: &str, output: Vec<u8>) -> Vec<u8> {
    if notation != "age" {
        return output;
    }
    run(&mut transformer("unage", 0), &output, CHUNK_BYTES).expect("an encrypted file")
}

/// A transform in its notation, and an input that it accepts.
struct Case {
    notation: String,
    input: Vec<u8>,
}

/// One case for each word. A kind that is missing here fails: it has no input. What a program makes of an
/// input is its own affair; `tests/it/exec.rs` has the tests of how it is run.
fn cases() -> Vec<Case> {
    let text = b"a line of text that is like the others\n".repeat(9000);
    let words = KINDS.iter().flat_map(|kind| kind.words).filter(|word| **word != "exec");
    let words = words.filter(|word| cfg!(feature = "age") || !word.ends_with("age"));
    let cases = words.map(|word| {
        let format = compression::FORMATS.iter().find(|format| format.inverse() == *word);
        let input = match (format, *word) {
            (Some(format), _) => run(&mut transformer(format.name(), 0), &text, CHUNK_BYTES),
            (None, "unage") => run(&mut transformer("age", 0), &text, CHUNK_BYTES),
            (None, "decompress") => run(&mut transformer("xz", 0), &text, CHUNK_BYTES),
            (None, _) => Ok(text.clone()),
        };
        Case { notation: (*word).to_owned(), input: input.expect(word) }
    });
    cases.collect()
}

#[test]
fn a_notation_with_all_its_options_is_parsed_as_itself() {
    for Case { notation, .. } in cases() {
        let chain: Chain = notation.parse().expect(&notation);
        let again: Chain = chain.to_string().parse().expect(&notation);
        assert_eq!(chain, again);
        assert!(chain.to_string().starts_with(&notation), "{chain}");
    }
}

#[test]
fn no_name_becomes_empty() {
    for Case { notation, .. } in cases() {
        let chain: Chain = notation.parse().expect(&notation);
        for name in ["a", "a.gz", ".gz", ".zst", "a.tar.xz"] {
            assert!(!chain.output_name(name.as_ref()).is_empty(), "{notation}: {name}");
        }
    }
}

#[test]
fn the_output_depends_on_the_input_and_its_pieces_only() {
    for Case { notation, input } in cases() {
        for threads in [0, 1, 3] {
            let mut used = transformer(&notation, threads);
            for piece in [1000, CHUNK_BYTES] {
                let first = run(&mut used, &input, piece).expect(&notation);
                let second = run(&mut used, &input, piece).expect(&notation);
                let fresh = run(&mut transformer(&notation, threads.min(1)), &input, piece);
                let is_repeated = first == second;
                assert!(is_repeated == (notation != "age"), "{notation}: {is_repeated}");
                let [first, second, fresh] = [first, second, fresh.expect(&notation)]
                    .map(|output| comparable(&notation, output));
                assert!(first == second, "{notation}: a used transform gives other bytes");
                assert!(first == fresh, "{notation}: {threads} threads");
            }
        }
    }
}

#[test]
fn an_unfinished_file_leaves_nothing_for_the_next_one() {
    for Case { notation, input } in cases() {
        let mut used = transformer(&notation, 0);
        let expected = run(&mut used, &input, CHUNK_BYTES).expect(&notation);
        used.start("a".as_ref());
        used.feed(&input[..input.len() / 2], &mut Vec::new()).expect(&notation);
        let next = run(&mut used, &input, CHUNK_BYTES).expect(&notation);
        let [next, expected] = [next, expected].map(|output| comparable(&notation, output));
        assert!(next == expected, "{notation}");
    }
}

#[test]
fn a_stopped_receiver_stops_the_transform_and_is_not_its_error() {
    struct Closed;
    impl Receiver for Closed {
        fn put(&mut self, _: &[u8]) -> Result<(), Stopped> {
            Err(Stopped)
        }
    }
    for Case { notation, input } in cases() {
        let mut transformer = transformer(&notation, 0);
        transformer.start("a".as_ref());
        let fed = transformer.feed(&input, &mut Closed);
        let error = fed.and_then(|()| transformer.finish(&mut Closed)).expect_err(&notation);
        assert!(error.is_stopped() && !error.is_final(), "{notation}: {error}");
    }
}

#[test]
fn the_error_names_the_transform_that_failed() {
    for Case { notation, input } in cases() {
        let chain = format!("{notation},gunzip,copy");
        let mut transformer = transformer(&chain, 0);
        // Nothing but the output of gzip is gzip.
        let Err(error) = run(&mut transformer, &input, CHUNK_BYTES) else { continue };
        assert!(error.to_string().starts_with("`gunzip`: "), "{notation}: {error}");
    }
}

#[test]
fn memory_is_counted_for_each_number_of_threads() {
    for Case { notation, .. } in cases() {
        let chain: Chain = notation.parse().expect(&notation);
        let [spec] = chain.specs() else { panic!("{notation}: one transform") };
        let small = spec.memory_bytes(0, BOUNDS.decoder_bytes);
        assert!(small <= 512 << 20, "{notation}: {small}");
        let more = spec.memory_bytes(4, BOUNDS.decoder_bytes);
        assert!(more >= spec.memory_bytes(1, BOUNDS.decoder_bytes), "{notation}");
        assert!(spec.effect() == Effect::Copies || small > 0, "{notation}");
    }
}
