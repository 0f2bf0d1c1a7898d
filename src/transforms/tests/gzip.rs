//! One member: readers that stop after the first one read the entire output.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use super::*;

/// Text with long codes, incompressible noise, zeros, and lengths at and around multiples of a block.
fn files() -> Vec<Vec<u8>> {
    let line = |line: u64| format!("{line} {:x}\n", line * 7919);
    let lines = (0..300_000).map(line).collect::<Vec<_>>().concat();
    let mixed = [&noise(1_500_000), lines.as_bytes(), &vec![0; 3_000_000], &noise(100)].concat();
    let block = 1 << 20;
    let lengths = [0, 1, block - 1, block, block + 1, 2 * block];
    let mut files: Vec<_> =
        lengths.iter().map(|length| lines.as_bytes()[..*length].to_vec()).collect();
    files.extend([mixed, noise(block), noise(2 * block + 5), vec![0; 2 * block]]);
    files
}

#[test]
fn a_reader_that_stops_after_the_first_member_reads_everything() {
    for content in files() {
        for level in [1, 6, 9] {
            let transforms = format!("gzip:{level}");
            let packed =
                run(&mut transformer(&transforms, BOUNDS, 2), &content, limits::CHUNK_BYTES);
            let packed = packed.expect("gzip");
            let mut first = flate2::bufread::GzDecoder::new(&packed[..]);
            let mut back = Vec::new();
            first.read_to_end(&mut back).expect("one member");
            assert!(back == content, "{} bytes, {transforms}", content.len());
            assert!(first.into_inner().is_empty(), "{} bytes: more members", content.len());
        }
    }
}

#[test]
fn with_the_option_members_each_block_is_a_member() {
    for content in files() {
        let compressed = |threads| {
            let mut transformer = transformer("gzip:6:members", BOUNDS, threads);
            run(&mut transformer, &content, limits::CHUNK_BYTES).expect("gzip")
        };
        let packed = compressed(2);
        assert!(packed == compressed(0), "{} bytes", content.len());
        let (mut rest, mut back, mut members) = (&packed[..], Vec::new(), 0);
        while !rest.is_empty() {
            let mut member = flate2::bufread::GzDecoder::new(rest);
            member.read_to_end(&mut back).expect("a member");
            rest = member.into_inner();
            members += 1;
        }
        assert!(back == content, "{} bytes", content.len());
        assert_eq!(members, content.len().div_ceil(1 << 20).max(1), "{} bytes", content.len());
        assert!(once("gunzip", &packed).expect("gunzip") == content, "{} bytes", content.len());
    }
}

#[test]
fn a_joined_stream_is_hardly_larger_than_one_made_at_once() {
    for content in files() {
        let packed = once("gzip:6", &content).expect("gzip");
        let mut whole = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut at_once = vec![0; whole.gzip_compress_bound(content.len())];
        let length = whole.gzip_compress(&content, &mut at_once).expect("gzip");
        assert!(packed.len() <= length + length / 50 + 20, "{} and {length}", packed.len());
        if content.len() < 1 << 20 {
            assert!(packed == at_once[..length], "{} bytes", content.len());
        }
    }
}

#[test]
fn readers_of_other_languages_read_one_member() {
    let python = "import sys,zlib\nd=zlib.decompressobj(31)\n\
        sys.stdout.buffer.write(d.decompress(sys.stdin.buffer.read()))\n\
        assert d.eof and not d.unused_data";
    let perl = "use IO::Uncompress::Gunzip qw(gunzip $GunzipError); binmode STDIN; binmode STDOUT; \
        gunzip(\\*STDIN => \\*STDOUT) or die $GunzipError";
    let content = files().swap_remove(6);
    let packed = run(&mut transformer("gzip", BOUNDS, 3), &content, 100_000).expect("gzip");
    for (program, arguments) in
        [("python3", ["-c", python]), ("perl", ["-e", perl]), ("gzip", ["-d", "-c"])]
    {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&packed).expect("write");
        std::io::Seek::rewind(&mut file).expect("rewind");
        let mut read = Command::new(program);
        read.args(arguments).stdin(file).stderr(Stdio::inherit());
        let read = read.output().expect(program);
        assert!(read.status.success() && read.stdout == content, "{program}");
    }
}

/// gzip data whose blocks are stored as they are, up to the end of `first` and of `rest`.
fn stored(first: &[u8], rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let blocks = |content: &[u8]| -> Vec<u8> {
        let block = |content: &[u8]| {
            let length = u16::try_from(content.len()).expect("a block");
            [&[0], &length.to_le_bytes()[..], &(!length).to_le_bytes(), content].concat()
        };
        content.chunks(50_000).flat_map(block).collect()
    };
    let content = [first, rest].concat();
    let length = u32::try_from(content.len()).expect("a small file");
    let sum = crc32fast::hash(&content);
    let last = [1, 0, 0, 0xff, 0xff];
    let begin = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &blocks(first)[..]].concat();
    let end = [&blocks(rest)[..], &last, &sum.to_le_bytes(), &length.to_le_bytes()].concat();
    (begin, end)
}

/// It was taken for damaged: zlib has no word for "nothing left, and the buffer was full" but an error.
#[test]
fn a_piece_of_the_input_may_end_where_the_output_fills_the_buffer() {
    for length in [1, 2, 3].map(|count| count * limits::TRANSFORM_BUFFER_BYTES) {
        let (first, rest) = (noise(length), noise(1000));
        let (begin, end) = stored(&first, &rest);
        for transforms in ["gunzip", "decompress"] {
            let mut gunzip = transformer(transforms, BOUNDS, 1);
            let mut output = Vec::new();
            gunzip.start("a".as_ref());
            gunzip.feed(&begin, &mut output).expect("the first piece");
            assert!(output == first, "{} of {length} bytes", output.len());
            gunzip.feed(&end, &mut output).expect("the second piece");
            gunzip.finish(&mut output).expect("the end");
            assert!(output == [&first[..], &rest].concat(), "{transforms}: {length} bytes");
        }
    }
}
