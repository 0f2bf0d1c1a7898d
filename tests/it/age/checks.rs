//! What `tidemill check` reports of keys, and what it shows.

use std::fs;

use age::x25519::Identity;

use super::{Setting, secret, write};

/// What `tidemill check` prints, and its exit code.
fn check(setting: &Setting) -> (Option<i32>, String) {
    let ended = setting.tidemill(&["check", "--config", "t.toml"]);
    let text = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8(text).expect("text"))
}

const FILES: &str = "identity_file = \"keys/identity\"\nrecipients_file = \"keys/recipients\"\n";

#[test]
fn missing_keys_are_reported_with_what_to_write() {
    let setting = Setting::new("age", "");
    let public = setting.identity.to_public();
    let listed = format!("recipients = [\"{public}\"]\n");
    let unfit = format!(
        "recipients = [\"{}\"]\nidentity_file = \"keys/identity\"",
        Identity::generate().to_public()
    );
    for (age, transforms, keys, message, help) in [
        ("", "zstd,age", "", "`age` has no recipients", "recipients = ["),
        ("", "unage", "", "`unage` has no identities", "identity_file = "),
        (&*listed, "age", "verify = true", "without an identity", "leave out `verify`"),
        (&*unfit, "age", "verify = true", "no identity is of a recipient", "leave out `verify`"),
        (
            FILES,
            "unage",
            "verify = true",
            "`verify` cannot decode the output of `unage`",
            "leave out",
        ),
        ("recipients = [\"age1x\"]", "age", "", "`age1x` is not a recipient", "age-keygen"),
        ("recipients_file = \"keys/none\"", "age", "", "cannot read the key file", ""),
        ("identity_file = \"keys/none\"", "unage", "", "cannot read the key file", "age-keygen"),
        ("identity_file = \"keys\"", "unage", "", "is not a file", "age-keygen"),
        ("identity_file = \"keys/recipients\"", "unage", "", "others may read", "chmod 600"),
        ("recipients_file = \"t.toml\"", "age", "", "line 1 of", ""),
        ("identity_file = \"in/i\"", "unage", "", "is inside", "outside of every input"),
        ("recipients_file = \"out/r\"", "age", "", "is inside", "outside of every input"),
        ("identity_file = \"/i\"", "unage", "", "is in the root directory", "of its own"),
    ] {
        setting.configure(age, transforms, keys);
        let (code, text) = check(&setting);
        assert_eq!(code, Some(78), "{age} {transforms}\n{text}");
        assert!(text.contains(message) && text.contains(help), "{age} {transforms}\n{text}");
    }
    // Through a link, too.
    fs::write(setting.tree.path("in/i"), secret(&setting.identity)).expect("write");
    std::os::unix::fs::symlink("../in/i", setting.tree.path("keys/link")).expect("a link");
    setting.configure("identity_file = \"keys/link\"", "unage", "");
    assert!(check(&setting).1.contains("is inside"));
}

#[test]
fn a_configuration_that_fits_is_shown_and_encryption_before_compression_is_noted() {
    let setting = Setting::new("zstd,age", "verify = true");
    let (code, text) = check(&setting);
    assert_eq!(code, Some(0), "{text}");
    for part in ["keys/recipients\"", "keys/identity\"", "\"zstd:3,age\""] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Each direction needs its own keys only.
    for (age, transforms) in [
        ("identity_file = \"keys/identity\"", "unage,unzstd"),
        ("recipients_file = \"keys/recipients\"", "zstd,age"),
    ] {
        setting.configure(age, transforms, "");
        let (code, text) = check(&setting);
        assert_eq!(code, Some(0), "{age}\n{text}");
    }
    setting.configure(FILES, "age,zstd", "");
    let (code, text) = check(&setting);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("write `zstd:3,age`"), "{text}");
    assert!(!text.contains(&secret(&setting.identity)[20..]), "{text}");
}

#[test]
fn a_secret_key_in_the_configuration_is_not_repeated() {
    let setting = Setting::new("age", "");
    let key = secret(&setting.identity);
    for age in [
        format!("recipients = [\"{key}\"]"),
        format!("identity = \"{key}\""),
        format!("identity_file = \"{key}\""),
        format!("identity_file = {key}"),
        format!("recipients = [\"{}\"]", key.to_lowercase()),
    ] {
        setting.configure(&age, "age", "");
        let (code, text) = check(&setting);
        assert_eq!(code, Some(78), "{text}");
        let text = text.to_uppercase();
        assert!(!text.contains(&key[20..30]) && text.contains("SECRET-KEY-***"), "{text}");
    }
}

#[test]
fn plan_and_explain_name_the_transforms() {
    let mut setting = Setting::new("zstd,age", "");
    setting.tree.put("a", b"text");
    let of = |args: &[&str]| String::from_utf8(setting.tidemill(args).stdout).expect("text");
    let plan = of(&["plan", "--config", "t.toml"]);
    assert!(plan.contains("a.zst.age"), "{plan}");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    let history = of(&["show", "--config", "t.toml", "--state-dir", "state"]);
    let explained = of(&["explain", "in/a", "--state-dir", "state"]);
    assert!(explained.contains("a.zst.age"), "{explained}\n{history}");
    let other = Identity::generate().to_public().to_string();
    write(&setting.tree.path("keys/recipients"), &other, 0o644);
    setting.assert_no_secret(&[&setting.identity]);
}

#[test]
fn the_command_line_names_key_files() {
    let mut setting = Setting::new("age", "");
    setting.tree.put("a", b"text");
    let run =
        ["run", "in", "out", "--once", "--http", "off", "--on-success", "delete", "--transform"];
    let keys = ["age", "--age-recipients-file", "keys/recipients"];
    let ended = setting.tidemill(&[&run[..], &keys].concat());
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let packed = setting.output("a.age");
    assert_eq!(super::decrypt(&setting.identity, &packed).as_deref(), Some(&b"text"[..]));
    setting.tree.put("b.age", &packed);
    let keys = ["unage", "--age-identity-file", "keys/identity"];
    let ended = setting.tidemill(&[&run[..], &keys].concat());
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(setting.output("b"), b"text");
}
