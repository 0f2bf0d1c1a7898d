//! Encryption and decryption by the service: which file goes where, whose keys count, and that no secret is
//! in what it writes.

#![expect(clippy::disallowed_methods, reason = "the tests are another program")]

mod checks;
mod kills;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use age::{
    secrecy::ExposeSecret,
    x25519::{Identity, Recipient},
};
use rustix::process::Signal;

use crate::{
    harness::{self, Service, Tree, until},
    prove,
};

/// A tree with the directory `keys` and a configuration of one pipeline.
struct Setting {
    tree: Tree,
    identity: Identity,
}

fn secret(identity: &Identity) -> String {
    identity.to_string().expose_secret().to_owned()
}

/// Writes a key file as an editor does: a new file in place of the old one.
fn write(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("write");
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("its mode");
    fs::rename(new, path).expect("rename");
}

fn decrypt(identity: &Identity, bytes: &[u8]) -> Option<Vec<u8>> {
    age::decrypt(identity, bytes).ok()
}

impl Setting {
    /// With the identity in `keys/identity`, its recipient in `keys/recipients`, and these transforms and
    /// further keys.
    fn new(transforms: &str, keys: &str) -> Self {
        let setting = Self { tree: Tree::new(), identity: Identity::generate() };
        fs::create_dir(setting.tree.path("keys")).expect("directory");
        setting.set_identity(&setting.identity);
        setting.set_recipients(&[setting.identity.to_public()]);
        let age = "identity_file = \"keys/identity\"\nrecipients_file = \"keys/recipients\"\n";
        setting.configure(age, transforms, keys);
        setting
    }

    fn configure(&self, age: &str, transforms: &str, keys: &str) {
        let text = format!(
            "state_dir = \"state\"\nevents = \"lines/events\"\n[age]\n{age}\n[[pipeline]]\n\
             input = \"in\"\noutput = \"out\"\non_success = \"delete\"\nbackoff = \"1ms\"\n\
             settle = \"0s\"\ntransforms = {transforms:?}\n{keys}\n"
        );
        fs::create_dir_all(self.tree.path("lines")).expect("directory");
        fs::write(self.tree.path("t.toml"), text).expect("write");
    }

    fn set_identity(&self, identity: &Identity) {
        write(&self.tree.path("keys/identity"), &secret(identity), 0o600);
    }

    fn set_recipients(&self, recipients: &[Recipient]) {
        let lines: Vec<_> = recipients.iter().map(ToString::to_string).collect();
        write(&self.tree.path("keys/recipients"), &lines.join("\n"), 0o644);
    }

    fn start(&self) -> Service {
        self.tree.configured("t.toml").spawn().expect("start").into()
    }

    fn once(&self) -> i32 {
        let mut command = self.tree.configured("t.toml");
        let service: Service = command.arg("--once").spawn().expect("start").into();
        service.wait()
    }

    fn tidemill(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(args).current_dir(self.tree.path("")).stdin(Stdio::null());
        command.output().expect("start")
    }

    fn output(&self, name: &str) -> Vec<u8> {
        fs::read(self.tree.path("out").join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.tree.log()))
    }

    /// The published outputs: each line of the events file.
    fn published(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.tree.path("lines/events")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        lines.filter(|line: &serde_json::Value| line["outcome"] == "published").collect()
    }

    /// The code and the text of the reason for which a file was quarantined.
    fn reason(&self, name: &str) -> (String, String) {
        let path = self.tree.path("state/quarantine/main").join(format!("{name}.json"));
        let text = fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.tree.log()));
        let reason: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let of = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
        (of("reason_code"), of("error"))
    }

    /// Nothing that the service wrote has the secret of an identity.
    fn assert_no_secret(&self, identities: &[&Identity]) {
        let written = ["state", "lines", "out"].iter().flat_map(|dir| {
            self.tree.files(dir).into_iter().map(|path| self.tree.path(dir).join(path))
        });
        let files: Vec<PathBuf> = written.collect();
        assert!(files.iter().any(|path| path.ends_with("state/config.toml")), "{files:?}");
        let log = self.tree.log();
        for identity in identities {
            let secret = secret(identity);
            assert!(!log.contains(&secret[20..]), "the log");
            for path in &files {
                let bytes = fs::read(path).unwrap_or_default();
                let found = bytes.windows(30).any(|bytes| bytes == &secret.as_bytes()[20..50]);
                assert!(!found, "{}", path.display());
            }
        }
    }
}

/// Some sizes, of small files and of one that crosses in chunks.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let large =
        (0..100_000).flat_map(|number| format!("line {number} of a large file\n").into_bytes());
    vec![("empty", Vec::new()), ("small", b"one line\n".to_vec()), ("large", large.collect())]
}

#[test]
fn files_are_encrypted_and_decrypted_and_verified() {
    let mut setting = Setting::new("zstd,age", "verify = true");
    for (name, content) in contents() {
        setting.tree.put(&format!("d/{name}"), &content);
    }
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    for (name, content) in contents() {
        let packed = setting.output(&format!("d/{name}.zst.age"));
        let packed = decrypt(&setting.identity, &packed).expect(name);
        assert!(harness::decode(&mut harness::decoder(), &packed) == content, "{name}");
    }
    let age = "identity_file = \"keys/identity\"";
    setting.configure(age, "unage,unzstd", "");
    let text = fs::read_to_string(setting.tree.path("t.toml")).expect("read");
    let text = text.replace("\"out\"", "\"back\"").replace("\"in\"", "\"out\"");
    fs::write(setting.tree.path("t.toml"), text).expect("write");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    for (name, content) in contents() {
        let back = fs::read(setting.tree.path(&format!("back/d/{name}"))).expect(name);
        assert!(back == content, "{name}");
    }
    setting.assert_no_secret(&[&setting.identity]);
}

#[test]
fn the_tool_age_reads_the_outputs_and_its_files_are_read() {
    if Command::new("age").arg("--version").output().is_err() {
        return prove::skipped("the tool `age`", "it is not installed (Debian's package `age`)");
    }
    let mut setting = Setting::new("age", "");
    let (keys, files) = (setting.tree.path("keys"), setting.tree.path("tool"));
    fs::create_dir(&files).expect("directory");
    let keygen = Command::new("age-keygen").arg("-o").arg(keys.join("of-tool")).output();
    assert!(keygen.expect("age-keygen").status.success());
    fs::rename(keys.join("of-tool"), keys.join("identity")).expect("rename");
    let public = Command::new("age-keygen").arg("-y").arg(keys.join("identity")).output();
    fs::write(keys.join("recipients"), public.expect("age-keygen").stdout).expect("write");
    let tool = |args: &[&str], from: &Path, to: &Path| {
        let mut command = Command::new("age");
        let ended = command.args(args).arg("-o").arg(to).arg(from).output().expect("age");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    let (identity, recipients) = (keys.join("identity"), keys.join("recipients"));
    let (identity, recipients) =
        (identity.to_str().expect("text"), recipients.to_str().expect("text"));
    for (name, content) in contents() {
        setting.tree.put(name, &content);
    }
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    for (name, content) in contents() {
        let plain = files.join(name);
        let packed = setting.tree.path("out").join(format!("{name}.age"));
        tool(&["-d", "-i", identity], &packed, &plain);
        // For an empty one it makes no file.
        assert!(fs::read(&plain).unwrap_or_default() == content, "{name}");
        fs::write(&plain, &content).expect("write");
        tool(&["-R", recipients], &plain, &setting.tree.path("in").join(format!("{name}.age")));
        fs::remove_file(packed).expect("removed");
    }
    setting.configure("identity_file = \"keys/identity\"", "unage", "");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    for (name, content) in contents() {
        assert!(setting.output(name) == content, "{name}");
    }
}

#[test]
fn files_that_cannot_be_decrypted_go_to_quarantine_with_their_reason() {
    let mut setting = Setting::new("unage", "");
    let other = Identity::generate();
    let content = b"a line\n".repeat(50_000);
    let packed = age::encrypt(&setting.identity.to_public(), &content).expect("age");
    let for_other = age::encrypt(&other.to_public(), &content).expect("age");
    let mut damaged = packed.clone();
    damaged[200_000] ^= 1;
    setting.tree.put("whole.age", &packed);
    setting.tree.put("other.age", &for_other);
    setting.tree.put("damaged.age", &damaged);
    setting.tree.put("cut.age", &packed[..packed.len() - 1000]);
    setting.tree.put("short.age", &packed[..150]);
    setting.tree.put("plain", b"no file of age");
    assert_eq!(setting.once(), 65, "{}", setting.tree.log());
    assert!(setting.output("whole") == content);
    assert_eq!(setting.tree.files("out").len(), 1, "{:?}", setting.tree.files("out"));
    for (name, code, text) in [
        ("other.age", "no_identity", "no identity fits"),
        ("damaged.age", "corrupt", "a part does not authenticate"),
        ("cut.age", "corrupt", "cut off"),
        ("short.age", "truncated", "truncated"),
        ("plain", "corrupt", "no file of age"),
    ] {
        let (found, reason) = setting.reason(name);
        assert_eq!(found, code, "{name}: {reason}");
        assert!(reason.contains(text) && reason.contains("`unage`"), "{name}: {reason}");
    }
    setting.assert_no_secret(&[&setting.identity, &other]);
}

/// The key is at fault, and not the file: it waits until the key can be read.
#[test]
fn a_key_file_that_cannot_be_used_pauses_the_pipeline_until_it_can() {
    let mut setting = Setting::new("unage", "attempts = 1");
    let service = setting.start();
    until("it is ready", || setting.tree.log().contains("phase=READY"));
    let path = setting.tree.path("keys/identity");
    fs::remove_file(&path).expect("removed");
    let packed = age::encrypt(&setting.identity.to_public(), b"text").expect("age");
    setting.tree.put("a.age", &packed);
    let is_paused = |reason: &str| {
        let log = setting.tree.log();
        log.lines().any(|line| line.contains("event=intake.paused") && line.contains(reason))
    };
    until("it pauses", || is_paused("cannot read the key file"));
    write(&path, &secret(&setting.identity), 0o600);
    until("it is published", || setting.tree.path("out/a").exists());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"text");
    assert!(!setting.tree.path("state/quarantine/main").exists());
    setting.assert_no_secret(&[&setting.identity]);
}

/// Each output is for the recipients before a reload or for those after it, and none is lost.
#[test]
fn recipients_that_are_replaced_count_from_the_reload_on() {
    const FILES: usize = 300;
    let mut setting = Setting::new("age", "");
    let other = Identity::generate();
    let service = setting.start();
    until("it is ready", || setting.tree.log().contains("phase=READY"));
    for number in 0..FILES {
        setting.tree.put(&number.to_string(), format!("file {number}\n").as_bytes());
        if number == FILES / 2 {
            until("some are published", || setting.published().len() > FILES / 10);
            setting.set_recipients(&[other.to_public()]);
            service.signal(Signal::HUP);
        }
    }
    let reloaded =
        |log: &str| log.contains("event=config.reloaded") && log.contains("changed=main");
    until("it is reloaded", || reloaded(&setting.tree.log()));
    setting.tree.put("later", b"file later\n");
    until("all are published", || setting.published().len() == FILES + 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    let mut counts = [0, 0];
    for line in setting.published() {
        let output = setting.output(line["output"].as_str().expect("a name"));
        let content = [&setting.identity, &other].map(|identity| decrypt(identity, &output));
        let expected = format!("file {}\n", line["source"].as_str().expect("a name"));
        let of = content.iter().position(Option::is_some).expect("one of them decrypts");
        assert_eq!(content[of].as_deref(), Some(expected.as_bytes()), "{line}");
        assert!(content[1 - of].is_none(), "{line}");
        counts[of] += 1;
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    let later = setting.output("later.age");
    assert!(decrypt(&other, &later).is_some() && decrypt(&setting.identity, &later).is_none());
    setting.assert_no_secret(&[&setting.identity, &other]);
}

/// A reload that names a directory which the sandbox excludes, or a file that is not there, changes nothing.
#[test]
fn a_reload_with_key_files_that_it_cannot_use_is_refused() {
    let mut setting = Setting::new("age", "");
    let elsewhere = tempfile::tempdir().expect("directory");
    let service = setting.start();
    until("it is ready", || setting.tree.log().contains("phase=READY"));
    let refused = |log: &str| log.matches("event=config.refused").count();
    let reload = |age: &str| {
        let before = refused(&setting.tree.log());
        setting.configure(age, "age", "");
        service.signal(Signal::HUP);
        until("it is refused", || refused(&setting.tree.log()) > before);
    };
    reload("recipients_file = \"keys/none\"");
    let key = secret(&setting.identity);
    reload(&format!("recipients = [\"{key}\"]"));
    // Without a sandbox it would be accepted.
    if setting.tree.log().contains("event=sandbox.active") {
        let path = elsewhere.path().join("recipients");
        write(&path, &setting.identity.to_public().to_string(), 0o644);
        reload(&format!("recipients_file = {path:?}"));
        assert!(setting.tree.log().contains("outside the sandbox"), "{}", setting.tree.log());
    }
    setting.tree.put("a", b"text");
    until("it is published", || setting.published().len() == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    assert_eq!(decrypt(&setting.identity, &setting.output("a.age")).as_deref(), Some(&b"text"[..]));
    setting.assert_no_secret(&[&setting.identity]);
}
