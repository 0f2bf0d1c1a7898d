//! Extended attributes and ACLs of sources.

use std::{
    fs::{File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};

use crate::{
    files::{TestDir, until},
    mounts::Mount,
};

const ACL: &str = "system.posix_acl_access";

/// An ACL by which the user 1234 has these permissions.
fn acl(permissions: u8) -> Vec<u8> {
    const EVERY: u32 = u32::MAX;
    let entries: [(u16, u8, u32); 5] =
        [(1, 6, EVERY), (2, permissions, 1234), (4, 4, EVERY), (16, 6, EVERY), (32, 0, EVERY)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(u16::from(permissions).to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn set(path: &Path, name: &str, value: &[u8]) {
    fsetxattr(File::open(path).unwrap(), name, value, XattrFlags::empty()).unwrap();
}

fn get(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = fgetxattr(File::open(path).unwrap(), name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn once(place: &TestDir, args: &[&str]) -> String {
    let ended = place.once(args);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stderr
}

#[test]
fn extended_attributes_and_acls_follow_to_the_output_also_when_they_change_later() {
    let place = TestDir::new();
    let source = place.put("a", "content");
    set(&source, "user.origin", b"camera 1");
    set(&source, ACL, &acl(4));
    once(&place, &[]);
    let output = place.output().join("a.zst");
    assert_eq!(get(&output, "user.origin").as_deref(), Some(&b"camera 1"[..]));
    assert_eq!(get(&output, ACL), Some(acl(4)));
    // A consumer's own stay.
    set(&output, "user.checksum", b"1");
    set(&source, "user.origin", b"camera 2");
    set(&source, ACL, &acl(6));
    let log = once(&place, &[]);
    assert!(log.contains("stopped exit_code=0 published=0"), "{log}");
    assert_eq!(get(&output, "user.origin").as_deref(), Some(&b"camera 2"[..]));
    assert_eq!(get(&output, "user.checksum").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&output, ACL), Some(acl(6)));
    // A user who lost access to the source loses it to the output.
    fremovexattr(File::open(&source).unwrap(), ACL).unwrap();
    once(&place, &[]);
    assert_eq!(get(&output, ACL), None);
    assert_eq!(get(&output, "user.checksum").as_deref(), Some(&b"1"[..]));
    // It is still what was published.
    place.put("a", "changed");
    once(&place, &[]);
    assert_eq!(place.published("a.zst"), b"changed");
}

#[test]
fn an_archive_on_another_file_system_keeps_extended_attributes_and_acls() {
    let place = TestDir::new();
    let archive = place.root().join("elsewhere");
    std::fs::create_dir(&archive).unwrap();
    let Some(_mount) = Mount::memory(&archive, "1m") else { return };
    let source = place.put("a", "content");
    set(&source, "user.origin", b"camera 1");
    set(&source, ACL, &acl(4));
    once(&place, &["--on-success", &format!("archive:{}", archive.display())]);
    let archived = archive.join("a");
    assert!(archived.exists() && !source.exists());
    assert_eq!(get(&archived, "user.origin").as_deref(), Some(&b"camera 1"[..]));
    assert_eq!(get(&archived, ACL), Some(acl(4)));
}

/// No scan comes for hours.
#[test]
fn attributes_follow_to_the_output_when_they_change() {
    let place = TestDir::new();
    place.configure("rescan = \"10h\"");
    let source = place.put("a", "content");
    let running = place.watch(&[]);
    let output = place.output().join("a.zst");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    until("it is published", || output.exists());
    std::fs::set_permissions(&source, Permissions::from_mode(0o600)).unwrap();
    until("its mode follows", || mode(&output) == 0o600);
    set(&source, "user.origin", b"camera 1");
    until("its attribute follows", || get(&output, "user.origin").is_some());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("stopped exit_code=0 published=1"), "{ended:?}");
}
