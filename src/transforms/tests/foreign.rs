//! Archives of other programs: accepted ones, and rejected ones with their errors.

use super::*;

/// A frame as `lz4 -l` writes it, of blocks of at most 8 MiB.
fn legacy(content: &[u8]) -> Vec<u8> {
    let mut frame = b"\x02\x21\x4c\x18".to_vec();
    for block in content.chunks(8 * 1024 * 1024) {
        let packed = ::lz4::block::compress(block, None, false).expect("lz4");
        let length = u32::try_from(packed.len()).expect("a small block");
        frame.extend([&length.to_le_bytes()[..], &packed].concat());
    }
    frame
}

fn skippable(number: u8) -> Vec<u8> {
    [&[0x50 + number, 0x2a, 0x4d, 0x18, 40, 0, 0, 0][..], &[7; 40]].concat()
}

#[test]
fn legacy_lz4_frames_are_read_alone_and_among_others() {
    let content = [noise(8_000_000), vec![0; 2_000_000]].concat();
    let frame = once("lz4", b"one").expect("lz4");
    let all = [legacy(&content), legacy(b"two"), frame.clone(), legacy(b"three")].concat();
    let expected = [&content[..], b"twoonethree"].concat();
    for transforms in ["unlz4", "decompress"] {
        let mut unlz4 = transformer(transforms, BOUNDS, 0);
        for piece in [4099, 256 * 1024, all.len()] {
            assert!(
                run(&mut unlz4, &all, piece).expect(transforms) == expected,
                "{transforms} {piece}"
            );
        }
        let mut small = [legacy(b"two"), frame.clone()].concat();
        assert_eq!(run(&mut unlz4, &small, 1).expect(transforms), b"twoone");
        small.pop();
        assert!(
            is_cause(&run(&mut unlz4, &small, 1), |cause| matches!(cause, FailureCause::Truncated)),
            "{transforms}"
        );
        let cut = &legacy(b"two")[..9];
        assert!(
            is_cause(&run(&mut unlz4, cut, 1), |cause| matches!(cause, FailureCause::Truncated)),
            "{transforms}"
        );
    }
}

#[test]
fn the_frame_after_skippable_ones_shows_the_format() {
    for format in ["lz4", "zstd"] {
        let packed = once(format, b"one").expect(format);
        let all = [skippable(0), skippable(15), packed, skippable(3)].concat();
        for transforms in ["decompress", undo(format)] {
            let mut undo = transformer(transforms, BOUNDS, 0);
            for piece in [1, 47, 1000] {
                assert_eq!(
                    run(&mut undo, &all, piece).expect(transforms),
                    b"one",
                    "{transforms} {piece}"
                );
            }
        }
    }
    assert_eq!(once("decompress", &skippable(1)).expect("nothing but a skippable frame"), b"");
    let cut = once("decompress", &skippable(1)[..30]).expect_err("half a skippable frame");
    assert!(matches!(cut.cause(), FailureCause::Truncated), "{cut}");
    let odd = [skippable(1), b"no archive of any type".to_vec()].concat();
    assert!(is_cause(&once("decompress", &odd), |cause| matches!(cause, FailureCause::Unknown)));
}

#[test]
fn an_archive_that_needs_much_memory_exceeds_a_limit_that_the_error_names() {
    let content = noise(3_000_000);
    let tight = ExpansionLimits { decoder_bytes: 1 << 20, ..BOUNDS };
    for (transforms, undo) in [("zstd:19", "unzstd"), ("xz:6", "unxz")] {
        let packed =
            run(&mut transformer(transforms, BOUNDS, 1), &content, 100_000).expect(transforms);
        let error = run(&mut transformer(undo, tight, 0), &packed, 100_000).expect_err(undo);
        assert!(
            matches!(error.cause(), FailureCause::Memory { limit: 0x10_0000, .. }),
            "{undo}: {error}"
        );
        assert!(error.to_string().contains("`max_decoder_memory`"), "{error}");
        assert!(once(undo, &packed).expect(undo) == content, "{undo}");
    }
    // The window of `brotli --large_window=30`.
    let mut unbrotli = transformer("unbrotli", BOUNDS, 0);
    for piece in [1, 100] {
        let error = run(&mut unbrotli, &[0x11, 30, 0, 0, 0, 0], piece).expect_err("a large window");
        assert!(matches!(error.cause(), FailureCause::Memory { .. }), "{error}");
    }
}

#[test]
fn unsupported_archives_are_not_reported_as_damaged() {
    // A frame of zstd with a dictionary's number.
    let with_dictionary = b"\x28\xb5\x2f\xfd\x01\x50\x07\x01\0\0\0\0\0\0\0\0\0\0";
    for transforms in ["unzstd", "decompress"] {
        let error = once(transforms, with_dictionary).expect_err(transforms);
        assert!(matches!(error.cause(), FailureCause::Unsupported(_)), "{transforms}: {error}");
        assert!(error.to_string().contains("dictionary"), "{error}");
    }
}

/// They were of an unknown format, or damaged.
#[test]
fn formats_that_are_not_supported_are_named() {
    let lzma = [&b"\x5d\0\0\x80\0"[..], &[0xff; 8], &[0; 20]].concat();
    let old_zstd = [&b"\x27\xb5\x2f\xfd"[..], &[0; 20]].concat();
    let packed_gzip = [&b"\x1f\x8b\x07\0"[..], &[0; 20]].concat();
    for (bytes, own, name) in [
        (&b"PK\x03\x04\x14\0\0\0\x08\0aaaaaaaaaaaaaaaa"[..], "gunzip", "zip"),
        (b"7z\xbc\xaf\x27\x1c\0\x04aaaaaaaaaaaaaaaaaaaa", "unxz", "7z"),
        (b"Rar!\x1a\x07\x01\0aaaaaaaaaaaaaaaaaaaa", "unxz", "rar"),
        (b"\x1f\x9d\x90aaaaaaaaaaaaaaaaaaaaaaaa", "gunzip", ".Z"),
        (b"LZIP\x01\x0caaaaaaaaaaaaaaaaaaaaaaaa", "unxz", ".lz"),
        (b"\x89LZO\0\x0d\x0a\x1a\x0aaaaaaaaaaaaaaaaaa", "unlz4", ".lzo"),
        (&packed_gzip, "gunzip", "other than deflate"),
        (&old_zstd, "unzstd", "before version 0.8"),
        (&lzma, "decompress", "`unxz` decodes it"),
    ] {
        for transforms in ["decompress", own] {
            let error = once(transforms, bytes).expect_err(name);
            assert!(matches!(error.cause(), FailureCause::Unsupported(_)), "{transforms}: {error}");
            assert!(error.to_string().contains(name), "{transforms}: {error}");
        }
        assert_eq!(once("decompress:or-copy", bytes).expect(name), bytes);
    }
    let damaged = once("gunzip", b"\x1f\x8b\x08\xff\xff").expect_err("damaged");
    assert!(!matches!(damaged.cause(), FailureCause::Unsupported(_)), "{damaged}");
}

#[test]
fn data_after_complete_archives_is_reported() {
    for format in COMPRESS.into_iter().filter(|format| *format != "brotli") {
        let packed = once(format, b"one").expect(format);
        let all = [packed.clone(), packed, b"garbage of some length".to_vec()].concat();
        let error = once(undo(format), &all).expect_err(format);
        assert!(
            matches!(error.cause(), FailureCause::Trailing { members: 2, .. }),
            "{format}: {error}"
        );
    }
}
