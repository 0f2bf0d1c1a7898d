//! Decodes an output while it is made, and compares the result with the source.
//!
//! It finds what no checksum in the output can: an encoder, a processor or memory that gave wrong data.
//! That the output on the disk is the one that was made is shown by its own hash.

use std::path::Path;

use super::{
    Chain, Effect, Error, FailureCause, FileInfo, Receiver, Spec, Stopped,
    running::{Running, push, running},
};
use crate::policy::ExpansionLimits;

/// The inverse of a chain, and the hash of what it made so far.
#[derive(Debug)]
pub struct Verifier {
    running: Vec<Running>,
    decoded: Decoded,
    /// The first error of decoding.
    error: Option<Error>,
}

#[derive(Debug, Default)]
struct Decoded(blake3::Hasher);

impl Receiver for Decoded {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.0.update(bytes);
        Ok(())
    }
}

/// The limits of a decoder of what this transform makes: only its window is bounded.
fn limits(spec: &dyn Spec) -> ExpansionLimits {
    let decoder_bytes = match spec.effect() {
        Effect::Compresses(format) => format.window_bytes(),
        _ => 0,
    };
    ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes }
}

/// Returns the maximum memory of a verifier in bytes.
pub fn memory_bytes(chain: &Chain) -> u64 {
    let bytes = |spec: &dyn Spec| {
        spec.inverse().map_or(0, |inverse| inverse.memory_bytes(0, limits(spec).decoder_bytes))
    };
    chain.specs().iter().map(|spec| bytes(&**spec)).sum()
}

impl Verifier {
    /// Creates the inverse; an error if one of the transforms has none.
    pub fn new(chain: &Chain) -> Result<Self, Error> {
        let inverse = |spec: &dyn Spec| {
            let inverse = spec.inverse().ok_or(FailureCause::Unsupported("verification"))?;
            running(&*inverse, limits(spec), 0)
        };
        let running = chain.specs().iter().rev().map(|spec| inverse(&**spec));
        let running = running.collect::<Result<_, Error>>()?;
        Ok(Self { running, decoded: Decoded::default(), error: None })
    }

    /// Starts a file.
    pub fn start(&mut self) {
        for running in &mut self.running {
            running.start(&FileInfo { source: Path::new(""), before: &[] });
            // Its ratio is not bounded, so any number will do.
            running.set_source_bytes(1);
        }
        self.decoded.0.reset();
        self.error = None;
    }

    /// Decodes the next bytes of the output.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = push(&mut self.running, bytes, &mut self.decoded).err();
        }
    }

    /// Ends the output, and compares what it decodes to with the hash of the source.
    pub fn finish(&mut self, source: &[u8; 32]) -> Result<(), Error> {
        let mut chain = &mut self.running[..];
        while let Some((first, rest)) = chain.split_first_mut() {
            let ended = first.finish(rest, &mut self.decoded);
            self.error = self.error.take().or(ended.err());
            chain = rest;
        }
        let source_of = |error| FailureCause::NotReversed { source: error };
        match self.error.take() {
            Some(error) if matches!(error.cause(), FailureCause::KeysUnavailable(_)) => Err(error),
            Some(error) => Err(source_of(Some(Box::new(error))).into()),
            None if self.decoded.0.finalize().as_bytes() != source => Err(source_of(None).into()),
            None => Ok(()),
        }
    }
}

/// Passes an output on, and verifies it.
pub struct Verified<'a> {
    pub receiver: &'a mut dyn Receiver,
    pub verifier: &'a mut Verifier,
}

impl Receiver for Verified<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.receiver.put(bytes)?;
        self.verifier.feed(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::Transformer;

    fn compressed(transforms: &str, source: &[u8], threads: u32) -> Vec<u8> {
        let mut transformer = crate::transforms::tests::transformer(
            transforms,
            ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes: 0 },
            threads,
        );
        let mut output = Vec::new();
        transformer.start(Path::new("a"));
        transformer.feed(source, &mut output).expect(transforms);
        transformer.finish(&mut output).expect(transforms);
        output
    }

    /// Text that compresses, and bytes that do not.
    fn source(length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut number = 7_u32;
        while bytes.len() < length {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend(format!("{number} is a line, ").as_bytes());
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_output_is_its_source_and_a_changed_bit_is_detected() {
        for (transforms, threads, length) in [
            ("zstd:3", 0, 3_000),
            ("zstd:19", 1, 3_000_000),
            ("gzip:6", 2, 3_000_000),
            ("gzip:9:members", 2, 3_000_000),
            ("brotli:5", 1, 200_000),
            ("xz:9", 2, 3_000_000),
            ("bzip2", 1, 300_000),
            ("lz4:9", 1, 3_000_000),
            ("copy", 0, 3_000),
            ("zstd,gzip", 0, 3_000),
        ] {
            let source = source(length);
            let hash = blake3::hash(&source);
            let chain: Chain = transforms.parse().expect(transforms);
            let mut verifier = Verifier::new(&chain).expect(transforms);
            let mut output = compressed(transforms, &source, threads);
            let mut verify = |output: &[u8]| {
                verifier.start();
                output.chunks(65_537).for_each(|chunk| verifier.feed(chunk));
                verifier.finish(hash.as_bytes())
            };
            verify(&output).expect(transforms);
            // In the middle: some formats do not read all of their header.
            let middle = output.len() / 2;
            output[middle] ^= 0x10;
            assert!(verify(&output).is_err(), "{transforms}");
            output[middle] ^= 0x10;
            assert!(verify(&output[..middle]).is_err(), "{transforms}");
            verify(&output).expect("the verifier is used again");
        }
    }

    /// The output comes in the pieces in which it is made: a header, blocks, a trailer.
    #[test]
    fn an_output_is_verified_while_it_is_made() {
        let source = source(9_000_000);
        let hash = blake3::hash(&source);
        let noise: Vec<u8> = (0..9_000_000_u32)
            .map(|number| blake3::hash(&number.to_le_bytes()).as_bytes()[0])
            .collect();
        let noise_hash = blake3::hash(&noise);
        for transforms in
            ["zstd:3", "gzip:6", "gzip:1", "gzip:6:members", "lz4", "copy", "gzip,zstd"]
        {
            let bounds = ExpansionLimits { output_bytes: 1, ratio: 1, decoder_bytes: 0 };
            let chain = transforms.parse().expect(transforms);
            let made = Transformer::new(&chain, bounds, 2).and_then(Transformer::with_verifier);
            let mut transformer = made.expect(transforms);
            for (bytes, hash) in [(&source, hash), (&noise, noise_hash), (&source, hash)] {
                transformer.start(Path::new("a"));
                let mut output = Vec::new();
                for chunk in bytes.chunks(256 * 1024) {
                    transformer.feed(chunk, &mut output).expect(transforms);
                }
                transformer.finish(&mut output).expect(transforms);
                transformer.verify(hash.as_bytes()).expect(transforms);
            }
        }
    }

    #[test]
    fn what_cannot_be_reversed_is_named() {
        let inverse = |text: &str| text.parse::<Chain>().expect(text).irreversible();
        assert_eq!(inverse("zstd,copy,gzip"), None);
        assert_eq!(inverse("gunzip,zstd").as_deref(), Some("gunzip"));
        assert_eq!(inverse("exec:a").as_deref(), Some("exec:a"));
    }
}
