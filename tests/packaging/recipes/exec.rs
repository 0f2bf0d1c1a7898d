//! `config/exec.toml`, as it is shipped, with the real gpg, jq, iconv, sed, ImageMagick and pandoc.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    files::TestDir,
    recipes::{configured, done},
};

/// A home of gpg with a new key pair. Dropping it ends its agent.
struct KeyRing<'a>(&'a Path);

impl<'a> KeyRing<'a> {
    fn make(home: &'a Path) -> Self {
        fs::create_dir_all(home).unwrap();
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
        let ring = Self(home);
        let key = ["--quick-generate-key", "backup@example.org", "default", "default", "never"];
        done(ring.gpg().args(["--pinentry-mode", "loopback", "--passphrase", ""]).args(key));
        // Its agent has the secret key alone, and the service needs none.
        ring.stop_agent();
        ring
    }

    fn gpg(&self) -> Command {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet"]).env("GNUPGHOME", self.0).stdin(Stdio::null());
        command
    }

    fn stop_agent(&self) {
        let mut command = Command::new("gpgconf");
        command.args(["--kill", "all"]).env("GNUPGHOME", self.0);
        drop(command.output());
    }
}

impl Drop for KeyRing<'_> {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

#[test]
fn config_exec_toml_runs_each_of_its_programs() {
    let place = TestDir::new();
    let config = configured(&place, "exec.toml", &[("GNUPGHOME=/", &gnupg_home(&place))]);
    // The programs are the system's.
    let text = fs::read_to_string(place.root().join(&config)).unwrap();
    let root = place.root().display().to_string();
    let text = ["/usr/bin", "/bin"]
        .iter()
        .fold(text, |text, bin| text.replace(&format!("[\"{root}{bin}/"), &format!("[\"{bin}/")));
    fs::write(place.root().join(&config), text).unwrap();
    let home = place.root().join("etc/tidemill/gnupg");
    let ring = KeyRing::make(&home);
    let srv = place.root().join("srv/exec");
    let put = |path: &str, content: &[u8]| {
        let path = srv.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let backup = b"a line of a backup\n".repeat(50_000);
    put("backups/in/2026/db.sql", &backup);
    put("orders/in/a.json", br#"{"orders": [{"id": 1}, {"id": 2}]}"#);
    put("orders/in/broken.json", b"{\"orders\": [");
    put("reports/in/r.txt", b"Caf\xe9 4111111111111111\n");
    put("pages/in/index.md", b"# Title\n\nText.\n");
    fs::create_dir_all(srv.join("images/in")).unwrap();
    let image = srv.join("images/in/large.png");
    done(Command::new("convert").args(["-size", "1000x500", "xc:red"]).arg(&image));

    let ended = place.run(&["run", "--config", &config, "--http", "off", "--once"]);
    assert_eq!(ended.code, 65, "one order is broken: {ended:?}");
    assert!(ended.stderr.contains("1 in quarantine"), "{ended:?}");
    let out = |path: &str| srv.join(path);
    let packed = done(ring.gpg().arg("--decrypt").arg(out("backups/out/2026/db.sql.zst.gpg")));
    fs::write(place.root().join("db.zst"), packed.stdout).unwrap();
    let unpacked = done(Command::new("zstd").arg("-dqc").arg(place.root().join("db.zst")));
    assert!(unpacked.stdout == backup);
    let orders = fs::read_to_string(out("orders/out/a.jsonl")).unwrap();
    assert_eq!(orders, "{\"id\":1}\n{\"id\":2}\n");
    assert_eq!(ended.stderr.matches("reason_code=program_rejected").count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("parse error"), "{ended:?}");
    let report = done(Command::new("gzip").arg("-dc").arg(out("reports/out/r.txt.gz"))).stdout;
    assert_eq!(String::from_utf8(report).unwrap(), "Café ****\n");
    let thumbnail = out("images/out/large.jpg");
    let size = done(Command::new("identify").args(["-format", "%m %wx%h"]).arg(thumbnail)).stdout;
    assert_eq!(String::from_utf8(size).unwrap(), "JPEG 320x160");
    let page = fs::read_to_string(out("pages/out/index.html")).unwrap();
    assert!(page.contains("<h1") && page.contains("<p>Text.</p>"), "{page}");
    place.assert_clean();
}

/// The path of the key ring below the place, in the variable's notation.
fn gnupg_home(place: &TestDir) -> String {
    format!("GNUPGHOME={}/", place.root().display())
}
