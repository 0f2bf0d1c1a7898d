//! Who may read and write what the service makes, under every umask.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use crate::files::{Running, TestDir, tree, until};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The service under this umask.
fn under(umask: &str, place: &TestDir, args: &[&str], failpoints: &str) -> Running {
    let tidemill = place.tidemill(&[&["run", "--config", "tidemill.toml"], args].concat());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "umask \"$0\" && exec \"$@\"", umask])
        .arg(tidemill.get_program())
        .args(tidemill.get_args())
        .current_dir(place.root())
        .env("RUST_LOG", "info")
        .env("FAILPOINTS", failpoints);
    Running::start(&mut shell)
}

const MODES: [(&str, u32, u32); 6] = [
    ("private", 0o600, 0o600),
    ("group", 0o640, 0o640),
    ("public", 0o644, 0o644),
    ("shared", 0o666, 0o666),
    ("closed", 0o400, 0o400),
    // Nobody becomes another by running an output.
    ("program", 0o6755, 0o755),
];

#[test]
fn an_output_has_its_sources_mode_under_every_umask_without_the_set_user_id_bits() {
    for umask in ["000", "022", "077"] {
        let place = TestDir::new();
        for (name, source, _) in MODES {
            let path = place.put(name, "content");
            fs::set_permissions(path, Permissions::from_mode(source)).unwrap();
        }
        let ended = under(umask, &place, &["--once", "--on-success", "delete"], "").end();
        assert_eq!(ended.code, 0, "{umask}: {ended:?}");
        for (name, _, output) in MODES {
            let found = mode(&place.output().join(format!("{name}.zst")));
            assert_eq!(found, output, "{umask} {name}: {found:o}");
        }
        place.assert_clean();
    }
}

#[test]
fn what_the_service_keeps_for_itself_is_nobody_elses_to_write_under_every_umask() {
    for umask in ["000", "022", "077"] {
        let place = TestDir::new();
        let bad = place.put("sub/bad", "no archive");
        fs::set_permissions(bad, Permissions::from_mode(0o600)).unwrap();
        let args = [
            "--once",
            "--transform",
            "gunzip",
            "--on-success",
            "delete",
            "--events",
            "events.jsonl",
        ];
        let ended = under(umask, &place, &args, "").end();
        assert_eq!(ended.code, 65, "{umask}: {ended:?}");
        assert!(place.quarantine().join("sub/bad.json").exists());
        let mut dirs = vec![place.state()];
        for file in tree(&place.state()) {
            dirs.extend(
                file.ancestors()
                    .skip(1)
                    .take_while(|dir| dir.starts_with(place.state()))
                    .map(Path::to_path_buf),
            );
            assert_eq!(mode(&file) & 0o022, 0, "{umask} {}: {:o}", file.display(), mode(&file));
        }
        dirs.push(place.state().join("control"));
        for dir in dirs {
            assert_eq!(mode(&dir) & 0o022, 0, "{umask} {}: {:o}", dir.display(), mode(&dir));
            assert_eq!(mode(&dir) & 0o700, 0o700, "{umask} {}: {:o}", dir.display(), mode(&dir));
        }
        for private in ["ledger.sqlite", "quarantine/main/sub/bad", "quarantine/main/sub/bad.json"]
        {
            assert_eq!(mode(&place.state().join(private)), 0o600, "{umask} {private}");
        }
        assert_eq!(mode(&place.root().join("events.jsonl")) & 0o022, 0, "{umask}");
    }
}

#[test]
fn a_temporary_file_is_the_services_alone_until_it_has_its_sources_mode() {
    for umask in ["000", "077"] {
        let place = TestDir::new();
        let running = under(umask, &place, &[], "write=sleep(100)");
        running.until_logged("event=pipeline.ready");
        let outside = place.root().join("large");
        fs::write(&outside, vec![b'l'; 2 << 20]).unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
        fs::rename(outside, place.input().join("large")).unwrap();
        until("its temporary file", || {
            !place.leftovers().is_empty() || place.output().join("large.zst").exists()
        });
        until("the output", || {
            for temp in place.leftovers() {
                // It may have been published in between.
                if let Ok(found) = fs::symlink_metadata(&temp) {
                    assert_eq!(found.permissions().mode() & 0o7777, 0o600, "{umask}");
                }
            }
            place.output().join("large.zst").exists()
        });
        assert_eq!(mode(&place.output().join("large.zst")), 0o600);
        assert_eq!(running.stop().code, 0);
    }
}

#[test]
fn an_output_directory_is_as_private_as_its_sources_and_no_more_open_than_the_umask() {
    use std::os::unix::fs::{MetadataExt, chown};
    for (umask, private, shared) in
        [("000", 0o750, 0o777), ("022", 0o750, 0o755), ("077", 0o700, 0o700)]
    {
        let place = TestDir::new();
        place.put("private/sub/file", "content");
        place.put("shared/file", "content");
        for (dir, mode) in [("private", 0o750), ("shared", 0o777)] {
            let dir = place.input().join(dir);
            fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
            if crate::hostile::is_root() {
                chown(dir, Some(7), Some(8)).unwrap();
            }
        }
        let ended = under(umask, &place, &["--once"], "").end();
        assert_eq!(ended.code, 0, "{umask}: {ended:?}");
        assert_eq!(mode(&place.output().join("private")), private, "{umask}");
        assert_eq!(mode(&place.output().join("shared")), shared, "{umask}");
        if crate::hostile::is_root() {
            let found = fs::metadata(place.output().join("private")).unwrap();
            assert_eq!((found.uid(), found.gid()), (7, 8));
        }
        assert_eq!(place.published("private/sub/file.zst"), b"content");
    }
}
