//! Archives of every format, made by the codecs' libraries and not by the program under test.

use async_compression::tokio::bufread::{
    BrotliEncoder, BzEncoder, GzipEncoder, Lz4Encoder, XzEncoder, ZstdEncoder,
};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader};

/// Each format, the step that undoes it, and how its names end.
pub const FORMATS: [(&str, &str); 6] = [
    ("unzstd", "zst"),
    ("gunzip", "gz"),
    ("unbrotli", "br"),
    ("unxz", "xz"),
    ("bunzip2", "bz2"),
    ("unlz4", "lz4"),
];

/// The content as an archive whose name ends so.
pub fn pack(extension: &str, content: &[u8]) -> Vec<u8> {
    block_on(read(encoder(extension, content)))
}

/// An archive of this many zeros.
pub fn zeros(extension: &str, bytes: u64) -> Vec<u8> {
    let content = BufReader::with_capacity(1 << 20, tokio::io::repeat(0).take(bytes));
    block_on(read(encoder(extension, content)))
}

fn encoder<'a>(
    extension: &str,
    content: impl AsyncBufRead + Unpin + 'a,
) -> Box<dyn AsyncRead + Unpin + 'a> {
    match extension {
        "zst" => Box::new(ZstdEncoder::new(content)),
        "gz" => Box::new(GzipEncoder::new(content)),
        "br" => {
            let quality = async_compression::Level::Precise(5);
            Box::new(BrotliEncoder::with_quality(content, quality))
        }
        "xz" => Box::new(XzEncoder::with_quality(content, async_compression::Level::Fastest)),
        "bz2" => Box::new(BzEncoder::new(content)),
        "lz4" => Box::new(Lz4Encoder::new(content)),
        other => panic!("{other} is no format"),
    }
}

async fn read(mut encoder: Box<dyn AsyncRead + Unpin + '_>) -> Vec<u8> {
    let mut packed = Vec::new();
    encoder.read_to_end(&mut packed).await.unwrap();
    packed
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
