//! Codecs: damaged input is an error, what comes out is bounded, what went in comes back (K1–K3).

use tidemill::{
    policy::ExpansionLimits,
    transforms::{Error, FailureCause, Receiver, Stopped, Transformer},
};

use super::parameters;

const DECOMPRESS: [&str; 16] = [
    "decompress",
    "unzstd",
    "gunzip",
    "unbrotli",
    "unxz",
    "bunzip2",
    "unlz4",
    "decompress,decompress",
    "gunzip,unzstd",
    "unzstd,gunzip",
    "unbrotli,unlz4",
    "unxz,bunzip2",
    "bunzip2,unbrotli",
    "unlz4,unxz",
    "decompress,zstd:1",
    "unbrotli,gzip:1",
];
const BOUNDS: ExpansionLimits =
    ExpansionLimits { output_bytes: 4 * 1024 * 1024, ratio: 100, decoder_bytes: 1 << 27 };
/// A small output is not held against the ratio.
const RATIO_FROM_BYTES: u64 = 1024 * 1024;

/// What is compressed, at levels that are quick; and what undoes it.
const COMPRESS: [(&str, &[i32], &str); 6] = [
    ("zstd", &[1, 3, 9, 15], "unzstd"),
    ("gzip", &[1, 6, 9], "gunzip"),
    ("brotli", &[0, 1, 5, 9], "unbrotli"),
    ("xz", &[0, 3], "unxz"),
    ("bzip2", &[1, 9], "bunzip2"),
    ("lz4", &[1, 3, 9, 12], "unlz4"),
];
const NO_BOUNDS: ExpansionLimits =
    ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes: 1 << 27 };

/// Keeps what comes out, and asks at each byte whether it may.
struct Bounded {
    output: Vec<u8>,
    bound: u64,
}

impl Receiver for Bounded {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.output.extend_from_slice(bytes);
        assert!(self.output.len() as u64 <= self.bound, "more came out than is allowed");
        Ok(())
    }
}

/// Pieces of two sizes in turn.
fn pieces(mut bytes: &[u8], sizes: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for size in sizes.into_iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn run(
    transformer: &mut Transformer,
    bytes: &[u8],
    sizes: [usize; 2],
    bound: impl Fn(u64) -> u64,
) -> Result<Vec<u8>, Error> {
    let mut receiver = Bounded { output: Vec::new(), bound: 0 };
    let mut fed = 0;
    transformer.start("a".as_ref());
    for piece in pieces(bytes, sizes) {
        fed += piece.len() as u64;
        receiver.bound = bound(fed);
        transformer.feed(piece, &mut receiver)?;
    }
    receiver.bound = bound(fed);
    transformer.finish(&mut receiver)?;
    Ok(receiver.output)
}

/// A size of pieces from a byte: mostly small, where the borders are.
fn size(byte: u8) -> usize {
    match byte {
        0..=199 => usize::from(byte) + 1,
        _ => (usize::from(byte) - 199) * 4096,
    }
}

fn transformer(transforms: &str, bounds: ExpansionLimits) -> Transformer {
    Transformer::new(&transforms.parse().expect(transforms), bounds, 0).expect(transforms)
}

/// Arbitrary bytes through transforms that decompress, in pieces of arbitrary sizes.
pub fn decompress(data: &[u8]) {
    let ([transforms, first, second], bytes) = parameters(data);
    let transforms = DECOMPRESS[usize::from(transforms) % DECOMPRESS.len()];
    let bound = |fed: u64| {
        let compresses = transforms.contains(':');
        let ratio = fed.saturating_mul(BOUNDS.ratio) + RATIO_FROM_BYTES;
        match transforms.contains(',') {
            // What is compressed again has headers of its own.
            _ if compresses => BOUNDS.output_bytes + RATIO_FROM_BYTES,
            true => BOUNDS.output_bytes,
            false => ratio.min(BOUNDS.output_bytes),
        }
    };
    let mut transformer = transformer(transforms, BOUNDS);
    let at_once = run(&mut transformer, bytes, [usize::MAX; 2], bound);
    let in_pieces = run(&mut transformer, bytes, [size(first), size(second)], bound);
    match (&at_once, &in_pieces) {
        // The ratio is asked of what was read so far.
        (Err(error), _) | (_, Err(error))
            if matches!(error.cause(), FailureCause::Ratio { .. }) => {}
        (Ok(once), Ok(pieces)) if !transforms.contains(':') => {
            assert!(once == pieces, "{transforms}: other bytes in pieces");
        }
        // What the damage is called, and which of several transforms meets it, is a matter of the pieces.
        _ => assert_eq!(
            at_once.is_ok(),
            in_pieces.is_ok(),
            "{transforms}: {at_once:?} {in_pieces:?}"
        ),
    }
}

/// Arbitrary content through a step that compresses and the one that undoes it.
pub fn roundtrip(data: &[u8]) {
    let ([format, level, first, second], content) = parameters(data);
    let (format, levels, undo) = COMPRESS[usize::from(format) % COMPRESS.len()];
    let transforms = format!("{format}:{}", levels[usize::from(level) % levels.len()]);
    let sizes = [size(first), size(second)];
    let any = |_| u64::MAX;
    let mut compressor = transformer(&transforms, NO_BOUNDS);
    let packed = run(&mut compressor, content, sizes, any).expect("compress");
    let again = run(&mut compressor, content, sizes, any).expect("compress");
    assert!(packed == again, "{transforms}: other bytes the second time");
    let mut decompressor = transformer(undo, NO_BOUNDS);
    let back = run(&mut decompressor, &packed, [size(second), size(first)], any);
    assert!(back.expect("decompress") == content, "{transforms}: another content");
    // Fed otherwise it may be packed otherwise, and comes back the same.
    let whole = run(&mut compressor, content, [usize::MAX; 2], any).expect("compress");
    let back = run(&mut decompressor, &whole, [usize::MAX; 2], any);
    assert!(back.expect("decompress") == content, "{transforms}: another content");
    // A missing end is always an error.
    let cut = packed.len() - 1 - usize::from(second) % packed.len();
    let cut = run(&mut decompressor, &packed[..cut], sizes, any);
    assert!(cut.is_err(), "{transforms}: a cut is no error");
}
