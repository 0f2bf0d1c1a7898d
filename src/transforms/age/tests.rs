use std::os::unix::fs::PermissionsExt;

use age::secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::transforms::{
    Chain, Error, Transformer,
    exec::Programs,
    tests::{BOUNDS, run},
};

/// Key files, and the transforms that use them.
struct Setting {
    dir: TempDir,
    keys: Arc<AgeKeys>,
    secret: String,
}

#[expect(clippy::disallowed_methods, reason = "a test's own file")]
fn write(path: &std::path::Path, text: &str, mode: u32) {
    let mut file = std::fs::File::create(path).expect("a file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
    file.set_permissions(std::fs::Permissions::from_mode(mode)).expect("its mode");
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = age::x25519::Identity::generate();
        let secret = identity.to_string().expose_secret().to_owned();
        write(&dir.path().join("identity"), &format!("# made here\n{secret}\n"), 0o600);
        let recipients = vec![identity.to_public().to_string()];
        let file = KeyFile::look(dir.path().join("identity"));
        let keys = Arc::new(AgeKeys::new(recipients, None, Some(file)));
        Self { dir, keys, secret }
    }

    fn transformer(&self, transforms: &str) -> Transformer {
        self.started(transforms).expect(transforms)
    }

    fn started(&self, transforms: &str) -> Result<Transformer, Error> {
        let chain: Chain = transforms.parse().expect(transforms);
        let chain = chain.resolve(&Programs::new(), &self.keys).expect(transforms);
        Transformer::new(&chain, BOUNDS, 1)
    }

    fn encrypted(&self, content: &[u8]) -> Vec<u8> {
        run(&mut self.transformer("age"), content, 100_000).expect("age")
    }

    fn decrypted(&self, bytes: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
        run(&mut self.transformer("unage"), bytes, piece)
    }

    fn identity_file(&self) -> std::path::PathBuf {
        self.dir.path().join("identity")
    }
}

/// A recipient and its identity, which is read now: its file does not stay.
pub(in crate::transforms) fn keys_in_memory() -> Arc<AgeKeys> {
    let Setting { keys, dir, .. } = Setting::new();
    keys.identities().expect("readable");
    drop(dir);
    keys
}

fn content(length: usize) -> Vec<u8> {
    b"a line of 16 b.\n".iter().copied().cycle().take(length).collect()
}

/// Around the ends of parts, of which one has 64 KiB.
#[test]
fn every_length_is_restored_in_pieces_of_any_size() {
    let keys = Setting::new();
    let (mut age, mut unage) = (keys.transformer("age"), keys.transformer("unage"));
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 300_000] {
        let content = content(length);
        for piece in [999, 65_536, 400_000] {
            let packed = run(&mut age, &content, piece).expect("age");
            let again = run(&mut age, &content, piece).expect("age");
            assert!(packed != again, "two encryptions are the same");
            for piece in [1000, 65_552, 400_000] {
                let back = run(&mut unage, &packed, piece).expect("unage");
                assert!(back == content, "{length} bytes in pieces of {piece}");
            }
        }
    }
    assert!(keys.decrypted(&keys.encrypted(b"text"), 1).expect("byte by byte") == b"text");
}

#[test]
fn every_cut_is_an_error() {
    let keys = Setting::new();
    let content = content(300_000);
    let packed = keys.encrypted(&content);
    let mut unage = keys.transformer("unage");
    let of_header = (0..400).step_by(7);
    let of_parts = (4096..packed.len()).step_by(4096);
    let ends = [packed.len() - 1, packed.len() - 16, packed.len() - 17];
    for cut in of_header.chain(of_parts).chain(ends) {
        let error = run(&mut unage, &packed[..cut], 50_000).expect_err("a cut");
        assert!(error.is_final(), "{cut}: {error}");
        let is_named = matches!(error.cause(), FailureCause::Truncated | FailureCause::Corrupt(_));
        assert!(is_named, "{cut}: {error}");
    }
    // After a complete part nothing but the end is missing.
    let header = packed.windows(4).position(|bytes| bytes == b"\n---").expect("its last line");
    let payload = header + 1 + 3 + 1 + 43 + 1 + 16;
    let error = run(&mut unage, &packed[..payload + 65_552], 50_000).expect_err("a cut");
    assert!(matches!(error.cause(), FailureCause::Truncated), "{error}");
    assert!(run(&mut unage, &packed, 50_000).expect("whole") == content);
}

#[test]
fn a_changed_bit_and_data_after_the_end_are_errors() {
    let keys = Setting::new();
    let mut packed = keys.encrypted(&content(200_000));
    let mut unage = keys.transformer("unage");
    for at in (0..1000).step_by(13).chain((1000..packed.len()).step_by(10_007)) {
        packed[at] ^= 0x10;
        let error = run(&mut unage, &packed, 50_000).expect_err("a changed bit");
        assert!(error.is_final(), "{at}: {error}");
        packed[at] ^= 0x10;
    }
    for length in [1, 65_536, 200_000] {
        let more = [&packed[..], &vec![0; length]].concat();
        let error = run(&mut unage, &more, 50_000).expect_err("data after the end");
        assert!(matches!(error.cause(), FailureCause::Corrupt(_)), "{length}: {error}");
    }
    let whole = [keys.encrypted(&content(65_536)), vec![7]].concat();
    assert!(keys.decrypted(&whole, 1000).is_err(), "after a part that is full");
}

#[test]
fn a_file_for_others_is_refused_for_good() {
    let (ours, theirs) = (Setting::new(), Setting::new());
    let error = ours.decrypted(&theirs.encrypted(b"text"), 1000).expect_err("not for us");
    assert!(matches!(error.cause(), FailureCause::NoIdentity), "{error}");
    assert!(error.is_final() && !error.is_unavailable());
}

#[test]
fn other_files_are_named() {
    let keys = Setting::new();
    let scrypt = b"age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 15\n\
        ZV/AhotwSGqaPCU43cepl4WYUouAa17a3xpu4G2yi5k\n\
        --- fgMiVLJHMlg9fW7CVG/hPS5EAU4Zeg19LyCP7SoH5nA\n0123456789abcdef0123456789abcdef";
    for (bytes, name) in [
        (&b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl"[..], "armored"),
        (b"age-encryption.org/v2\n", "another version"),
        (scrypt, "passphrase"),
    ] {
        for piece in [1, 1000] {
            let error = keys.decrypted(bytes, piece).expect_err(name);
            assert!(matches!(error.cause(), FailureCause::Unsupported(_)), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
    for bytes in [&b"plain text, no file of age"[..], b"-----BEGIN PGP", b"--"] {
        let error = keys.decrypted(bytes, 1).expect_err("no file of age");
        assert!(matches!(error.cause(), FailureCause::Corrupt(_)), "{error}");
    }
}

/// The library would parse it again for each of its lines, or for each of its bytes.
#[test]
fn a_header_without_an_end_is_refused_at_its_limit() {
    let keys = Setting::new();
    let many = [&b"age-encryption.org/v1\n"[..], &b"-> a\n\n".repeat(60_000)].concat();
    let error = keys.decrypted(&many, 10_000).expect_err("a long header");
    assert!(matches!(error.cause(), FailureCause::Corrupt(_)), "{error}");
    let complete = many.get(..200_000).expect("most of it");
    let line = b"\n--- fgMiVLJHMlg9fW7CVG/hPS5EAU4Zeg19LyCP7SoH5nA\n0123456789abcdef";
    let error = keys.decrypted(&[complete, line].concat(), 10_000).expect_err("for nobody");
    assert!(error.is_final(), "{error}");
}

#[test]
fn a_receiver_that_stops_ends_the_transformation() {
    struct Closed;
    impl crate::transforms::Receiver for Closed {
        fn put(&mut self, _: &[u8]) -> Result<(), crate::transforms::Stopped> {
            Err(crate::transforms::Stopped)
        }
    }
    let keys = Setting::new();
    let packed = keys.encrypted(&content(300_000));
    for (transforms, input) in [("age", content(300_000)), ("unage", packed)] {
        let mut transformer = keys.transformer(transforms);
        transformer.start("a".as_ref());
        let error = transformer.feed(&input, &mut Closed).expect_err("stopped");
        assert!(error.is_stopped(), "{transforms}: {error}");
        assert!(run(&mut transformer, &input, 10_000).is_ok(), "{transforms}: the next file");
    }
}

#[test]
fn keys_that_cannot_be_used_blame_no_file() {
    let keys = Setting::new();
    let unavailable = |keys: &Setting, text: &str| {
        let error = keys.started("unage").expect_err(text);
        assert!(error.is_unavailable() && !error.is_final(), "{error}");
        assert!(matches!(error.cause(), FailureCause::KeysUnavailable(_)), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(!error.to_string().contains(&keys.secret[20..]), "{error}");
    };
    let path = keys.identity_file();
    for mode in [0o644, 0o640, 0o660, 0o601] {
        write(&path, &keys.secret, mode);
        unavailable(&keys, "chmod 600");
    }
    for (text, reason) in
        [("no key\n", "line 1"), ("", "no key"), (&*format!("{}x", keys.secret), "line 1")]
    {
        write(&path, text, 0o600);
        unavailable(&keys, reason);
    }
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::remove_file(&path).expect("removed");
    unavailable(&keys, "No such file");
    std::fs::create_dir(&path).expect("a directory");
    unavailable(&keys, "is not a file");
    std::fs::remove_dir(&path).expect("removed");
    // The same chain recovers without a reload.
    write(&path, &keys.secret, 0o400);
    keys.transformer("unage");
}

#[test]
fn keys_are_those_of_the_last_reload() {
    let keys = Setting::new();
    let packed = keys.encrypted(b"text");
    keys.decrypted(&packed, 1000).expect("the identity fits");
    let reloaded = || {
        let file = KeyFile::look(keys.identity_file());
        AgeKeys::new(keys.keys.listed().to_vec(), None, Some(file))
    };
    assert_eq!(reloaded(), *keys.keys);
    write(&keys.identity_file(), &Setting::new().secret, 0o600);
    assert_ne!(reloaded(), *keys.keys);
    keys.decrypted(&packed, 1000).expect("nothing was reloaded");
    let after = Setting { keys: Arc::new(reloaded()), ..keys };
    let error = after.decrypted(&packed, 1000).expect_err("another identity");
    assert!(matches!(error.cause(), FailureCause::NoIdentity), "{error}");
}

#[test]
fn recipients_come_from_the_configuration_and_a_file_and_the_ledger_stores_a_hash_of_them() {
    let (one, other) = (Setting::new(), Setting::new());
    let path = one.dir.path().join("recipients");
    let of_other = &other.keys.listed()[0];
    write(&path, &format!("# the other\n\n  {of_other}\n"), 0o644);
    let both = Arc::new(AgeKeys::new(
        one.keys.listed().to_vec(),
        Some(KeyFile::look(path.clone())),
        Some(KeyFile::look(one.identity_file())),
    ));
    let one = Setting { keys: both, ..one };
    let packed = one.encrypted(b"text");
    for keys in [&one, &other] {
        assert_eq!(keys.decrypted(&packed, 1000).expect("for both"), b"text");
    }
    let recorded = |keys: &Setting| {
        let chain = "age".parse::<Chain>().expect("age");
        chain.resolve(&Programs::new(), &keys.keys).expect("resolved").recorded()
    };
    assert!(recorded(&one).starts_with("age@"), "{}", recorded(&one));
    assert_ne!(recorded(&one), recorded(&other));
    write(&path, &format!("{of_other}\n{}\n", other.secret), 0o644);
    let wrong = AgeKeys::new(Vec::new(), Some(KeyFile::look(path)), None);
    let error = wrong.recipients().expect_err("a secret key among them").to_string();
    assert!(error.contains("line 2") && !error.contains("SECRET"), "{error}");
}

#[test]
fn an_output_is_verified_with_an_identity_that_fits() {
    let (one, other) = (Setting::new(), Setting::new());
    let verified = |keys: &Setting| {
        let mut transformer = keys.started("zstd,age")?.with_verifier()?;
        let mut output = Vec::new();
        transformer.start("a".as_ref());
        transformer.feed(&content(300_000), &mut output)?;
        transformer.finish(&mut output)?;
        transformer.verify(blake3::hash(&content(300_000)).as_bytes())
    };
    verified(&one).expect("it is the source");
    assert!(one.keys.has_fitting_identity().expect("readable"));
    let file = Some(KeyFile::look(other.identity_file()));
    let keys = Arc::new(AgeKeys::new(one.keys.listed().to_vec(), None, file));
    assert!(!keys.has_fitting_identity().expect("readable"));
    let error = verified(&Setting { keys, ..one }).expect_err("not for this identity");
    assert!(matches!(error.cause(), FailureCause::KeysUnavailable(_)), "{error}");
    let none = Arc::new(AgeKeys::new(other.keys.listed().to_vec(), None, None));
    let chain = "zstd,age".parse::<Chain>().expect("a chain");
    let chain = chain.resolve(&Programs::new(), &none).expect("resolved");
    assert_eq!(chain.irreversible().as_deref(), Some("age"));
}

#[test]
fn no_text_of_the_keys_has_a_secret() {
    let keys = Setting::new();
    keys.transformer("unage");
    let text = format!("{:?} {:?}", keys.keys, keys.keys.identities().expect("readable"));
    assert!(!text.contains(&keys.secret[20..]) && text.contains("age1"), "{text}");
}
