use proptest::prelude::*;

use super::*;
use crate::limits;

mod foreign;
mod gzip;

pub(super) const BOUNDS: ExpansionLimits =
    ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes: 1 << 27 };
const COMPRESS: [&str; 6] = ["zstd", "gzip", "brotli", "xz", "bzip2", "lz4"];

pub(super) fn transformer(transforms: &str, bounds: ExpansionLimits, threads: u32) -> Transformer {
    Transformer::new(&transforms.parse().expect(transforms), bounds, threads).expect(transforms)
}

/// Feeds the input in pieces of this size.
pub(super) fn run(
    transformer: &mut Transformer,
    input: &[u8],
    piece: usize,
) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    transformer.start("a".as_ref());
    for bytes in input.chunks(piece) {
        transformer.feed(bytes, &mut output)?;
    }
    transformer.finish(&mut output)?;
    Ok(output)
}

fn once(transforms: &str, input: &[u8]) -> Result<Vec<u8>, Error> {
    run(&mut transformer(transforms, BOUNDS, 0), input, limits::CHUNK_BYTES)
}

/// Bytes that do not compress, from a linear congruential generator.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn contents() -> Vec<Vec<u8>> {
    let text = b"the quick brown fox jumps over the lazy dog\n".repeat(5000);
    vec![Vec::new(), vec![7], text, noise(300_000), vec![0; 1_100_000]]
}

#[test]
fn every_format_restores_the_content() {
    for format in COMPRESS {
        for level in ["", ":1", ":9"] {
            let compress = format!("{format}{level}");
            let mut compressor = transformer(&compress, BOUNDS, 0);
            let mut decompressor = transformer(undo(format), BOUNDS, 0);
            for content in contents() {
                let packed = run(&mut compressor, &content, limits::CHUNK_BYTES).expect(&compress);
                let fresh = once(&compress, &content).expect(&compress);
                assert!(packed == fresh, "{compress}: a used codec gives other bytes");
                let back = run(&mut decompressor, &packed, 1000).expect(&compress);
                assert!(back == content, "{compress}: {} bytes", content.len());
            }
        }
    }
}

fn undo(format: &str) -> &'static str {
    let format = compression::FORMATS.iter().find(|known| known.name() == format);
    format.expect("a format").inverse()
}

fn is_cause<T>(result: &Result<T, Error>, expected: impl Fn(&FailureCause) -> bool) -> bool {
    result.as_ref().is_err_and(|error| expected(error.cause()))
}

#[test]
fn a_chain_transcodes_without_a_file_in_between() {
    let content = noise(300_000);
    for format in COMPRESS {
        let packed = once(format, &content).expect(format);
        let again = once(&format!("{},zstd:9", undo(format)), &packed).expect(format);
        assert!(once("unzstd", &again).expect(format) == content, "{format}");
        if format != "brotli" {
            let any = once("decompress,xz:1", &packed).expect(format);
            assert!(once("decompress", &any).expect(format) == content, "{format}");
        }
    }
}

#[test]
fn all_members_are_read_and_garbage_after_them_is_an_error() {
    for format in COMPRESS {
        let packed = once(format, b"one").expect(format);
        let two = [packed.clone(), packed.clone()].concat();
        assert_eq!(once(undo(format), &two).expect(format), b"oneone", "{format}");
        let garbage = [packed, b"garbage".to_vec()].concat();
        assert!(once(undo(format), &garbage).is_err(), "{format}");
    }
    let skippable =
        [b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec(), once("zstd", b"one").expect("zstd")];
    assert_eq!(once("decompress", &skippable.concat()).expect("skippable frame"), b"one");
    let padded = [once("gzip", b"one").expect("gzip"), vec![0; 512]].concat();
    assert_eq!(once("gunzip", &padded).expect("padding"), b"one");
}

#[test]
fn data_after_the_padding_is_an_error_for_every_size_of_pieces() {
    let packed = once("gzip", b"one").expect("gzip");
    let padded = [packed.clone(), vec![0; 512]].concat();
    let mut gunzip = transformer("gunzip", BOUNDS, 0);
    for piece in [1, 100, padded.len(), limits::CHUNK_BYTES] {
        assert_eq!(run(&mut gunzip, &padded, piece).expect("padding"), b"one", "{piece}");
        let more = [padded.clone(), packed.clone()].concat();
        let error = run(&mut gunzip, &more, piece).expect_err("a member after the padding");
        assert!(
            matches!(error.cause(), FailureCause::Corrupt(_) | FailureCause::Trailing { .. }),
            "{piece}: {error}"
        );
    }
}

#[test]
fn every_cut_of_an_archive_is_an_error() {
    for format in COMPRESS {
        let packed = once(format, &noise(500)).expect(format);
        for length in 0..packed.len() {
            let error = once(undo(format), &packed[..length]).expect_err(format);
            let cut = matches!(error.cause(), FailureCause::Truncated | FailureCause::Corrupt(_));
            assert!(cut, "{format} cut to {length}: {error}");
        }
        assert!(
            is_cause(&once(undo(format), b""), |cause| matches!(cause, FailureCause::Truncated)),
            "{format}"
        );
    }
}

#[test]
fn a_flipped_bit_never_gives_other_content() {
    let content = noise(300);
    // Brotli has no checksum.
    for format in COMPRESS.into_iter().filter(|format| *format != "brotli") {
        let packed = once(format, &content).expect(format);
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(back) = once(undo(format), &damaged) {
                assert!(back == content, "{format}: bit {bit}");
            }
        }
    }
}

#[test]
fn the_output_is_bounded() {
    let zeros = vec![0; 4_000_000];
    for format in COMPRESS {
        let packed = once(format, &zeros).expect(format);
        let bytes = ExpansionLimits { output_bytes: 1_000_000, ..BOUNDS };
        let result = run(&mut transformer(undo(format), bytes, 0), &packed, 4096);
        assert!(
            is_cause(&result, |cause| matches!(cause, FailureCause::OutputBytes { .. })),
            "{format}"
        );
        let ratio = ExpansionLimits { ratio: 10, ..BOUNDS };
        let result = run(&mut transformer(undo(format), ratio, 0), &packed, 4096);
        assert!(is_cause(&result, |cause| matches!(cause, FailureCause::Ratio { .. })), "{format}");
    }
}

#[test]
fn an_archive_in_an_archive_is_bounded_by_the_bytes_of_the_outer_one() {
    let zeros = vec![0; 8_000_000];
    for format in COMPRESS {
        let packed = once(format, &once(format, &zeros).expect(format)).expect(format);
        let chain = format!("{0},{0}", undo(format));
        let ratio = zeros.len() as u64 / packed.len() as u64;
        // The first MiB is free, so half the ratio is too little and all of it is enough.
        for (ratio, is_enough) in [(ratio + 1, true), (ratio / 2, false)] {
            let result = run(
                &mut transformer(&chain, ExpansionLimits { ratio, ..BOUNDS }, 0),
                &packed,
                packed.len(),
            );
            assert_eq!(result.is_ok(), is_enough, "{format} {ratio}");
            assert!(
                is_enough || is_cause(&result, |cause| matches!(cause, FailureCause::Ratio { .. })),
                "{format}"
            );
        }
    }
}

#[test]
fn worker_threads_change_no_byte() {
    let content = [noise(9_000_000), vec![0; 3_000_000]].concat();
    let [one, two] = [1, 2].map(|threads| {
        run(&mut transformer("zstd:3", BOUNDS, threads), &content, limits::CHUNK_BYTES)
            .expect("zstd")
    });
    assert!(one == two);
    assert!(once("unzstd", &one).expect("zstd") == content);
}

#[test]
fn gzip_is_the_same_for_every_number_of_threads_and_size_of_pieces() {
    let text = b"the quick brown fox jumps over the lazy dog\n".repeat(120_000);
    let content = [noise(3_000_000), text].concat();
    let inline = once("gzip:6", &content).expect("gzip");
    for threads in [0, 1, 2, 5] {
        let mut gzip = transformer("gzip:6", BOUNDS, threads);
        for piece in [1000, 1 << 20, content.len()] {
            let packed = run(&mut gzip, &content, piece).expect("gzip");
            assert!(packed == inline, "{threads} threads, pieces of {piece}");
        }
        let mut empty = transformer("gzip:6", BOUNDS, threads);
        let packed = run(&mut empty, b"", 1).expect("gzip");
        assert_eq!(packed, once("gzip:6", b"").expect("gzip"), "{threads} threads");
    }
    assert!(once("gunzip", &inline).expect("gzip") == content);
}

#[test]
fn an_unfinished_file_leaves_nothing_in_the_threads_of_gzip() {
    let content = noise(7_000_000);
    let mut gzip = transformer("gzip:1", BOUNDS, 2);
    for _ in 0..3 {
        gzip.start("a".as_ref());
        gzip.feed(&content, &mut Vec::new()).expect("gzip");
        let packed = run(&mut gzip, b"whole", 100).expect("gzip");
        assert_eq!(packed, once("gzip:1", b"whole").expect("gzip"));
    }
}

#[test]
fn gzip_itself_reads_the_output_of_threads() {
    use std::process::{Command, Stdio};
    let content = [noise(2_500_000), vec![0; 2_500_000]].concat();
    let packed = run(&mut transformer("gzip:6", BOUNDS, 2), &content, limits::CHUNK_BYTES);
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, &packed.expect("gzip")).expect("write");
    std::io::Seek::rewind(&mut file).expect("rewind");
    let gzip = Command::new("gzip").arg("-dc").stdin(file).stderr(Stdio::inherit()).output();
    let gzip = gzip.expect("gzip is installed by tests/run");
    assert!(gzip.status.success() && gzip.stdout == content);
}

#[test]
fn a_copy_equals_its_input() {
    let content = noise(300_000);
    assert!(once("copy", &content).expect("copy") == content);
    assert!(once("copy", b"").expect("copy").is_empty());
}

#[test]
fn after_an_error_a_transformer_works_as_a_new_one() {
    for format in COMPRESS {
        let mut compressor = transformer(format, BOUNDS, 0);
        compressor.start("a".as_ref());
        compressor.feed(&noise(200_000), &mut Vec::new()).expect(format);
        let packed = run(&mut compressor, b"whole", 100).expect(format);
        assert_eq!(packed, once(format, b"whole").expect(format), "{format}");
        let mut decompressor = transformer(undo(format), BOUNDS, 0);
        assert!(run(&mut decompressor, &packed[..packed.len() - 1], 100).is_err(), "{format}");
        assert_eq!(run(&mut decompressor, &packed, 100).expect(format), b"whole", "{format}");
    }
}

#[test]
fn a_receiver_that_stops_ends_the_transformation() {
    struct Closed;
    impl Receiver for Closed {
        fn put(&mut self, _: &[u8]) -> Result<(), Stopped> {
            Err(Stopped)
        }
    }
    let mut transformer = transformer("zstd", BOUNDS, 0);
    transformer.start("a".as_ref());
    let fed = transformer.feed(&noise(1_000_000), &mut Closed);
    let ended = fed.and_then(|()| transformer.finish(&mut Closed));
    assert!(is_cause(&ended, |cause| matches!(cause, FailureCause::Stopped)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_in_any_pieces_is_restored(
        content in proptest::collection::vec(any::<u8>(), 0..5000),
        piece in 1_usize..600,
        format in proptest::sample::select(COMPRESS.to_vec()),
    ) {
        let packed = run(&mut transformer(format, BOUNDS, 0), &content, piece).expect(format);
        let back = run(&mut transformer(undo(format), BOUNDS, 0), &packed, piece).expect(format);
        prop_assert_eq!(back, content);
    }
}

#[test]
fn or_copy_leaves_a_file_of_no_format_as_it_is_unless_its_name_has_one() {
    let mut transformer = transformer("decompress:or-copy", BOUNDS, 1);
    let mut run = |name: &str, content: &[u8]| {
        let mut output = Vec::new();
        transformer.start(name.as_ref());
        for chunk in content.chunks(3) {
            transformer.feed(chunk, &mut output)?;
        }
        transformer.finish(&mut output)?;
        Ok::<_, Error>(output)
    };
    let packed = once("gzip", b"some text").expect("gzip");
    let long = noise(300_000);
    for (name, content, expected) in [
        ("a.log.gz", &packed[..], &b"some text"[..]),
        ("a", &packed, b"some text"),
        ("a.log", b"plain text", b"plain text"),
        ("a.log", b"ab", b"ab"),
        ("a.log", b"", b""),
        ("noise", &long, &long),
    ] {
        assert_eq!(run(name, content).expect(name), expected, "{name}");
    }
    for content in [&b"plain text"[..], b"ab", b""] {
        assert!(run("a.log.gz", content).is_err(), "{content:?}");
    }
    // A frame to be skipped, and then no format.
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), b"xxplain"].concat();
    assert!(run("a", &skippable).is_err());
    assert_eq!(run("a.log", b"plain text").expect("again"), b"plain text");
}
